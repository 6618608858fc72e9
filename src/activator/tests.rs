//! The activator with a spawner and a probe that do as told, under a paused clock.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize},
    },
};

use futures_util::future::{BoxFuture, join_all};
use jiff::Timestamp;
use tokio::{runtime::Handle, time::sleep};
use uuid::Uuid;

use super::*;
use crate::{
    session::{Failure, Found, Plan, Stage},
    shutdown::Ending,
};

const GRANT: Grant = Grant { spawn: true };
const HOLD: Duration = Duration::from_secs(25);

/// Starts any session in a given time, or says why not, and counts.
struct FakeSpawner {
    takes: Duration,
    found: Mutex<Found>,
    fails: AtomicBool,
    starts: AtomicUsize,
    looks: AtomicUsize,
}

impl FakeSpawner {
    fn that_takes(takes: Duration) -> Arc<Self> {
        Arc::new(Self {
            takes,
            found: Mutex::new(Found::Absent),
            fails: AtomicBool::new(false),
            starts: AtomicUsize::new(0),
            looks: AtomicUsize::new(0),
        })
    }

    fn starts(&self) -> usize {
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
        _: &'a Plan,
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
            facts.saw(id, InstanceUid(Uuid::new_v4()), vec![address; 2]);
            Ok(())
        })
    }

    fn stamp(&self, _: SessionId, _: Timestamp) -> BoxFuture<'_, Result<(), SpawnError>> {
        Box::pin(async { Ok(()) })
    }

    fn stop<'a>(&'a self, _: SessionId, _: &'a Facts) -> BoxFuture<'a, Result<(), SpawnError>> {
        *self.found.lock().unwrap() = Found::Stopped;
        Box::pin(async { Ok(()) })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// Accepts on every port, or on none. A real socket under a paused clock times out at once.
struct FakeProbe(AtomicBool);

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

struct Nobody;

impl StartWatcher for Nobody {
    fn started(&self, _: bool, _: Duration) {}
}

fn activator(spawner: &Arc<FakeSpawner>, open: bool) -> Arc<Activator> {
    Activator::begin_watch(Parts {
        spawner: Arc::clone(spawner) as Arc<dyn Spawner>,
        resolver: Arc::new(DefaultPlan(Plan {
            project: "7".into(),
            user: "42".into(),
        })),
        probe: Arc::new(FakeProbe(AtomicBool::new(open))),
        watcher: Arc::new(Nobody),
        config: SpawnConfig {
            trigger: Trigger::Any,
            hold: HOLD,
            timeout: Duration::from_secs(600),
            held: 3,
            concurrent: 8,
        },
        drain: Ending::new().drain(Handle::current()),
    })
}

fn wanted(id: SessionId, intent: Intent) -> Wanted {
    Wanted {
        id,
        service: services()[0],
        intent,
        grant: GRANT,
        arrived: Instant::now(),
    }
}

fn services() -> Vec<Service> {
    Service::first(2).collect()
}

#[tokio::test(start_paused = true)]
async fn a_second_request_joins_the_first_start() {
    let spawner = FakeSpawner::that_takes(Duration::from_secs(20));
    let activator = activator(&spawner, true);
    let id = SessionId::random();
    let (a, b) = tokio::join!(
        activator.lease(wanted(id, Intent::Api)),
        activator.lease(wanted(id, Intent::Api))
    );
    assert_eq!((a.is_ok(), b.is_ok(), spawner.starts()), (true, true, 1));
    assert_eq!(
        spawner.looks.load(Ordering::Relaxed),
        1,
        "both asked of the record in one read"
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_cancels_no_start() {
    let spawner = FakeSpawner::that_takes(Duration::from_secs(20));
    let activator = activator(&spawner, true);
    let id = SessionId::random();
    let left = tokio::time::timeout(
        Duration::from_secs(1),
        activator.lease(wanted(id, Intent::Api)),
    );
    assert!(left.await.is_err());
    let held = activator
        .table
        .slot(id)
        .waiters
        .held
        .load(Ordering::Relaxed);
    assert_eq!(held, 0, "its place is free again");
    assert!(activator.lease(wanted(id, Intent::Asset)).await.is_ok());
    assert_eq!(spawner.starts(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_held_as_long_as_its_kind_may_be() {
    let spawner = FakeSpawner::that_takes(Duration::from_secs(3600));
    let activator = activator(&spawner, true);
    let id = SessionId::random();
    for (intent, held) in [
        (Intent::Api, HOLD),
        (Intent::ApiSocket, SOCKET_HOLD),
        (Intent::Asset, HOLD),
    ] {
        let begun = Instant::now();
        let error = activator.lease(wanted(id, intent)).await.unwrap_err();
        assert!(
            matches!(error, ActivateError::Held(_, Phase::Starting { .. }, _)),
            "{error}"
        );
        assert_eq!(begun.elapsed().as_secs(), held.as_secs(), "{intent:?}");
    }
    assert_eq!(spawner.starts(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_more_requests_are_held_than_may_be() {
    let spawner = FakeSpawner::that_takes(Duration::from_secs(10));
    let activator = activator(&spawner, true);
    let id = SessionId::random();
    let all = join_all((0..5).map(|_| activator.lease(wanted(id, Intent::Api)))).await;
    let crowded = all
        .iter()
        .filter(|one| matches!(one, Err(ActivateError::Crowded(_, 3))))
        .count();
    assert_eq!(
        (all.iter().filter(|one| one.is_ok()).count(), crowded),
        (3, 2)
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_is_told_to_all_and_not_tried_again_before_its_time() {
    let spawner = FakeSpawner::that_takes(Duration::from_secs(1));
    spawner.fails.store(true, Ordering::Relaxed);
    let activator = activator(&spawner, true);
    let id = SessionId::random();
    for pause in [5, 10, 20] {
        let error = activator.lease(wanted(id, Intent::Api)).await.unwrap_err();
        let ActivateError::NotReady(_, Phase::Failed(failure)) = error else {
            panic!("{error}")
        };
        assert_eq!((failure.retry_at - Instant::now()).as_secs(), pause);
        let before = spawner.starts();
        assert!(
            activator
                .lease(wanted(id, Intent::Navigation))
                .await
                .is_err()
        );
        assert_eq!(
            spawner.starts(),
            before,
            "within the pause nothing is started"
        );
        tokio::time::sleep_until(failure.retry_at).await;
    }
    spawner.fails.store(false, Ordering::Relaxed);
    activator.start(id, GRANT);
    assert!(activator.lease(wanted(id, Intent::Asset)).await.is_ok());
    assert_eq!(spawner.starts(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_port_that_stays_closed_is_starting_and_then_failed() {
    let spawner = FakeSpawner::that_takes(Duration::from_secs(1));
    let activator = activator(&spawner, false);
    let id = SessionId::random();
    let error = activator.lease(wanted(id, Intent::Api)).await.unwrap_err();
    assert!(
        matches!(
            error,
            ActivateError::Held(
                _,
                Phase::Starting {
                    stage: Stage::Port,
                    ..
                },
                _
            )
        ),
        "{error}"
    );
    let changed = activator.table.slot(id).waiters;
    changed.changed.notified().await;
    let phase = activator.phase(id, services()[0]).await.unwrap();
    let Phase::Failed(Failure { reason, .. }) = phase else {
        panic!("{phase:?}")
    };
    assert_eq!(reason.to_string(), "nothing listens on port 1 after 10m");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_session_is_started_by_those_only_who_may() {
    let spawner = FakeSpawner::that_takes(Duration::from_secs(1));
    let activator = activator(&spawner, true);
    let id = SessionId::random();
    activator.stop(id).await.unwrap();
    for intent in [
        Intent::Asset,
        Intent::PageSocket,
        Intent::Passive,
        Intent::Submission,
    ] {
        let error = activator.lease(wanted(id, intent)).await.unwrap_err();
        assert!(
            matches!(
                error,
                ActivateError::NotReady(_, Phase::Idle(Found::Stopped))
            ),
            "{intent:?}: {error}"
        );
    }
    assert_eq!(spawner.starts(), 0);
    let barred = Wanted {
        grant: Grant { spawn: false },
        ..wanted(id, Intent::Api)
    };
    assert!(activator.lease(barred).await.is_err());
    assert_eq!(spawner.starts(), 0);
    assert!(activator.lease(wanted(id, Intent::Api)).await.is_ok());
    assert_eq!(spawner.starts(), 1);
}

#[test]
fn a_late_word_of_an_old_instance_changes_nothing() {
    let (table, _ports) = Table::new();
    let (id, service) = (SessionId::random(), services()[0]);
    let (old, new) = (InstanceUid(Uuid::new_v4()), InstanceUid(Uuid::new_v4()));
    let address = vec![SocketAddr::from(([127, 0, 0, 1], 1)); 2];
    assert!(
        !table.apply(Fact::Open(id, old, service)),
        "of a session nobody knows"
    );
    assert!(table.apply(Fact::Saw(id, old, address.clone())));
    assert!(table.apply(Fact::Open(id, old, service)));
    assert!(table.apply(Fact::Saw(id, new, address)));
    for late in [
        Fact::Open(id, old, service),
        Fact::Closed(id, old, service),
        Fact::Ending(id, old),
        Fact::Gone(id, old),
        Fact::Broke(id, old, service, Arc::new(Reason::Internal)),
    ] {
        assert!(!table.apply(late.clone()), "{late:?}");
    }
    assert!(table.running(id, service).is_none());
    assert!(table.apply(Fact::Open(id, new, service)));
    let lease = table.running(id, service).unwrap();
    assert_eq!(
        (lease.instance().uid(), lease.instance().leases()),
        (new, 1)
    );
    assert!(table.apply(Fact::Gone(id, new)));
    assert_eq!(table.sessions().len(), 0, "what is gone costs nothing");
}
