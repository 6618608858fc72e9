//! What is known of sessions, and the one function that writes it.
//!
//! Facts come from the spawner's watch and replies, from the probes and from the starts themselves; they all go in by
//! [`Table::apply`]. What a session's state *is* is computed from its [`Slot`] by [`phase`](super::phase()).
//! The map hands out clones and never a guard: one held across an await can freeze the process.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use dashmap::{DashMap, Entry};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

use super::{
    fact::Fact,
    instance::{Instance, InstanceUid, Lease},
};
use crate::session::{Failure, Reason, Service, SessionId, Stage};

/// First pause after a failure; doubled with each further one in a row.
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// Longest pause after failures: a person who mends the cause elsewhere and reloads should not wait longer.
const LAST_RETRY: Duration = Duration::from_secs(300);

/// What the facts say of one session. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Slot {
    /// What runs.
    pub instance: Option<Arc<Instance>>,
    /// Whether the instance is being ended.
    pub ending: bool,
    /// The start under way in this replica: what it waits for, and since when.
    pub start: Option<(Stage, Instant)>,
    /// The last start, if it failed.
    pub failure: Option<Failure>,
    /// Services of the instance that failed.
    pub broken: Vec<Broken>,
    /// Those who wait for a change of this session.
    pub waiters: Arc<Waiters>,
}

/// A service that failed while its instance goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which one.
    pub service: Service,
    /// How.
    pub failure: Failure,
    /// Whether it has been started again since: then only the number of attempts still counts.
    pub mended: bool,
}

/// Those who wait for a change of one session.
#[derive(Debug, Default)]
pub struct Waiters {
    /// Notified at every change.
    pub changed: Notify,
    /// Requests held at present.
    pub held: AtomicUsize,
}

/// What is known of all sessions. One per replica.
#[derive(Debug)]
pub struct Table {
    slots: DashMap<SessionId, Slot, ahash::RandomState>,
    probes: mpsc::UnboundedSender<ToProbe>,
    synced: AtomicBool,
}

/// A port that is to be connected to until it accepts.
#[derive(Debug)]
pub struct ToProbe {
    /// Whose.
    pub instance: Arc<Instance>,
    /// Which of its ports.
    pub service: Service,
    /// Void once the instance's own count has moved on.
    pub round: u32,
}

impl Table {
    /// An empty table, and the ports that its facts ask to be probed.
    #[must_use]
    pub fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<ToProbe>) {
        let (probes, to_probe) = mpsc::unbounded_channel();
        let table = Self {
            slots: DashMap::default(),
            probes,
            synced: AtomicBool::new(false),
        };
        (Arc::new(table), to_probe)
    }

    /// Takes in one fact; returns whether it was news. The only writer.
    ///
    /// Of `Begun` the answer is the single flight: of all who begin a start at once, one is told `true`.
    pub fn apply(&self, fact: Fact) -> bool {
        let now = Instant::now();
        let mut entry = match self.slots.entry(fact.session()) {
            Entry::Occupied(entry) => entry,
            Entry::Vacant(entry) if fact.may_be_first() => entry.insert_entry(Slot::default()),
            Entry::Vacant(_) => return false,
        };
        let slot = entry.get_mut();
        let news = self.change(slot, fact, now);
        let waiters = Arc::clone(&slot.waiters);
        if slot.is_empty() {
            entry.remove();
        } else {
            drop(entry);
        }
        if news {
            waiters.changed.notify_waiters();
        }
        news
    }

    fn change(&self, slot: &mut Slot, fact: Fact, now: Instant) -> bool {
        match fact {
            Fact::Saw(id, uid, addresses) => self.saw(slot, Instance::new(id, uid, addresses)),
            Fact::Ending(_, uid) => slot.ending(uid),
            Fact::Gone(_, uid) => slot.gone(uid),
            Fact::Begun(_) => {
                let first = slot.start.is_none();
                slot.start.get_or_insert((Stage::Queue, now));
                first
            }
            Fact::Stage(_, stage) => slot.start.as_mut().is_some_and(|(at, _)| {
                let news = *at != stage;
                *at = stage;
                news
            }),
            Fact::Done(_) => {
                slot.failure = None;
                slot.start.take().is_some()
            }
            Fact::Failed(_, reason) => {
                slot.failure = Some(Failure::after(slot.failure.as_ref(), reason, now));
                slot.start = None;
                true
            }
            Fact::Forgiven(_) => slot.forgive(now),
            Fact::Open(_, uid, service) => slot.opened(uid, service),
            Fact::Closed(_, uid, service) => self.closed(slot, uid, service),
            Fact::Late(_, uid, service, reason) => slot.broke(uid, service, reason, now),
            Fact::Broke(_, uid, service, reason) => {
                if let Some(instance) = slot.incarnation(uid) {
                    instance.next_round(service);
                }
                slot.broke(uid, service, reason, now)
            }
            Fact::Mended(_, uid, service) => self.mended(slot, uid, service),
        }
    }

    fn saw(&self, slot: &mut Slot, instance: Instance) -> bool {
        if slot.incarnation(instance.uid()).is_some() {
            return false;
        }
        let instance = Arc::new(instance);
        if let Some(old) = slot.instance.replace(Arc::clone(&instance)) {
            old.end();
        }
        slot.ending = false;
        slot.broken.clear();
        for service in instance.services() {
            self.probe(&instance, service);
        }
        true
    }

    fn closed(&self, slot: &Slot, uid: InstanceUid, service: Service) -> bool {
        let Some(instance) = slot
            .incarnation(uid)
            .filter(|instance| instance.is_open(service))
        else {
            return false;
        };
        instance.set_open(service, false);
        self.probe(&instance, service);
        true
    }

    fn mended(&self, slot: &mut Slot, uid: InstanceUid, service: Service) -> bool {
        let Some(instance) = slot.incarnation(uid) else {
            return false;
        };
        for broken in slot
            .broken
            .iter_mut()
            .filter(|broken| broken.service == service)
        {
            broken.mended = true;
        }
        instance.next_round(service);
        self.probe(&instance, service);
        true
    }

    fn probe(&self, instance: &Arc<Instance>, service: Service) {
        let round = instance.round(service);
        // Without a receiver nobody probes: at the end of the process, and in tests of the table alone.
        let _ = self.probes.send(ToProbe {
            instance: Arc::clone(instance),
            service,
            round,
        });
    }

    /// What is known of a session; an empty slot where nothing is.
    #[must_use]
    pub fn slot(&self, id: SessionId) -> Slot {
        self.slots
            .get(&id)
            .map(|slot| slot.clone())
            .unwrap_or_default()
    }

    /// The right to send to a service that runs and accepts connections. The fast path: one shard, read.
    #[must_use]
    pub fn running(&self, id: SessionId, service: Service) -> Option<Lease> {
        let slot = self.slots.get(&id)?;
        let instance = slot.instance.as_ref()?;
        (!slot.ending && instance.is_open(service))
            .then(|| Lease::new(Arc::clone(instance), service))
    }

    /// All sessions of which something is known, in no order.
    #[must_use]
    pub fn sessions(&self) -> Vec<(SessionId, Slot)> {
        self.slots
            .iter()
            .map(|slot| (*slot.key(), slot.value().clone()))
            .collect()
    }

    /// Whether the table holds all that the spawner knows.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    pub(super) fn set_synced(&self) {
        self.synced.store(true, Ordering::Release);
    }

    /// Forgets failures that no longer keep a start waiting, so that sessions nobody returns to cost nothing.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.slots.retain(|_, slot| {
            slot.failure
                .take_if(|failure| failure.retry_at + LAST_RETRY <= now);
            !slot.is_empty()
        });
    }
}

impl Slot {
    /// How this service failed, unless it has been started again since.
    #[must_use]
    pub fn broken(&self, service: Service) -> Option<&Failure> {
        let broken = self
            .broken
            .iter()
            .find(|broken| broken.service == service)?;
        (!broken.mended).then_some(&broken.failure)
    }

    fn incarnation(&self, uid: InstanceUid) -> Option<Arc<Instance>> {
        self.instance
            .as_ref()
            .filter(|instance| instance.uid() == uid)
            .cloned()
    }

    fn is_empty(&self) -> bool {
        self.instance.is_none() && self.start.is_none() && self.failure.is_none()
    }

    fn ending(&mut self, uid: InstanceUid) -> bool {
        let Some(instance) = self.incarnation(uid).filter(|_| !self.ending) else {
            return false;
        };
        self.ending = true;
        instance.end();
        true
    }

    fn gone(&mut self, uid: InstanceUid) -> bool {
        let Some(instance) = self.incarnation(uid) else {
            return false;
        };
        instance.end();
        self.instance = None;
        self.ending = false;
        self.broken.clear();
        true
    }

    fn opened(&mut self, uid: InstanceUid, service: Service) -> bool {
        let Some(instance) = self
            .incarnation(uid)
            .filter(|instance| !instance.is_open(service))
        else {
            return false;
        };
        instance.set_open(service, true);
        self.broken.retain(|broken| broken.service != service);
        true
    }

    fn broke(
        &mut self,
        uid: InstanceUid,
        service: Service,
        reason: Arc<Reason>,
        now: Instant,
    ) -> bool {
        let Some(instance) = self.incarnation(uid) else {
            return false;
        };
        instance.set_open(service, false);
        let before = self
            .broken
            .iter()
            .position(|broken| broken.service == service);
        let before = before.map(|at| self.broken.swap_remove(at).failure);
        let failure = Failure::after(before.as_ref(), reason, now);
        self.broken.push(Broken {
            service,
            failure,
            mended: false,
        });
        true
    }

    fn forgive(&mut self, now: Instant) -> bool {
        let broken = self.broken.iter_mut().map(|broken| &mut broken.failure);
        let mut any = false;
        for failure in self.failure.iter_mut().chain(broken) {
            *failure = Failure {
                retry_at: now,
                attempts: 0,
                reason: Arc::clone(&failure.reason),
            };
            any = true;
        }
        any
    }
}

impl Failure {
    fn after(before: Option<&Self>, reason: Arc<Reason>, now: Instant) -> Self {
        let attempts = before.map_or(1, |before| before.attempts.saturating_add(1));
        let pause = FIRST_RETRY
            .saturating_mul(1 << (attempts - 1).min(16))
            .min(LAST_RETRY);
        Self {
            reason,
            retry_at: now + pause,
            attempts,
        }
    }
}
