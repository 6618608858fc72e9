//! Replicas on one pretended cluster, under a paused clock: each hears of pods when its own watch says so.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::{
    runtime::Handle,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{sleep, sleep_until},
};
use uuid::Uuid;

use super::*;
use crate::{
    activator::{
        Activator, Facts, IdleConfig, IdleConfigs, Inspect, InstanceUid, Listed, Named, Observed,
        Parts, Probe, Resolver, RetentionConfig, Seen, SpawnError, Spawner, StartLimits,
        StartWatcher, Trigger,
    },
    session::{Found, Grant, Plan, Reason},
    shutdown::Ending,
};

#[test]
fn there_are_so_many_within_any_minute() {
    let (rate, begun) = (Rate::new(3), Instant::now());
    let at = |seconds| rate.take("a", begun + Duration::from_secs(seconds));
    assert_eq!((at(0), at(10), at(50)), (Ok(()), Ok(()), Ok(())));
    assert_eq!(at(55), Err(Duration::from_secs(5)));
    assert_eq!(rate.take("b", begun), Ok(()), "of another key");
    assert_eq!((at(60), at(61)), (Ok(()), Err(Duration::from_secs(9))));
    assert_eq!(at(70), Ok(()), "what was refused does not count");
}

#[test]
fn no_more_keys_are_remembered_than_there_is_room_for() {
    let (rate, begun) = (Rate::new(1), Instant::now());
    for key in 0..CAPACITY * 2 {
        assert_eq!(rate.take(key, begun), Ok(()));
    }
    assert!(rate.taken.lock().unwrap().len() <= CAPACITY);
    assert!(rate.take(CAPACITY * 2 - 1, begun).is_err());
}

#[test]
fn a_client_is_an_address_or_a_network_of_ipv6() {
    let network = |text: &str| super::network(text.parse().unwrap()).to_string();
    assert_eq!(network("192.0.2.7"), "192.0.2.7");
    assert_eq!(network("::ffff:192.0.2.7"), "192.0.2.7");
    assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
}

/// The pods there are, told to all replicas.
#[derive(Default)]
struct Cluster {
    pods: Mutex<BTreeMap<SessionId, String>>,
    /// Where each replica hears of them: when, and of which.
    watches: Mutex<Vec<UnboundedSender<(Instant, SessionId)>>>,
}

/// What one replica has of the cluster.
struct Replica {
    cluster: Arc<Cluster>,
    /// How long its watch takes to tell it of a pod, and it to make one.
    lag: Duration,
    makes: Duration,
    heard: Mutex<Option<UnboundedReceiver<(Instant, SessionId)>>>,
    /// Whose sessions it has begun, in order.
    begun: Mutex<Vec<String>>,
    under_way: AtomicUsize,
    most: AtomicUsize,
}

impl Spawner for Replica {
    fn watch(&self, facts: Facts) -> BoxFuture<'_, SpawnError> {
        facts.synced();
        let heard = self.heard.lock().unwrap().take();
        Box::pin(async move {
            let mut heard = heard.expect("it is watched once");
            while let Some((made, id)) = heard.recv().await {
                sleep_until(made + self.lag).await;
                let address = SocketAddr::from(([127, 0, 0, 1], 1));
                let uid = InstanceUid(Uuid::new_v4());
                facts.saw(id, Observed::new(uid, vec![address]));
                let user = self.cluster.pods.lock().unwrap()[&id].clone();
                facts.owner(id, &user);
            }
            std::future::pending().await
        })
    }

    fn stages(&self) -> &'static [Stage] {
        &[Stage::Queue, Stage::Namespace, Stage::Port]
    }

    fn look(&self, _: SessionId) -> BoxFuture<'_, Result<Seen, SpawnError>> {
        let (found, used) = (Found::Absent, None);
        Box::pin(async move { Ok(Seen { found, used }) })
    }

    fn ensure<'a>(
        &'a self,
        id: SessionId,
        plan: &'a Plan,
        _: &'a Facts,
    ) -> BoxFuture<'a, Result<(), SpawnError>> {
        Box::pin(async move {
            self.begun.lock().unwrap().push(plan.user.clone());
            let under_way = self.under_way.fetch_add(1, Relaxed) + 1;
            self.most.fetch_max(under_way, Relaxed);
            sleep(self.makes).await;
            let pods = &self.cluster.pods;
            pods.lock().unwrap().insert(id, plan.user.clone());
            for watch in &*self.cluster.watches.lock().unwrap() {
                let _ = watch.send((Instant::now(), id));
            }
            // Until its own watch has shown it.
            sleep(self.lag * 2).await;
            self.under_way.fetch_sub(1, Relaxed);
            Ok(())
        })
    }

    fn stamp(&self, _: SessionId, _: Timestamp) -> BoxFuture<'_, Result<(), SpawnError>> {
        Box::pin(async { Ok(()) })
    }

    fn stop<'a>(&'a self, _: SessionId, _: &'a Facts) -> BoxFuture<'a, Result<(), SpawnError>> {
        Box::pin(async { Ok(()) })
    }

    fn announce<'a>(
        &'a self,
        _: Named,
        _: Timestamp,
        _: &'a Facts,
    ) -> BoxFuture<'a, Result<(), SpawnError>> {
        unreachable!("sessions are never idle here")
    }

    fn keep<'a>(
        &'a self,
        _: Named,
        _: Timestamp,
        _: &'a Facts,
    ) -> BoxFuture<'a, Result<bool, SpawnError>> {
        unreachable!("sessions are never idle here")
    }

    fn expire<'a>(
        &'a self,
        _: Named,
        _: Option<Timestamp>,
        _: &'a Facts,
    ) -> BoxFuture<'a, Result<bool, SpawnError>> {
        unreachable!("sessions are never idle here")
    }

    fn delete<'a>(
        &'a self,
        _: SessionId,
        _: Option<Timestamp>,
        _: &'a Facts,
    ) -> BoxFuture<'a, Result<bool, SpawnError>> {
        unreachable!("nobody asks for it")
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

impl Inspect for Replica {
    fn list(
        &self,
        _: Option<SessionId>,
        _: usize,
    ) -> BoxFuture<'_, Result<Vec<Listed>, SpawnError>> {
        unreachable!("nobody asks for it")
    }

    fn find(&self, _: SessionId) -> BoxFuture<'_, Result<Option<Listed>, SpawnError>> {
        unreachable!("nobody asks for it")
    }

    fn tail(&self, _: SessionId) -> BoxFuture<'_, Result<Vec<String>, SpawnError>> {
        unreachable!("nobody asks for it")
    }
}

/// Whose each session is.
struct Users(HashMap<SessionId, String>);

impl Resolver for Users {
    fn plan(&self, id: SessionId, _: Grant) -> BoxFuture<'_, Result<Plan, SpawnError>> {
        let plan = Plan {
            project: "7".to_owned(),
            user: self.0[&id].clone(),
            profile: Plan::default_profile(),
        };
        Box::pin(async { Ok(plan) })
    }
}

struct Open;

impl Probe for Open {
    fn connect(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

struct Nobody;

impl StartWatcher for Nobody {
    fn started(&self, _: bool, _: Duration) {}
}

/// Replicas with 10 slots each and these limits, and 300 sessions of 30 users: the first has 50, the last one.
struct Fleet {
    cluster: Arc<Cluster>,
    replicas: Vec<(Arc<Replica>, Arc<Activator>)>,
    sessions: Vec<(SessionId, String)>,
}

impl Fleet {
    fn new(replicas: u32, limits: StartLimits) -> Self {
        let users = std::iter::repeat_n(0, 50).chain((0..249).map(|number| 1 + number % 28));
        let users = users.chain([29]).map(|user| format!("user-{user}"));
        let sessions: Vec<_> = users.map(|user| (SessionId::random(), user)).collect();
        let resolver = Arc::new(Users(sessions.iter().cloned().collect()));
        let cluster = Arc::<Cluster>::default();
        let replicas = (1..=replicas).map(|number| {
            let (watch, heard) = unbounded_channel();
            cluster.watches.lock().unwrap().push(watch);
            let replica = Arc::new(Replica {
                cluster: Arc::clone(&cluster),
                lag: Duration::from_millis(20) * number,
                makes: Duration::from_millis(170) * number,
                heard: Mutex::new(Some(heard)),
                begun: Mutex::default(),
                under_way: AtomicUsize::new(0),
                most: AtomicUsize::new(0),
            });
            let activator = Activator::begin_watch(Parts {
                spawner: Arc::clone(&replica) as Arc<dyn Spawner>,
                inspect: Arc::clone(&replica) as Arc<dyn Inspect>,
                resolver: Arc::clone(&resolver) as Arc<dyn Resolver>,
                probe: Arc::new(Open),
                watcher: Arc::new(Nobody),
                config: SpawnConfig {
                    trigger: Trigger::Any,
                    hold: Duration::from_secs(25),
                    timeout: Duration::from_secs(600),
                    held: 1000,
                    concurrent: 10,
                    queue: 1000,
                    limits,
                },
                idle: IdleConfigs {
                    base: IdleConfig {
                        after: Duration::ZERO,
                        countdown: Duration::ZERO,
                        max_age: Duration::ZERO,
                    },
                    profiles: BTreeMap::new(),
                },
                retention: RetentionConfig {
                    after: Duration::ZERO,
                    per_minute: 1,
                },
                drain: Ending::new().drain(Handle::current()),
            });
            (replica, activator)
        });
        Self {
            replicas: replicas.collect(),
            cluster,
            sessions,
        }
    }

    /// Starts all at once, each by one of the replicas, and returns when every start has ended.
    async fn start_all(&self) {
        let by = |at: usize| &self.replicas[at % self.replicas.len()].1;
        for (at, (id, _)) in self.sessions.iter().enumerate() {
            by(at).start(*id, Grant { spawn: true });
        }
        for (at, (id, _)) in self.sessions.iter().enumerate() {
            loop {
                let waiters = by(at).table.slot(*id).waiters;
                let changed = waiters.changed.notified();
                let slot = by(at).table.slot(*id);
                if slot.start.is_none() {
                    let limited = slot
                        .failure
                        .is_some_and(|failure| matches!(*failure.reason, Reason::Limited(_)));
                    assert!(slot.instance.is_some() || limited, "it runs or is refused");
                    break;
                }
                changed.await;
            }
        }
        for (replica, _) in &self.replicas {
            assert_eq!(replica.under_way.load(Relaxed), 0);
            assert!(replica.most.load(Relaxed) <= 10, "slots");
        }
    }

    fn of_each(&self) -> HashMap<String, usize> {
        let mut all = HashMap::new();
        for user in self.cluster.pods.lock().unwrap().values() {
            *all.entry(user.clone()).or_default() += 1;
        }
        all
    }
}

#[tokio::test(start_paused = true)]
async fn three_replicas_overshoot_a_limit_by_three_at_most() {
    for sessions in [1, 17, 100, 250] {
        let limits = StartLimits {
            sessions,
            ..StartLimits::default()
        };
        let fleet = Fleet::new(3, limits);
        fleet.start_all().await;
        let there = fleet.cluster.pods.lock().unwrap().len();
        assert!(
            (sessions..=sessions + 3).contains(&there),
            "{there} of {sessions}"
        );
        for (_, activator) in &fleet.replicas {
            assert_eq!(activator.table.counts("").0.there, there, "all hear of all");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn three_replicas_overshoot_a_users_limit_by_three_at_most() {
    let limits = StartLimits {
        sessions_per_user: 5,
        ..StartLimits::default()
    };
    let fleet = Fleet::new(3, limits);
    fleet.start_all().await;
    for (user, there) in fleet.of_each() {
        let asked = fleet
            .sessions
            .iter()
            .filter(|(_, one)| *one == user)
            .count();
        let expected = asked.min(5)..=asked.min(5 + 3);
        assert!(expected.contains(&there), "{user} has {there} of {asked}");
    }
}

/// 300 starts by 30 users with 10 slots: whoever has one comes to its turn within one round.
#[tokio::test(start_paused = true)]
async fn a_user_with_one_waits_no_longer_than_a_user_with_fifty() {
    let fleet = Fleet::new(1, StartLimits::default());
    fleet.start_all().await;
    assert_eq!(fleet.cluster.pods.lock().unwrap().len(), 300);
    let (replica, _) = &fleet.replicas[0];
    let begun = replica.begun.lock().unwrap();
    let turns = |user: &str| -> Vec<usize> {
        let own = begun.iter().enumerate().filter(|(_, one)| *one == user);
        own.map(|(at, _)| at).collect()
    };
    let (one, fifty) = (turns("user-29"), turns("user-0"));
    assert_eq!((one.len(), fifty.len()), (1, 50));
    // Ten of the first user's went ahead while nobody else was there, and then each user has a turn.
    assert!(one[0] < 10 + 30, "it was the start {} of 300", one[0]);
    assert_eq!(*fifty.last().unwrap(), 299);
    assert_eq!(replica.most.load(Relaxed), 10, "no slot is left free");
}
