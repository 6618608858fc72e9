//! One running session: its instance, its ports, and the programs of its services.

use std::{
    ffi::OsString,
    io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use jiff::Timestamp;
use rustix::process::Pid;
use tokio::{sync::oneshot, task::JoinHandle};
use tracing::{info, warn};
use uuid::Uuid;

use super::{
    Host, environment,
    output::Output,
    ports::Port,
    service::{Ended, Launch, Supervised},
};
use crate::{
    activator::{Facts, InstanceUid, Observed, SpawnError},
    session::{Plan, Reason, Service, SessionId, clock},
};

/// The output of each service of a session, by [`Service::index`]; read while the session is busy starting or ending.
#[derive(Default)]
pub(super) struct Outputs(Mutex<Vec<Arc<Output>>>);

/// What a session's programs are started from.
pub(super) struct Start<'a> {
    pub(super) host: &'a Host,
    pub(super) id: SessionId,
    pub(super) plan: &'a Plan,
    pub(super) facts: &'a Facts,
    pub(super) outputs: &'a Outputs,
}

/// The session's instance. Dropping it ends everything, without anybody who waits for that.
pub(super) struct Running {
    pub(super) uid: InstanceUid,
    /// When it will be stopped, if that is announced.
    pub(super) stop: Option<Timestamp>,
    facts: Facts,
    /// By [`Service::index`], like the programs.
    ports: Vec<Port>,
    programs: Vec<Program>,
}

/// A service's program, and the task that follows it to its end.
struct Program {
    end: oneshot::Sender<()>,
    /// Set before its end is told.
    ended: Arc<AtomicBool>,
    /// Returns the processes that could not be ended. `None` once it was waited for: it cannot be a second time.
    task: Option<JoinHandle<Vec<Pid>>>,
}

impl Start<'_> {
    /// Starts all services of a session that does not run.
    ///
    /// # Errors
    /// If there are no free ports, or this machine starts no process. What was started is ended.
    pub(super) fn run(&self) -> Result<Running, SpawnError> {
        let host = self.host;
        let ports: io::Result<Vec<Port>> =
            host.services.iter().map(|_| host.ports.free()).collect();
        let ports = ports.map_err(unavailable)?;
        let supervised: io::Result<Vec<Supervised>> = host
            .services
            .iter()
            .map(|(service, _)| self.launch(service, &ports).start())
            .collect();
        let supervised = supervised.map_err(unavailable)?;
        let uid = InstanceUid(Uuid::new_v4());
        let addresses = ports.iter().map(Port::address).collect();
        // Before anybody follows the programs: what breaks in an instance nobody knows of is not news.
        let observed = Observed {
            uid,
            addresses,
            profile: host.config.shared_name(&self.plan.profile),
            made: Some(clock::now()),
        };
        self.facts.saw(self.id, observed);
        let programs = host.services.iter().zip(supervised);
        let programs = programs
            .map(|((service, _), supervised)| self.follow(uid, service, supervised))
            .collect();
        Ok(Running {
            uid,
            stop: None,
            facts: self.facts.clone(),
            ports,
            programs,
        })
    }

    /// Starts again, at their ports, the services of a running session whose programs have ended.
    ///
    /// # Errors
    /// If this machine starts no process.
    pub(super) async fn mend(&self, running: &mut Running) -> Result<(), SpawnError> {
        for (service, spec) in self.host.services.iter() {
            let program = &mut running.programs[service.index()];
            if program.runs() {
                continue;
            }
            // Its end has to be told before its successor is, or the successor counts as broken.
            if let Some(task) = program.task.take() {
                let _ = task.await;
            }
            let supervised = self.launch(service, &running.ports).start();
            let supervised = supervised.map_err(unavailable)?;
            info!(session = %self.id, service = spec.name, "service started again");
            self.facts.mended(self.id, running.uid, service);
            *program = self.follow(running.uid, service, supervised);
        }
        Ok(())
    }

    fn launch(&self, service: Service, ports: &[Port]) -> Launch {
        let host = self.host;
        let folder = host.folder.session(self.id);
        let workspace = folder.workspace();
        let name = &host.services.spec(service).name;
        let lock = folder.lock(name);
        let commands = host.config.by(&self.plan.profile);
        let command = commands.and_then(|commands| commands.get(name));
        let ports: Vec<u16> = ports.iter().map(Port::number).collect();
        let session = environment::Session {
            id: self.id,
            plan: self.plan,
            services: &host.services,
            ports: &ports,
            workspace: &workspace,
        };
        let own = command.iter().flat_map(|command| &command.env);
        let own = own.map(|(name, value)| (name.into(), value.into()));
        let own = environment::of(session, service, own, &lock);
        Launch {
            supervisor: host.program.clone(),
            grace: host.config.grace,
            folder: match command.and_then(|command| command.cwd.as_deref()) {
                Some(cwd) => workspace.join(cwd),
                None => workspace.clone(),
            },
            command: match command {
                Some(command) if !command.command.is_empty() => {
                    command.command.iter().map(OsString::from).collect()
                }
                _ => demo(&host.program, name),
            },
            environment: host.environment.iter().cloned().chain(own).collect(),
            lock,
        }
    }

    fn follow(&self, uid: InstanceUid, service: Service, supervised: Supervised) -> Program {
        let (end, asked) = oneshot::channel();
        let output = self.outputs.renew(service);
        let (id, facts) = (self.id, self.facts.clone());
        let name = self.host.services.spec(service).name.clone();
        let ended = Arc::new(AtomicBool::new(false));
        let has_ended = Arc::clone(&ended);
        let task = self.host.drain.spawn("service", async move {
            match supervised.run(asked, &output).await {
                Ended::Asked(left) => left,
                Ended::ByItself(reason) => {
                    warn!(session = %id, service = name, %reason, "service ended");
                    has_ended.store(true, Ordering::Release);
                    facts.broke(id, uid, service, reason);
                    Vec::new()
                }
            }
        });
        Program {
            end,
            ended,
            task: Some(task),
        }
    }
}

impl Running {
    /// Says when it will be stopped, or that it will not be any more.
    pub(super) fn announce(&mut self, id: SessionId, stop: Option<Timestamp>) {
        self.stop = stop;
        self.facts.announced(id, self.uid, stop);
    }

    /// Ends all programs at once and waits for them, at most `grace` and some seconds.
    ///
    /// # Errors
    /// If something of them does not end though it was killed.
    pub(super) async fn end(self, id: SessionId) -> Result<(), SpawnError> {
        self.facts.ending(id, self.uid);
        let (ends, tasks): (Vec<_>, Vec<_>) = self
            .programs
            .into_iter()
            .map(|it| (it.end, it.task))
            .unzip();
        drop(ends);
        let mut left = Vec::new();
        for task in tasks.into_iter().flatten() {
            // A task that panicked has dropped its pipe: the supervisor ends its service all the same.
            left.extend(task.await.unwrap_or_default());
        }
        self.facts.gone(id, self.uid);
        none_of(&left)
    }
}

/// # Errors
/// If there are processes that did not end.
pub(super) fn none_of(left: &[Pid]) -> Result<(), SpawnError> {
    if left.is_empty() {
        return Ok(());
    }
    let left: Vec<String> = left.iter().map(ToString::to_string).collect();
    Err(SpawnError::new(Reason::Unavailable {
        error: format!("processes {} do not end", left.join(", ")).into(),
    }))
}

impl Program {
    fn runs(&self) -> bool {
        let is_followed = self.task.as_ref().is_some_and(|task| !task.is_finished());
        is_followed && !self.ended.load(Ordering::Acquire)
    }
}

impl Outputs {
    /// The last lines of each service, in order; empty where none was started.
    pub(super) fn tails(&self, count: usize) -> Vec<String> {
        let outputs = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut tails: Vec<String> = outputs.iter().map(|output| output.tail()).collect();
        tails.resize_with(count, String::new);
        tails
    }

    /// An empty output in place of the service's earlier one.
    fn renew(&self, service: Service) -> Arc<Output> {
        let mut outputs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if outputs.len() <= service.index() {
            outputs.resize_with(service.index() + 1, Arc::default);
        }
        let output = Arc::<Output>::default();
        outputs[service.index()] = Arc::clone(&output);
        output
    }
}

fn demo(program: &Path, name: &str) -> Vec<OsString> {
    vec![program.into(), "demo".into(), name.into()]
}

fn unavailable(error: io::Error) -> SpawnError {
    let reason = Reason::Unavailable {
        error: error.to_string().into(),
    };
    SpawnError::because(reason, error)
}
