//! What is known of sessions, and the one function that writes it.
//!
//! Facts come from the spawner's watch and replies, from the probes and from the starts themselves; they all go in by
//! [`Table::apply`]. What they say of one session is its [`Slot`]; what its state *is* is computed from that by
//! [`phase`](super::phase()).
//! The map hands out clones and never a guard: one held across an await can freeze the process.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use dashmap::{DashMap, Entry};
use jiff::Timestamp;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::Instant,
};

use super::{
    fact::{Fact, Observed},
    instance::{Instance, InstanceUid, Lease},
    listeners::{Listener, Listeners},
    retry::LAST_RETRY,
    slot::{Begun, Slot},
    tally::{Count, Tally},
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
    tally: Mutex<Tally>,
    /// Notified whenever the tally has changed.
    pub(super) tallied: Notify,
    /// Those that a stop was announced of, until somebody looks.
    announced: Mutex<Vec<SessionId>>,
    announcement: Notify,
    /// Told when the spawner has named all that it knows.
    pub(super) listed: Notify,
    pub(super) listeners: Listeners,
    /// Counts the changes of all sessions.
    changes: watch::Sender<u64>,
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
            tally: Mutex::default(),
            tallied: Notify::new(),
            announced: Mutex::default(),
            announcement: Notify::new(),
            listed: Notify::new(),
            listeners: Listeners::default(),
            changes: watch::Sender::default(),
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
            Entry::Vacant(entry) if fact.may_be_first() => entry.insert_entry(Slot {
                waiters: self.listeners.of(fact.session()),
                ..Slot::default()
            }),
            Entry::Vacant(_) => return false,
        };
        let slot = entry.get_mut();
        let before = slot.counted();
        let news = self.change(slot, fact, now);
        let after = slot.counted();
        if before != after {
            // Under the session's lock, or an older change might be counted later.
            self.tally().change(before, after);
            self.tallied.notify_waiters();
        }
        let waiters = Arc::clone(&slot.waiters);
        if slot.is_empty() {
            entry.remove();
        } else {
            drop(entry);
        }
        if news {
            waiters.changed.notify_waiters();
            self.changes.send_modify(|count| *count += 1);
        }
        news
    }

    /// Tells of changes of any session, for those who look at all of them.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn change(&self, slot: &mut Slot, fact: Fact, now: Instant) -> bool {
        match fact {
            Fact::Saw(id, observed) => self.saw(slot, id, observed, now),
            Fact::Pending(_, uid, progress) => slot.pending(uid, progress, now),
            Fact::Ending(_, uid) => slot.ending(uid),
            Fact::Gone(_, uid) => slot.gone(uid, now),
            Fact::Lost(_, reason) => slot.lost(reason, now),
            Fact::Begun(_) => begun(slot, now),
            Fact::Owner(_, user) => {
                let news = slot.owner.as_ref() != Some(&user);
                slot.owner = Some(user);
                news
            }
            Fact::Stage(_, stage) => {
                let news = slot.start.as_mut().is_some_and(|start| start.reach(stage));
                if news {
                    slot.reach(stage, now);
                }
                news
            }
            Fact::Position(_, position) => {
                let waiting = slot
                    .start
                    .as_mut()
                    .filter(|start| start.stage == Stage::Queue);
                waiting.is_some_and(|start| start.position.replace(position) != Some(position))
            }
            Fact::Done(_) => {
                slot.failure = None;
                slot.still_stuck(now);
                // It found nothing to start.
                let instance = slot.instance.as_ref();
                slot.course
                    .take_if(|_| instance.is_some_and(|instance| instance.is_all_open()));
                slot.start.take().is_some()
            }
            Fact::Failed(_, reason) => {
                slot.failure = Some(Failure::after(slot.failure.as_ref(), reason, now));
                slot.arrive(false, now);
                slot.failed_at = slot.start.take().map(|start| start.stage);
                true
            }
            Fact::Forgiven(_) => slot.forgive(now),
            Fact::Open(_, uid, service) => slot.opened(uid, service, now),
            Fact::Closed(_, uid, service) => self.closed(slot, uid, service, now),
            // Its program is there, and its port may accept yet.
            Fact::Late(_, uid, service, reason) => slot.broke(uid, service, (reason, true), now),
            Fact::Broke(_, uid, service, reason) => {
                if let Some(instance) = slot.incarnation(uid) {
                    instance.next_round(service);
                }
                slot.broke(uid, service, (reason, false), now)
            }
            Fact::Mended(_, uid, service) => self.mended(slot, uid, service),
            Fact::Announced(id, uid, stop) => self.announced(slot, id, uid, stop),
            Fact::TakenBack(_, uid, stop) => slot.taken_back(uid, stop),
            Fact::Aged(_, uid, last) => slot.aged(uid, last),
        }
    }

    fn saw(&self, slot: &mut Slot, id: SessionId, observed: Observed, now: Instant) -> bool {
        let is_own = slot.is_started_here(observed.uid);
        let instance = Instance::new(id, observed).started_here(is_own);
        // A pod whose sandbox was made anew is the same one at another address.
        let known = slot.incarnation(instance.uid());
        if known.is_some_and(|known| known.addresses() == instance.addresses()) {
            return false;
        }
        let instance = Arc::new(instance);
        slot.saw(&instance, now);
        for service in instance.services() {
            self.probe(&instance, service);
        }
        true
    }

    fn closed(&self, slot: &mut Slot, uid: InstanceUid, service: Service, now: Instant) -> bool {
        let Some(instance) = slot
            .incarnation(uid)
            .filter(|instance| instance.is_open(service))
        else {
            return false;
        };
        instance.set_open(service, false);
        slot.reach(Stage::Port, now);
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

    fn announced(
        &self,
        slot: &mut Slot,
        id: SessionId,
        uid: InstanceUid,
        stop: Option<Timestamp>,
    ) -> bool {
        let news = slot.announced(uid, stop);
        if news && stop.is_some() {
            let mut announced = self
                .announced
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            announced.push(id);
            drop(announced);
            self.announcement.notify_one();
        }
        news
    }

    /// Waits for stops that are announced; returns whose. For one who waits.
    pub(super) async fn announcements(&self) -> Vec<SessionId> {
        self.announcement.notified().await;
        let mut announced = self
            .announced
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *announced)
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

    /// The right to send to a service that runs and accepts connections, and of which no stop is announced. The fast
    /// path: one shard, read.
    #[must_use]
    pub fn running(&self, id: SessionId, service: Service) -> Option<Lease> {
        let slot = self.slots.get(&id)?;
        if slot.stop.is_some() {
            return None;
        }
        lease(&slot, service)
    }

    /// As [`running`](Self::running), also while a stop is announced.
    pub(super) fn running_still(&self, id: SessionId, service: Service) -> Option<Lease> {
        lease(&*self.slots.get(&id)?, service)
    }

    /// One who listens to a session from now on, unless there are `most` already.
    pub(super) fn listen(self: &Arc<Self>, id: SessionId, most: usize) -> Option<Listener> {
        // While its slot can neither come nor go.
        match self.slots.entry(id) {
            Entry::Occupied(slot) => {
                let waiters = Some(&slot.get().waiters);
                self.listeners.join(self, id, waiters, most)
            }
            Entry::Vacant(_) => self.listeners.join(self, id, None, most),
        }
    }

    /// All sessions of which something is known, in no order.
    #[must_use]
    pub fn sessions(&self) -> Vec<(SessionId, Slot)> {
        self.slots
            .iter()
            .map(|slot| (*slot.key(), slot.value().clone()))
            .collect()
    }

    /// Whether anything of a session is there.
    pub(super) fn is_there(&self, id: SessionId) -> bool {
        self.slots.get(&id).is_some_and(|slot| slot.is_there())
    }

    /// How many sessions there are, and how many of this user's.
    pub(super) fn counts(&self, user: &str) -> (Count, Count) {
        self.tally().counts(user)
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the table holds all that the spawner knows.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    pub(super) fn set_synced(&self) {
        self.synced.store(true, Ordering::Release);
        self.listed.notify_waiters();
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

/// A start of this replica begins, unless one is under way.
fn begun(slot: &mut Slot, now: Instant) -> bool {
    if slot.start.is_some() {
        return false;
    }
    if !slot.is_there() {
        // It may be another's by now.
        slot.owner = None;
    }
    slot.start = Some(Begun::at(now));
    slot.course = None;
    slot.reach(Stage::Queue, now);
    true
}

fn lease(slot: &Slot, service: Service) -> Option<Lease> {
    let instance = slot.instance.as_ref()?;
    (!slot.ending && instance.is_open(service)).then(|| Lease::new(Arc::clone(instance), service))
}
