//! Sessions as processes of this machine: with no cluster and no configuration, what `session-gateway serve` runs.
//!
//! A session is a folder with its durable record and its workspace, and one program per service, each under a
//! [`supervisor`] of its own. Nothing runs without its gateway: the supervisors end everything when the gateway's end
//! of their pipes closes, however it dies. So after a restart there are only records: a session that should run is
//! "vanished", and started again by the next request.
//!
//! Per session one async lock, which lasts from the first to the last step of a start or a stop, puts those in order.

use std::{
    collections::HashMap,
    ffi::OsString,
    future::Future,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::future::{BoxFuture, join_all};
use jiff::Timestamp;
use tracing::warn;

pub use config::{Command, LocalConfig};
pub use folder::OpenError;

use crate::{
    activator::{Facts, Named, Seen, SpawnError, Spawner},
    session::{Plan, Reason, Services, SessionId, Stage},
    shutdown::Drain,
};
use folder::{DataFolder, SessionFolder};
use ports::Ports;
use record::{Record, RecordError};
use session::{Outputs, Running, Start};
use supervisor::MARGIN;

mod config;
mod environment;
mod folder;
mod inspect;
mod outcome;
mod output;
mod ports;
mod processes;
mod record;
mod service;
mod session;
pub mod supervisor;

/// What a local spawner is made of.
pub struct Parts {
    /// Section `local`.
    pub config: LocalConfig,
    /// The services of every session.
    pub services: Services,
    /// This program: it has the commands `supervise` and `demo`.
    pub program: PathBuf,
    /// The environment of this process, which services inherit but for the gateway's own settings.
    pub environment: Vec<(OsString, OsString)>,
    /// The tasks of the control runtime.
    pub drain: Drain,
}

/// Runs sessions as processes of this machine. Cheap to clone.
#[derive(Clone)]
pub struct LocalSpawner {
    host: Arc<Host>,
}

/// What all sessions share.
struct Host {
    folder: DataFolder,
    config: LocalConfig,
    services: Services,
    program: PathBuf,
    environment: Vec<(OsString, OsString)>,
    ports: Ports,
    drain: Drain,
    /// Those that run, or that somebody is at.
    sessions: Mutex<HashMap<SessionId, Arc<Session>>>,
    ending: AtomicBool,
}

/// What this gateway has of one session.
#[derive(Default)]
struct Session {
    /// Locked by whoever starts, stops or stamps it, from the first to the last step.
    running: tokio::sync::Mutex<Option<Running>>,
    outputs: Outputs,
}

impl LocalSpawner {
    /// Makes the folder of all sessions if it is missing, and takes it for this gateway alone. Blocks for a moment.
    ///
    /// # Errors
    /// If the folder cannot be used, or another gateway has it.
    pub fn open(parts: Parts) -> Result<Self, OpenError> {
        let mut environment = parts.environment;
        environment.retain(|(name, _)| environment::is_inherited(name));
        let host = Host {
            folder: DataFolder::open(&parts.config.data)?,
            config: parts.config,
            services: parts.services,
            program: parts.program,
            environment,
            ports: Ports::of_this_machine(),
            drain: parts.drain,
            sessions: Mutex::default(),
            ending: AtomicBool::new(false),
        };
        Ok(Self {
            host: Arc::new(host),
        })
    }

    /// The folder of all sessions.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.host.folder.path()
    }

    async fn end_all(&self) {
        let host = Arc::clone(&self.host);
        // From here on whoever gets a session's lock sees it.
        host.ending.store(true, Ordering::SeqCst);
        let sessions: Vec<_> = host.lock_sessions().drain().collect();
        let ends = sessions.into_iter().map(|(id, session)| async move {
            let Some(running) = session.running.lock().await.take() else {
                return;
            };
            if let Err(error) = running.end(id).await {
                warn!(session = %id, detail = error.reason.detail(), "session not ended");
            }
        });
        join_all(ends).await;
    }

    /// Runs `work` to its end, whether or not the caller waits for it, with the session to itself.
    fn alone<T, W, F>(&self, id: SessionId, work: W) -> BoxFuture<'static, Result<T, SpawnError>>
    where
        T: Send + 'static,
        W: FnOnce(Arc<Host>, Arc<Session>) -> F + Send + 'static,
        F: Future<Output = Result<T, SpawnError>> + Send,
    {
        let host = Arc::clone(&self.host);
        Box::pin(async move {
            let drain = host.drain.clone();
            let task = drain.spawn("session", async move {
                let session = host.session(id);
                let outcome = work(Arc::clone(&host), session).await;
                host.forget_idle(id);
                outcome
            });
            task.await.unwrap_or_else(|_| Err(internal()))
        })
    }
}

impl Spawner for LocalSpawner {
    /// Nothing outlives a gateway, so there is nothing to find; all that happens later is reported by who does it.
    fn watch(&self, facts: Facts) -> BoxFuture<'_, SpawnError> {
        facts.synced();
        Box::pin(std::future::pending())
    }

    fn stages(&self) -> &'static [Stage] {
        &[Stage::Queue, Stage::Disk, Stage::Process, Stage::Port]
    }

    fn look(&self, id: SessionId) -> BoxFuture<'_, Result<Seen, SpawnError>> {
        Box::pin(async move {
            let record = self.host.on_disk(id, Record::read).await?;
            Ok(Record::seen(record.as_ref()))
        })
    }

    fn ensure<'a>(
        &'a self,
        id: SessionId,
        plan: &'a Plan,
        facts: &'a Facts,
    ) -> BoxFuture<'a, Result<(), SpawnError>> {
        if self.host.config.by(&plan.profile).is_none() {
            let name = plan.profile.as_str().into();
            let error = SpawnError::new(Reason::NoProfile { name });
            return Box::pin(std::future::ready(Err(error)));
        }
        let (plan, facts) = (plan.clone(), facts.clone());
        self.alone(id, move |host, session| async move {
            let mut running = session.running.lock().await;
            if host.ending.load(Ordering::SeqCst) {
                return Err(SpawnError::new(Reason::Unavailable {
                    error: "this gateway is ending".into(),
                }));
            }
            facts.stage(id, Stage::Disk);
            let recorded = plan.clone();
            let record = move |folder: &SessionFolder| Record::run(folder, &recorded);
            host.on_disk(id, record).await?;
            facts.stage(id, Stage::Process);
            let start = Start {
                host: &host,
                id,
                plan: &plan,
                facts: &facts,
                outputs: &session.outputs,
            };
            match running.as_mut() {
                Some(running) => start.mend(running).await,
                None => {
                    *running = Some(start.run()?);
                    Ok(())
                }
            }
        })
    }

    fn stamp(&self, id: SessionId, used: Timestamp) -> BoxFuture<'_, Result<(), SpawnError>> {
        self.alone(id, move |host, session| async move {
            let _alone = session.running.lock().await;
            let stamp = move |folder: &SessionFolder| Record::change(folder, |it| it.stamp(used));
            host.on_disk(id, stamp).await
        })
    }

    fn stop<'a>(
        &'a self,
        id: SessionId,
        _facts: &'a Facts,
    ) -> BoxFuture<'a, Result<(), SpawnError>> {
        self.alone(id, move |host, session| async move {
            let mut running = session.running.lock().await;
            host.stop(id, &mut running).await
        })
    }

    /// Only this gateway has anything to do with the session, so nobody else is to be told.
    fn announce<'a>(
        &'a self,
        Named { id, uid }: Named,
        stop: Timestamp,
        _: &'a Facts,
    ) -> BoxFuture<'a, Result<(), SpawnError>> {
        self.alone(id, move |_, session| async move {
            let mut running = session.running.lock().await;
            if let Some(running) = running.as_mut().filter(|one| one.uid == uid) {
                running.announce(id, Some(stop));
            }
            Ok(())
        })
    }

    fn keep<'a>(
        &'a self,
        Named { id, uid }: Named,
        used: Timestamp,
        _: &'a Facts,
    ) -> BoxFuture<'a, Result<bool, SpawnError>> {
        self.alone(id, move |host, session| async move {
            let mut running = session.running.lock().await;
            let Some(running) = running.as_mut().filter(|one| one.uid == uid) else {
                return Ok(false);
            };
            running.announce(id, None);
            let stamp = move |folder: &SessionFolder| Record::change(folder, |it| it.stamp(used));
            host.on_disk(id, stamp).await.map(|()| true)
        })
    }

    fn expire<'a>(
        &'a self,
        Named { id, uid }: Named,
        stop: Option<Timestamp>,
        _: &'a Facts,
    ) -> BoxFuture<'a, Result<bool, SpawnError>> {
        self.alone(id, move |host, session| async move {
            let mut running = session.running.lock().await;
            let is_due = |one: &Running| one.uid == uid && (stop.is_none() || one.stop == stop);
            let is_so = running.as_ref().is_some_and(is_due);
            if is_so {
                host.stop(id, &mut running).await?;
            }
            Ok(is_so)
        })
    }

    fn delete<'a>(
        &'a self,
        id: SessionId,
        unused: Option<Timestamp>,
        _: &'a Facts,
    ) -> BoxFuture<'a, Result<bool, SpawnError>> {
        self.alone(id, move |host, session| async move {
            let mut running = session.running.lock().await;
            if let Some(since) = unused {
                let is_left = move |folder: &SessionFolder| {
                    let record = Record::read(folder)?;
                    Ok(!folder.is_kept() && record.is_some_and(|record| record.is_left(since)))
                };
                if running.is_some() || !host.on_disk(id, is_left).await? {
                    return Ok(false);
                }
            }
            // Also of what an earlier gateway left, and of what has a record that cannot be read.
            if let Some(running) = running.take() {
                running.end(id).await?;
            }
            host.end_left(id).await?;
            let remove = |folder: &SessionFolder| {
                let removed = folder.remove();
                removed.map_err(|error| RecordError::Storage(folder.path().to_owned(), error))
            };
            host.on_disk(id, remove).await
        })
    }

    /// Ends all processes of all sessions, at once, and starts none any more. Waits at most `local.grace` and some
    /// seconds.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.end_all())
    }
}

impl Host {
    /// Records a session as stopped and ends what runs of it.
    async fn stop(&self, id: SessionId, running: &mut Option<Running>) -> Result<(), SpawnError> {
        let stop = |folder: &SessionFolder| Record::change(folder, Record::stop);
        let recorded = self.on_disk(id, stop).await;
        // A full disk is no reason to let it run.
        let ended = match running.take() {
            Some(running) => running.end(id).await,
            None => Ok(()),
        };
        recorded.and(ended).and(self.end_left(id).await)
    }

    fn session(&self, id: SessionId) -> Arc<Session> {
        Arc::clone(self.lock_sessions().entry(id).or_default())
    }

    /// Forgets a session that does not run and that nobody is at.
    fn forget_idle(&self, id: SessionId) {
        let mut sessions = self.lock_sessions();
        // Whoever else has it got it from the map, whose lock is held here.
        let is_idle = sessions.get(&id).is_some_and(|session| {
            Arc::strong_count(session) == 1
                && session.running.try_lock().is_ok_and(|it| it.is_none())
        });
        if is_idle {
            sessions.remove(&id);
        }
    }

    fn lock_sessions(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends what an earlier gateway, one that was killed, left of a session: its supervisors may still be at it.
    async fn end_left(&self, id: SessionId) -> Result<(), SpawnError> {
        let folder = self.folder.session(id);
        let locks = self
            .services
            .iter()
            .map(|(_, spec)| folder.lock(&spec.name));
        let ends = locks.map(|lock| async move {
            let left = processes::end_left(&lock, self.config.grace + MARGIN).await;
            left.map_err(|error| RecordError::Storage(lock, error))
        });
        let mut left = Vec::new();
        for ended in join_all(ends).await {
            left.extend(ended?);
        }
        session::none_of(&left)
    }

    /// Reads or writes in the session's folder, off the runtime's threads.
    async fn on_disk<T: Send + 'static>(
        &self,
        id: SessionId,
        work: impl FnOnce(&SessionFolder) -> Result<T, RecordError> + Send + 'static,
    ) -> Result<T, SpawnError> {
        let folder = self.folder.session(id);
        let done = self.drain.spawn_blocking(move || work(&folder)).await;
        Ok(done.map_err(|_| internal())??)
    }
}

fn internal() -> SpawnError {
    SpawnError::new(Reason::Internal)
}
