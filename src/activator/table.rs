//! What is known of sessions, and the one function that writes it.
//!
//! Facts come from the spawner's watch and replies, from the probes and from the starts themselves; they all go in by
//! [`Table::apply`]. What they say of one session is its [`Slot`]; what its state *is* is computed from that by
//! [`phase`](super::phase()).
//! The map hands out clones and never a guard: one held across an await can freeze the process.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use dashmap::{DashMap, Entry};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

use super::{
    fact::Fact,
    instance::{Instance, InstanceUid, Lease},
    slot::{LAST_RETRY, Slot},
};
use crate::session::{Failure, Service, SessionId, Stage};

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
            Fact::Pending(_, uid, progress) => slot.pending(uid, progress, now),
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
                slot.still_stuck(now);
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
        // A pod whose sandbox was made anew is the same one at another address.
        let known = slot.incarnation(instance.uid());
        if known.is_some_and(|known| known.addresses() == instance.addresses()) {
            return false;
        }
        let instance = Arc::new(instance);
        slot.saw(&instance);
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
