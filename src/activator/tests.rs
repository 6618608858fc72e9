//! The activator with a spawner and a probe that do as told, under a paused clock.

use std::{net::SocketAddr, sync::atomic::AtomicBool};

use futures_util::future::{BoxFuture, join, join_all};
use tokio::{runtime::Handle, time::sleep};
use uuid::Uuid;

mod age;
mod fake;
mod follow;
mod idle;
mod log;
mod retention;
mod table;

use super::*;
use crate::{
    session::{Failure, Found, Plan, Stage},
    shutdown::Ending,
};
use fake::{CALL, FakeProbe, FakeSpawner, Nobody};
pub(super) use log::Log;

const GRANT: Grant = Grant { spawn: true };
const HOLD: Duration = Duration::from_secs(25);
/// Longer than other tests take.
const IDLE: Duration = Duration::from_hours(4);
/// Far longer: only what is listed is removed.
const RETENTION: Duration = Duration::from_hours(40);
const COUNTDOWN: Duration = Duration::from_mins(10);
/// Of the profile `short`, and of the profile `never`.
const SHORT: IdleConfig = IdleConfig {
    after: Duration::from_mins(2),
    countdown: Duration::from_secs(30),
    max_age: Duration::ZERO,
};
const NEVER: IdleConfig = IdleConfig {
    after: Duration::ZERO,
    countdown: COUNTDOWN,
    max_age: Duration::ZERO,
};
/// Of the profile `old`.
const OLD: IdleConfig = IdleConfig {
    after: Duration::ZERO,
    countdown: Duration::from_mins(2),
    max_age: Duration::from_mins(50),
};
const SECOND: Duration = Duration::from_secs(1);

fn activator(spawner: &Arc<FakeSpawner>, open: bool) -> Arc<Activator> {
    of_profile(Plan::DEFAULT_PROFILE, spawner, open)
}

fn of_profile(name: &str, spawner: &Arc<FakeSpawner>, open: bool) -> Arc<Activator> {
    let plan = Plan {
        project: "7".into(),
        user: "42".into(),
        profile: name.into(),
    };
    by(Arc::new(DefaultPlan(plan)), spawner, open)
}

fn by(resolver: Arc<dyn Resolver>, spawner: &Arc<FakeSpawner>, open: bool) -> Arc<Activator> {
    Activator::begin_watch(Parts {
        spawner: Arc::clone(spawner) as Arc<dyn Spawner>,
        inspect: Arc::clone(spawner) as Arc<dyn Inspect>,
        resolver,
        probe: Arc::new(FakeProbe(AtomicBool::new(open))),
        watcher: Arc::new(Nobody),
        config: SpawnConfig {
            trigger: Trigger::Any,
            hold: HOLD,
            timeout: Duration::from_secs(600),
            held: 3,
            concurrent: 8,
            queue: 100,
            limits: StartLimits::default(),
        },
        idle: IdleConfigs {
            base: IdleConfig {
                after: IDLE,
                countdown: COUNTDOWN,
                max_age: Duration::ZERO,
            },
            profiles: [("short", SHORT), ("never", NEVER), ("old", OLD)]
                .map(|(name, times)| (name.into(), times))
                .into(),
        },
        retention: RetentionConfig {
            after: RETENTION,
            per_minute: 2,
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
        client: None,
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
    let fails = async |intent| {
        let error = activator.lease(wanted(id, intent)).await.unwrap_err();
        let ActivateError::NotReady(_, Phase::Failed(failure)) = error else {
            panic!("{error}")
        };
        failure
    };
    let mut retry_at = Instant::now();
    let pauses = [5, 10, 20, 40, 80, 160, 300, 300];
    for (starts, pause) in (1..).zip(pauses) {
        tokio::time::sleep_until(retry_at).await;
        let failure = fails(Intent::Api).await;
        retry_at = failure.retry_at;
        assert_eq!((retry_at - Instant::now()).as_secs(), pause);
        // Just before its end, too.
        for left in [pause, 1] {
            tokio::time::sleep_until(retry_at - Duration::from_secs(left)).await;
            assert_eq!(fails(Intent::Navigation).await.retry_at, retry_at);
        }
        assert_eq!(spawner.starts(), starts, "within the pause");
    }
    // Somebody says so.
    activator.start(id, GRANT);
    let failure = fails(Intent::Asset).await;
    assert_eq!((failure.retry_at - Instant::now()).as_secs(), pauses[0]);
    spawner.fails.store(false, Ordering::Relaxed);
    activator.start(id, GRANT);
    assert!(activator.lease(wanted(id, Intent::Asset)).await.is_ok());
    assert_eq!(spawner.starts(), pauses.len() + 2);
}

#[tokio::test(start_paused = true)]
async fn a_port_that_stays_closed_is_starting_and_then_failed() {
    let log = Log::begin();
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
    let Phase::Failed(Failure { reason, passes, .. }) = phase else {
        panic!("{phase:?}")
    };
    assert_eq!(reason.to_string(), "nothing listens on port 1 after 10m");
    assert!(passes, "it is asked further");
    // Each of the two services.
    let lines = log.lines();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    for part in ["port_not_listening", "port 1 after 10m", &id.to_string()] {
        assert!(lines.iter().all(|line| line.contains(part)), "{lines:#?}");
    }
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

/// Knows no project.
struct Empty;

impl Resolver for Empty {
    fn plan(&self, id: SessionId, _: Grant) -> BoxFuture<'_, Result<Plan, SpawnError>> {
        Box::pin(async move { Err(self.absence(id).await.expect("there is none")) })
    }

    fn absence(&self, _: SessionId) -> BoxFuture<'_, Option<SpawnError>> {
        Box::pin(async { Some(SpawnError::new(Reason::NoProject)) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_of_no_project_is_neither_looked_for_nor_started() {
    let spawner = FakeSpawner::that_takes(Duration::from_secs(1));
    let activator = by(Arc::new(Empty), &spawner, true);
    let id = SessionId::random();
    for intent in Intent::ALL {
        let error = activator.lease(wanted(id, intent)).await.unwrap_err();
        let ActivateError::Look(_, error) = error else {
            panic!("{intent:?}: {error}")
        };
        assert_eq!(*error.reason, Reason::NoProject, "{intent:?}");
    }
    assert!(activator.look(id).await.is_err());
    let looks = spawner.looks.load(Ordering::Relaxed);
    assert_eq!((looks, spawner.starts()), (0, 0));
    assert!(activator.table.sessions().is_empty(), "it takes no memory");
}
