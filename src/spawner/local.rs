//! Sessions as process groups of this machine: one for each service, below a supervisor of its own.
//!
//! What a session owns, in the order it is made: its folder with the workspace, its record, a port for each service,
//! a supervisor for each service. Stopping it keeps folder, workspace and record. Nothing runs longer than this
//! process: a session that should run is *vanished* for the next gateway, and started again by the next request.

mod config;
mod inspect;
mod launch;
mod output;
mod ports;
mod process;
mod record;

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex as Shared, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use jiff::Timestamp;
use tokio::sync::Mutex;
use uuid::Uuid;

pub use config::{Command, LocalConfig};
pub use record::OpenError;

use crate::{
    activator::{Facts, InstanceUid, Seen, SpawnError, Spawner},
    session::{Plan, Reason, Service, Services, SessionId, Stage},
    shutdown::Drain,
};
use inspect::seen;
use launch::Launch;
use ports::Ports;
use process::Process;
use record::{Folder, Record};

/// Runs sessions on this machine. One per data folder.
pub struct LocalSpawner {
    config: LocalConfig,
    services: Services,
    /// This program, which is also the supervisor and the built-in services.
    program: PathBuf,
    folder: Arc<Folder>,
    ports: Ports,
    sessions: Shared<HashMap<SessionId, Arc<Mutex<Session>>>>,
    closed: AtomicBool,
    drain: Drain,
}

/// A session's processes; none while it does not run. Starts and stops of one session take turns on it.
#[derive(Debug, Default)]
struct Session(Option<Run>);

/// One incarnation of a session.
#[derive(Debug)]
struct Run {
    uid: InstanceUid,
    /// By [`Service::index`].
    processes: Vec<Process>,
}

impl LocalSpawner {
    /// Takes the data folder for this process. `program` is the path of this program.
    ///
    /// # Errors
    /// If another gateway uses the folder, or it cannot be used.
    pub fn open(
        config: LocalConfig,
        services: Services,
        program: PathBuf,
        drain: Drain,
    ) -> Result<Arc<Self>, OpenError> {
        let folder = Arc::new(Folder::open(&config.data)?);
        Ok(Arc::new(Self {
            config,
            services,
            program,
            folder,
            ports: Ports::new(),
            sessions: Shared::default(),
            closed: AtomicBool::new(false),
            drain,
        }))
    }

    /// The folder of all sessions.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.root()
    }

    fn session(&self, id: SessionId) -> Arc<Mutex<Session>> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(sessions.entry(id).or_default())
    }

    /// Forgets a session that does not run and that nobody else is at.
    fn forget(&self, id: SessionId) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions
            .get(&id)
            .is_some_and(|session| Arc::strong_count(session) == 1)
        {
            sessions.remove(&id);
        }
    }

    /// Disk work off the runtime's threads.
    async fn disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> io::Result<T> + Send + 'static,
    ) -> Result<T, SpawnError> {
        let folder = Arc::clone(&self.folder);
        let done = self.drain.spawn_blocking(move || work(&folder)).await;
        let done = done.map_err(|_| SpawnError::new(Reason::Internal))?;
        done.map_err(|error| {
            SpawnError::because(
                Reason::Storage {
                    error: error.to_string().into(),
                },
                error,
            )
        })
    }

    /// Puts on record that the session should run.
    async fn should_run(&self, id: SessionId, plan: &Plan) -> Result<(), SpawnError> {
        let plan = plan.clone();
        self.disk(move |folder| {
            let before = folder.read(id)?;
            let record = match &before {
                Some(record) => Record {
                    run: true,
                    ..record.clone()
                },
                None => Record::new(plan),
            };
            if before.as_ref() == Some(&record) && folder.workspace(id).is_dir() {
                return Ok(());
            }
            folder.write(id, &record)
        })
        .await
    }

    fn start(
        &self,
        launch: &Launch,
        of: (SessionId, InstanceUid, Service),
        facts: &Facts,
    ) -> Result<Process, SpawnError> {
        let (id, uid, service) = of;
        let facts = facts.clone();
        let started = Process::start(launch, &self.drain, move |reason| {
            facts.broke(id, uid, service, reason)
        });
        started.map_err(|error| {
            let said = format!("{}: {error}", launch.program.display());
            SpawnError::because(Reason::Unavailable { error: said.into() }, error)
        })
    }

    /// Starts all services of a session that does not run.
    fn run(&self, id: SessionId, plan: &Plan, facts: &Facts) -> Result<Run, SpawnError> {
        let unavailable = |error: io::Error| {
            SpawnError::because(
                Reason::Unavailable {
                    error: error.to_string().into(),
                },
                error,
            )
        };
        let ports = self
            .ports
            .take(self.services.count())
            .map_err(unavailable)?;
        let uid = InstanceUid(Uuid::new_v4());
        // First, or the end of a short service would be news of an instance that nobody has seen.
        let address = |port: &u16| SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
        facts.saw(id, uid, ports.iter().map(address).collect());
        let mut processes = Vec::with_capacity(ports.len());
        for (service, _) in self.services.iter() {
            match self.start(
                &self.launch(id, plan, service, &ports),
                (id, uid, service),
                facts,
            ) {
                Ok(process) => processes.push(process),
                Err(error) => {
                    // Those that were started end with the processes dropped here.
                    facts.gone(id, uid);
                    self.ports.give_back(ports);
                    return Err(error);
                }
            }
        }
        Ok(Run { uid, processes })
    }

    /// Starts again what has ended of a session that runs, at the same ports.
    fn mend(
        &self,
        id: SessionId,
        plan: &Plan,
        run: &mut Run,
        facts: &Facts,
    ) -> Result<(), SpawnError> {
        let ports: Vec<u16> = run
            .processes
            .iter()
            .map(|process| process.address.port())
            .collect();
        for (service, _) in self.services.iter() {
            let process = &mut run.processes[service.index()];
            if process.runs() {
                continue;
            }
            facts.mended(id, run.uid, service);
            *process = self.start(
                &self.launch(id, plan, service, &ports),
                (id, run.uid, service),
                facts,
            )?;
        }
        Ok(())
    }

    /// Ends all processes of a session; all at once, since each may take its grace.
    async fn end(
        &self,
        id: SessionId,
        session: &mut Session,
        facts: Option<&Facts>,
    ) -> io::Result<()> {
        let Some(run) = &mut session.0 else {
            return Ok(());
        };
        if let Some(facts) = facts {
            facts.ending(id, run.uid);
        }
        run.processes.iter_mut().for_each(Process::stop);
        let ended = join_all(run.processes.iter_mut().map(Process::ended)).await;
        ended.into_iter().collect::<io::Result<()>>()?;
        if let Some(facts) = facts {
            facts.gone(id, run.uid);
        }
        self.ports
            .give_back(run.processes.iter().map(|process| process.address.port()));
        session.0 = None;
        Ok(())
    }
}

impl Spawner for LocalSpawner {
    /// Nothing survives a gateway, so there is nothing to report; all later facts come from starts and stops.
    fn watch(&self, facts: Facts) -> BoxFuture<'_, SpawnError> {
        facts.synced();
        std::future::pending().boxed()
    }

    fn look(&self, id: SessionId) -> BoxFuture<'_, Result<Seen, SpawnError>> {
        async move {
            Ok(seen(
                self.disk(move |folder| folder.read(id)).await?.as_ref(),
            ))
        }
        .boxed()
    }

    fn ensure<'a>(
        &'a self,
        id: SessionId,
        plan: &'a Plan,
        facts: &'a Facts,
    ) -> BoxFuture<'a, Result<(), SpawnError>> {
        async move {
            let session = self.session(id);
            let mut session = session.lock().await;
            if self.closed.load(Ordering::Acquire) {
                return Err(SpawnError::new(Reason::Unavailable {
                    error: "the gateway is ending".into(),
                }));
            }
            facts.stage(id, Stage::Disk);
            self.should_run(id, plan).await?;
            facts.stage(id, Stage::Process);
            match &mut session.0 {
                Some(run) => self.mend(id, plan, run, facts),
                none => {
                    *none = Some(self.run(id, plan, facts)?);
                    Ok(())
                }
            }
        }
        .boxed()
    }

    fn stamp(&self, id: SessionId, used: Timestamp) -> BoxFuture<'_, Result<(), SpawnError>> {
        async move {
            let session = self.session(id);
            let _turn = session.lock().await;
            self.disk(move |folder| match folder.read(id)? {
                Some(record) => folder.write(
                    id,
                    &Record {
                        used: Some(used),
                        ..record
                    },
                ),
                None => Ok(()),
            })
            .await
        }
        .boxed()
    }

    fn stop<'a>(
        &'a self,
        id: SessionId,
        facts: &'a Facts,
    ) -> BoxFuture<'a, Result<(), SpawnError>> {
        async move {
            let session = self.session(id);
            let mut turn = session.lock().await;
            let stopped = self.disk(move |folder| match folder.read(id)? {
                Some(record) if record.run => folder.write(
                    id,
                    &Record {
                        run: false,
                        ..record
                    },
                ),
                Some(_) | None => Ok(()),
            });
            stopped.await?;
            self.end(id, &mut turn, Some(facts))
                .await
                .map_err(|error| {
                    SpawnError::because(
                        Reason::Unavailable {
                            error: error.to_string().into(),
                        },
                        error,
                    )
                })?;
            drop(turn);
            drop(session);
            self.forget(id);
            Ok(())
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            self.closed.store(true, Ordering::Release);
            let sessions = self
                .sessions
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            let ends = sessions.into_iter().map(|(id, session)| async move {
                let mut session = session.lock().await;
                if let Err(error) = self.end(id, &mut session, None).await {
                    tracing::error!(session = %id, %error, "processes are left");
                }
            });
            join_all(ends).await;
        }
        .boxed()
    }
}
