//! A whole gateway in this process, with sessions whose records, starts and services the test holds in hand.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Request};
use http_body_util::Full;
use jiff::Timestamp;
use session_gateway::{
    activator::{
        Facts, Inspect, InstanceUid, Listed, Named, Observed, Seen, Slot, SpawnError, Spawner,
    },
    app::{App, Control, Spawning},
    config::Config,
    session::{Found, Plan, Reason, Service, Services, SessionId, Stage},
};
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;

use super::{Reply, client, until};

/// A gateway that serves, until it is dropped.
pub struct Gateway {
    app: Option<App>,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub sessions: Arc<Sessions>,
    services: Services,
}

/// Runs sessions as told: a start ends when the gate is open, at the services given.
pub struct Sessions {
    services: [SocketAddr; 3],
    records: Mutex<HashMap<SessionId, Found>>,
    pub protected: OnceLock<SessionId>,
    facts: OnceLock<Facts>,
    gate: watch::Sender<bool>,
    permits: Semaphore,
    fails: AtomicBool,
    /// How often a record was read.
    pub looks: AtomicUsize,
    /// The starts, in order.
    order: Mutex<Vec<SessionId>>,
    /// The instance of each session that runs.
    running: Mutex<HashMap<SessionId, InstanceUid>>,
}

impl Gateway {
    /// A gateway whose sessions have all their services at `service`, with these settings (`KEY=VALUE`).
    pub fn with(service: SocketAddr, settings: &[&str]) -> Self {
        let sessions = Arc::new(Sessions {
            services: [service; 3],
            records: Mutex::default(),
            protected: OnceLock::new(),
            facts: OnceLock::new(),
            gate: watch::Sender::new(true),
            permits: Semaphore::new(0),
            fails: AtomicBool::new(false),
            looks: AtomicUsize::new(0),
            order: Mutex::default(),
            running: Mutex::default(),
        });
        let ports = [
            "listen=127.0.0.1:0",
            "admin.listen=127.0.0.1:0",
            "shutdown.grace=1s",
        ];
        let config = Config::with(&[&ports, settings].concat()).expect("the settings are right");
        let spawning = Spawning {
            spawner: Arc::clone(&sessions) as _,
            inspect: Arc::clone(&sessions) as _,
        };
        let app =
            App::bind(&config, Control::start().expect("threads"), spawning).expect("free ports");
        let (address, admin) = (app.address(), app.admin_address());
        Self {
            address,
            admin,
            app: Some(app),
            sessions,
            services: config.services,
        }
    }

    /// The service of this name.
    pub fn service(&self, name: &str) -> Service {
        self.services.named(name).expect("it is configured")
    }

    /// What is known of a session.
    pub fn slot(&self, id: SessionId) -> Slot {
        self.app
            .as_ref()
            .expect("it serves")
            .activator()
            .table()
            .slot(id)
    }

    /// Waits until so many requests are held for a session.
    pub async fn until_held(&self, id: SessionId, count: usize) {
        until(&format!("{count} requests held"), || {
            self.slot(id).waiters.held.load(Ordering::Relaxed) == count
        })
        .await;
    }

    /// Waits until the start of a session is at this position in the queue.
    pub async fn until_at(&self, id: SessionId, position: usize) {
        until(&format!("it is at position {position}"), || {
            self.slot(id).start.and_then(|start| start.position) == Some(position)
        })
        .await;
    }

    /// Waits until the session's services accept.
    pub async fn until_running(&self, id: SessionId) {
        let open = |slot: Slot| {
            slot.instance.is_some_and(|one| {
                self.services
                    .iter()
                    .all(|(service, _)| one.is_open(service))
            })
        };
        until("all services open", || open(self.slot(id))).await;
    }

    /// A session that runs.
    pub async fn runs(&self) -> SessionId {
        let id = SessionId::random();
        until("it watches", || self.sessions.facts.get().is_some()).await;
        self.sessions.run(id);
        self.until_running(id).await;
        id
    }

    /// Sends a request and reads its answer.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        client::send(
            self.address,
            self.request(method, path, headers, Bytes::new()),
        )
        .await
    }

    /// A request with the gateway's own address as `Host`, unless the headers have one.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::builder()
            .method(Method::try_from(method).expect("a method"))
            .uri(path);
        if headers.iter().all(|(name, _)| *name != "host") {
            request = request.header("host", self.address.to_string());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Full::new(body)).expect("a request")
    }

    /// Ends the gateway in order and returns when it has ended.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(app) = self.app.take() else { return };
        // Runtimes cannot be ended from inside another one.
        let ended = std::thread::spawn(move || app.stop(std::future::pending())).join();
        assert!(
            ended.is_ok() || std::thread::panicking(),
            "the gateway ends in order"
        );
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.end();
    }
}

impl Sessions {
    /// How many starts there were.
    pub fn starts(&self) -> usize {
        self.order.lock().unwrap().len()
    }

    /// Whose starts there were, in order.
    pub fn order(&self) -> Vec<SessionId> {
        self.order.lock().unwrap().clone()
    }

    /// What is on record of a session.
    pub fn found(&self, id: SessionId) -> Found {
        let records = self.records.lock().unwrap();
        records.get(&id).copied().unwrap_or_default()
    }

    /// Ends what runs of a session, whoever started it.
    pub fn end(&self, id: SessionId) {
        if let Some(uid) = self.running.lock().unwrap().remove(&id) {
            self.facts().ending(id, uid);
            self.facts().gone(id, uid);
        }
    }

    /// Lets starts end, or keeps them waiting from now on.
    pub fn gate(&self, open: bool) {
        self.gate.send_replace(open);
    }

    /// Lets one start end that is kept waiting.
    pub fn release(&self) {
        self.permits.add_permits(1);
    }

    /// From now on starts fail, or do not.
    pub fn fail(&self, fail: bool) {
        self.fails.store(fail, Ordering::Relaxed);
    }

    /// Puts a session on record.
    pub fn record(&self, id: SessionId, found: Found) {
        self.records.lock().unwrap().insert(id, found);
    }

    /// The word of the watch.
    pub fn facts(&self) -> &Facts {
        self.facts.get().expect("the gateway watches")
    }

    fn run(&self, id: SessionId) -> InstanceUid {
        let uid = InstanceUid(Uuid::new_v4());
        self.running.lock().unwrap().insert(id, uid);
        let observed = Observed::new(uid, self.services.to_vec());
        self.facts().saw(id, observed);
        uid
    }
}

impl Spawner for Sessions {
    fn watch(&self, facts: Facts) -> BoxFuture<'_, SpawnError> {
        facts.synced();
        let _ = self.facts.set(facts);
        Box::pin(std::future::pending())
    }

    fn stages(&self) -> &'static [Stage] {
        &[Stage::Queue, Stage::Disk, Stage::Process, Stage::Port]
    }

    fn look(&self, id: SessionId) -> BoxFuture<'_, Result<Seen, SpawnError>> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let found = self.found(id);
        Box::pin(async move { Ok(Seen { found, used: None }) })
    }

    fn ensure<'a>(
        &'a self,
        id: SessionId,
        _: &'a Plan,
        _: &'a Facts,
    ) -> BoxFuture<'a, Result<(), SpawnError>> {
        self.order.lock().unwrap().push(id);
        Box::pin(async move {
            let mut gate = self.gate.subscribe();
            tokio::select! {
                _ = gate.wait_for(|open| *open) => {}
                permit = self.permits.acquire() => permit.expect("it is never closed").forget(),
            }
            if self.fails.load(Ordering::Relaxed) {
                return Err(SpawnError::new(Reason::Storage {
                    error: "no space left on device".into(),
                }));
            }
            self.record(id, Found::Vanished);
            self.run(id);
            Ok(())
        })
    }

    fn stamp(&self, _: SessionId, _: Timestamp) -> BoxFuture<'_, Result<(), SpawnError>> {
        Box::pin(async { Ok(()) })
    }

    fn stop<'a>(&'a self, id: SessionId, _: &'a Facts) -> BoxFuture<'a, Result<(), SpawnError>> {
        Box::pin(async move {
            self.record(id, Found::Stopped);
            self.end(id);
            Ok(())
        })
    }

    fn announce<'a>(
        &'a self,
        Named { id, uid }: Named,
        stop: Timestamp,
        facts: &'a Facts,
    ) -> BoxFuture<'a, Result<(), SpawnError>> {
        facts.announced(id, uid, Some(stop));
        Box::pin(async { Ok(()) })
    }

    fn keep<'a>(
        &'a self,
        Named { id, uid }: Named,
        _: Timestamp,
        facts: &'a Facts,
    ) -> BoxFuture<'a, Result<bool, SpawnError>> {
        facts.announced(id, uid, None);
        Box::pin(async { Ok(true) })
    }

    fn expire<'a>(
        &'a self,
        Named { id, uid }: Named,
        _: Option<Timestamp>,
        facts: &'a Facts,
    ) -> BoxFuture<'a, Result<bool, SpawnError>> {
        self.record(id, Found::Stopped);
        facts.gone(id, uid);
        Box::pin(async { Ok(true) })
    }

    fn delete<'a>(
        &'a self,
        id: SessionId,
        _: Option<Timestamp>,
        _: &'a Facts,
    ) -> BoxFuture<'a, Result<bool, SpawnError>> {
        let removed = self.records.lock().unwrap().remove(&id).is_some();
        Box::pin(async move {
            self.end(id);
            Ok(removed)
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

impl Inspect for Sessions {
    fn list(
        &self,
        after: Option<SessionId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Listed>, SpawnError>> {
        let plan = Plan {
            project: "7".into(),
            user: "42".into(),
            profile: Plan::default_profile(),
        };
        let mut listed: Vec<Listed> = self
            .records
            .lock()
            .unwrap()
            .iter()
            .map(|(&id, &found)| Listed {
                id,
                seen: Seen { found, used: None },
                // Long ago.
                made: Some(Timestamp::UNIX_EPOCH),
                is_kept: self.protected.get() == Some(&id),
                plan: plan.clone(),
            })
            .filter(|listed| after.is_none_or(|after| listed.id > after))
            .collect();
        listed.sort_by_key(|listed| listed.id);
        listed.truncate(limit);
        Box::pin(async { Ok(listed) })
    }

    fn find(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Listed>, SpawnError>> {
        Box::pin(async move {
            let listed = self.list(None, usize::MAX).await?;
            Ok(listed.into_iter().find(|listed| listed.id == id))
        })
    }

    fn tail(&self, _: SessionId) -> BoxFuture<'_, Result<Vec<String>, SpawnError>> {
        Box::pin(async { Ok(vec![String::new(); 3]) })
    }
}
