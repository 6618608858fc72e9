//! One local spawner with one folder and one session, and what a test asks of them.

use std::{collections::BTreeMap, ffi::OsString, fs, path::PathBuf, sync::Arc, time::Duration};

use session_gateway::{
    activator::{Facts, Inspect, Slot, Spawner, Table},
    session::{
        Activity, Found, HostHeader, OriginHeader, Plan, Prefix, Reason, Service, ServiceSpec,
        Services, SessionId,
    },
    shutdown::Ending,
    spawner::local::{Command, LocalConfig, LocalSpawner, OpenError, Parts},
};
use tempfile::TempDir;
use tokio::{
    runtime::Handle,
    time::{Instant, timeout},
};

use crate::support::processes::{self, PATIENCE, eventually};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_session-gateway");
/// Ends when it is asked to, and not before.
pub(crate) const IDLE: &str = "exec sleep 1000";
/// Neither it nor its child ends when asked to.
pub(crate) const STUBBORN: &str = "trap '' TERM; sleep 1000 & echo ready; while :; do wait; done";

/// A local spawner with one folder, and one session of it.
pub(crate) struct Bench {
    pub(crate) spawner: LocalSpawner,
    pub(crate) table: Arc<Table>,
    pub(crate) facts: Facts,
    pub(crate) services: Services,
    pub(crate) id: SessionId,
    pub(crate) data: Arc<TempDir>,
    pub(crate) grace: Duration,
    _ending: Ending,
}

impl Bench {
    /// Services by name, each a shell script.
    pub(crate) fn new(scripts: &[(&str, &str)]) -> Self {
        let commands = scripts.iter().map(|&(name, script)| {
            let command = ["sh", "-c", script].map(str::to_owned).to_vec();
            let command = Command {
                command,
                ..Command::default()
            };
            (name.to_owned(), command)
        });
        Self::with(commands.collect(), Duration::from_secs(30))
    }

    pub(crate) fn with(commands: BTreeMap<String, Command>, grace: Duration) -> Self {
        let data = Arc::new(TempDir::new().unwrap());
        Self::open(&data, commands, grace).unwrap()
    }

    pub(crate) fn open(
        data: &Arc<TempDir>,
        commands: BTreeMap<String, Command>,
        grace: Duration,
    ) -> Result<Self, OpenError> {
        let spec = |name: &String| ServiceSpec {
            name: name.clone(),
            port: 1,
            path: format!("/{name}"),
            prefix: Prefix::Strip,
            host: HostHeader::Public,
            origin: OriginHeader::Pass,
            activity: Activity::Requests,
        };
        let services = Services::new(commands.keys().map(spec).collect()).unwrap();
        let ending = Ending::new();
        let mut environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        environment.push(("SESSION_GATEWAY__AUTH__SECRET".into(), "hidden".into()));
        let spawner = LocalSpawner::open(Parts {
            config: LocalConfig {
                data: data.path().join("data"),
                grace,
                services: commands,
                profiles: std::collections::BTreeMap::new(),
            },
            services: services.clone(),
            program: PROGRAM.into(),
            environment,
            drain: ending.drain(Handle::current()),
        })?;
        let (table, _) = Table::new();
        Ok(Self {
            spawner,
            facts: Facts::new(Arc::clone(&table)),
            table,
            services,
            id: SessionId::random(),
            data: Arc::clone(data),
            grace,
            _ending: ending,
        })
    }

    pub(crate) fn service(&self, name: &str) -> Service {
        self.services.named(name).unwrap()
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        let sessions = self.data.path().join("data/sessions");
        sessions.join(self.id.to_string()).join("workspace")
    }

    pub(crate) async fn start(&self) {
        let started = self.spawner.ensure(self.id, &plan(), &self.facts).await;
        started.unwrap();
    }

    /// Stops the session and proves that nothing of it is left.
    pub(crate) async fn stop(&self) -> Duration {
        let begun = Instant::now();
        let stopped = timeout(PATIENCE, self.spawner.stop(self.id, &self.facts)).await;
        stopped.expect("a stop has an end").unwrap();
        let left = processes::of(self.id);
        assert!(left.is_empty(), "left after a stop: {left:?}");
        assert!(self.slot().instance.is_none());
        assert!(begun.elapsed() < self.grace, "it took its whole grace");
        begun.elapsed()
    }

    pub(crate) async fn found(&self) -> Found {
        self.spawner.look(self.id).await.unwrap().found
    }

    pub(crate) fn slot(&self) -> Slot {
        self.table.slot(self.id)
    }

    /// Waits until the service is told to be broken, and returns why.
    pub(crate) async fn broken(&self, name: &str) -> Reason {
        let service = self.service(name);
        let reason = |slot: &Slot| Some(Reason::clone(&slot.broken(service)?.reason));
        eventually("a broken service", || reason(&self.slot()).ok_or(())).await
    }

    /// Waits until a file in the workspace has a whole line, and returns its text.
    pub(crate) async fn file(&self, name: &str) -> String {
        let path = self.workspace().join(name);
        eventually(name, || {
            let text = fs::read_to_string(&path).map_err(|error| error.to_string())?;
            if text.ends_with('\n') {
                Ok(text)
            } else {
                Err(text)
            }
        })
        .await
    }

    pub(crate) async fn tail(&self, name: &str) -> String {
        let tails = self.spawner.tail(self.id).await.unwrap();
        tails[self.service(name).index()].clone()
    }

    /// Waits until the service's last line is this.
    pub(crate) async fn said(&self, name: &str, line: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let tail = self.tail(name).await;
            if tail.lines().last() == Some(line) {
                return;
            }
            assert!(Instant::now() < deadline, "{line} was not said: {tail}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub(crate) fn plan() -> Plan {
    Plan {
        project: "project 7".to_owned(),
        user: "user-8".to_owned(),
        profile: Plan::default_profile(),
    }
}
