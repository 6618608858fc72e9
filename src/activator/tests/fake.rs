//! A spawner, a probe and a watcher that do as told.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{
    activator::{
        Facts, Inspect, InstanceUid, Listed, Named, Observed, Probe, Seen, SpawnError, Spawner,
        StartWatcher,
    },
    session::{Found, Plan, Reason, SessionId, Stage, clock},
};

/// What a call of the spawner takes.
pub(super) const CALL: Duration = Duration::from_millis(5);

/// Starts any session in a given time, or says why not, and counts.
pub(super) struct FakeSpawner {
    takes: Duration,
    found: Mutex<Found>,
    pub(super) fails: AtomicBool,
    starts: AtomicUsize,
    pub(super) looks: AtomicUsize,
    /// Announced stops that were taken back, and that were seen to.
    pub(super) kept: AtomicUsize,
    pub(super) expired: AtomicUsize,
    pub(super) is_away: AtomicBool,
    /// Whose last use was recorded, and when it was.
    pub(super) stamps: Mutex<Vec<(SessionId, Instant)>>,
    /// What is recorded, for lists; and what was removed for want of use, in order.
    pub(super) listed: Mutex<Vec<Listed>>,
    pub(super) removed: Mutex<Vec<(SessionId, Instant)>>,
}

impl FakeSpawner {
    pub(super) fn that_takes(takes: Duration) -> Arc<Self> {
        Arc::new(Self {
            takes,
            found: Mutex::new(Found::Absent),
            fails: AtomicBool::new(false),
            starts: AtomicUsize::new(0),
            looks: AtomicUsize::new(0),
            kept: AtomicUsize::new(0),
            expired: AtomicUsize::new(0),
            is_away: AtomicBool::new(false),
            stamps: Mutex::default(),
            listed: Mutex::default(),
            removed: Mutex::default(),
        })
    }

    pub(super) fn starts(&self) -> usize {
        self.starts.load(Ordering::Relaxed)
    }
}

impl Spawner for FakeSpawner {
    fn watch(&self, facts: Facts) -> BoxFuture<'_, SpawnError> {
        facts.synced();
        Box::pin(std::future::pending())
    }

    fn stages(&self) -> &'static [Stage] {
        &[Stage::Queue, Stage::Disk, Stage::Port]
    }

    fn look(&self, _: SessionId) -> BoxFuture<'_, Result<Seen, SpawnError>> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let found = *self.found.lock().unwrap();
        Box::pin(async move { Ok(Seen { found, used: None }) })
    }

    fn ensure<'a>(
        &'a self,
        id: SessionId,
        plan: &'a Plan,
        facts: &'a Facts,
    ) -> BoxFuture<'a, Result<(), SpawnError>> {
        self.starts.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            sleep(self.takes).await;
            if self.fails.load(Ordering::Relaxed) {
                return Err(SpawnError::new(Reason::Storage {
                    error: "disk full".into(),
                }));
            }
            *self.found.lock().unwrap() = Found::Vanished;
            let address = SocketAddr::from(([127, 0, 0, 1], 1));
            let observed = Observed {
                profile: Some(plan.profile.as_str().into()),
                made: Some(clock::now()),
                ..Observed::new(InstanceUid(Uuid::new_v4()), vec![address; 2])
            };
            facts.saw(id, observed);
            Ok(())
        })
    }

    fn stamp(&self, id: SessionId, _: Timestamp) -> BoxFuture<'_, Result<(), SpawnError>> {
        self.stamps.lock().unwrap().push((id, Instant::now()));
        Box::pin(async { Ok(()) })
    }

    fn stop<'a>(&'a self, id: SessionId, _: &'a Facts) -> BoxFuture<'a, Result<(), SpawnError>> {
        *self.found.lock().unwrap() = Found::Stopped;
        for listed in &mut *self.listed.lock().unwrap() {
            if listed.id == id {
                listed.seen.found = Found::Stopped;
            }
        }
        Box::pin(async { Ok(()) })
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
        _: Named,
        _: Timestamp,
        _: &'a Facts,
    ) -> BoxFuture<'a, Result<bool, SpawnError>> {
        Box::pin(async move {
            sleep(CALL).await;
            if self.is_away.load(Ordering::Relaxed) {
                let error = "no route to host".into();
                return Err(SpawnError::new(Reason::Unavailable { error }));
            }
            self.kept.fetch_add(1, Ordering::Relaxed);
            Ok(true)
        })
    }

    fn expire<'a>(
        &'a self,
        Named { id, uid }: Named,
        _: Option<Timestamp>,
        facts: &'a Facts,
    ) -> BoxFuture<'a, Result<bool, SpawnError>> {
        self.expired.fetch_add(1, Ordering::Relaxed);
        *self.found.lock().unwrap() = Found::Stopped;
        facts.gone(id, uid);
        Box::pin(async { Ok(true) })
    }

    fn delete<'a>(
        &'a self,
        id: SessionId,
        unused: Option<Timestamp>,
        _: &'a Facts,
    ) -> BoxFuture<'a, Result<bool, SpawnError>> {
        assert!(unused.is_some());
        self.removed.lock().unwrap().push((id, Instant::now()));
        self.listed.lock().unwrap().retain(|listed| listed.id != id);
        Box::pin(async { Ok(true) })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

impl Inspect for FakeSpawner {
    fn list(
        &self,
        after: Option<SessionId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Listed>, SpawnError>> {
        let mut listed = self.listed.lock().unwrap().clone();
        listed.retain(|listed| Some(listed.id) > after);
        listed.truncate(limit);
        Box::pin(async { Ok(listed) })
    }

    fn find(&self, _: SessionId) -> BoxFuture<'_, Result<Option<Listed>, SpawnError>> {
        Box::pin(async { Ok(None) })
    }

    fn tail(&self, _: SessionId) -> BoxFuture<'_, Result<Vec<String>, SpawnError>> {
        Box::pin(async { Ok(vec![]) })
    }
}

/// Accepts on every port, or on none. A real socket under a paused clock times out at once.
pub(super) struct FakeProbe(pub(super) AtomicBool);

impl Probe for FakeProbe {
    fn connect(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<()>> {
        let open = self.0.load(Ordering::Relaxed);
        Box::pin(async move {
            if open {
                Ok(())
            } else {
                Err(io::ErrorKind::ConnectionRefused.into())
            }
        })
    }
}

pub(super) struct Nobody;

impl StartWatcher for Nobody {
    fn started(&self, _: bool, _: Duration) {}
}
