//! Stopping sessions that nobody uses, from any replica and without a leader.
//!
//! A stop is announced first: what runs sessions tells all replicas when it will be. Whoever has seen use takes it back
//! at once; a request that comes meanwhile takes it back before it is sent on. What is not taken back by then is
//! stopped, if nothing about the instance has changed since it was looked at last. So a session in use can only be
//! stopped while the replica that serves it cannot reach what runs sessions for as long as the countdown lasts.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio::{
    sync::OnceCell,
    time::{Instant, interval, sleep, sleep_until, timeout_at},
};
use tracing::{debug, info, warn};

use super::{
    Activator, Fact, Facts, IdleConfig, Instance, InstanceUid, KeepError, Lease, Named, Slot,
    SpawnError,
};
use crate::{
    session::{Reason, Service, SessionId, clock},
    shutdown::Stage,
};

/// Sessions whose records are read at a time.
const AT_ONCE: usize = 8;
/// How much later than the replica that announced a stop the others see to it: that one may be gone.
const LATER: Duration = Duration::from_secs(10);
/// How long a request waits at most for an announced stop to be taken back.
const KEEP: Duration = Duration::from_secs(5);
/// The pause after what runs sessions could not be reached.
const PAUSE: Duration = Duration::from_secs(1);

/// What this replica has under way.
#[derive(Default)]
pub(super) struct Stops {
    /// Those that it announced itself.
    ours: Mutex<HashSet<InstanceUid>>,
    /// Those that are being taken back: one call for each that is announced, however many requests come.
    kept: Mutex<HashMap<(InstanceUid, Timestamp), Keeping>>,
}

type Keeping = Arc<OnceCell<Result<bool, SpawnError>>>;

impl Stops {
    fn ours(&self) -> MutexGuard<'_, HashSet<InstanceUid>> {
        self.ours.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<(InstanceUid, Timestamp), Keeping>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Activator {
    /// Announces the stop of those of these times that nobody uses, until the process ends.
    pub(super) async fn look_for_idle(self: Arc<Self>, idle: IdleConfig) {
        let mut ticks = interval(idle.looks());
        // When each is worth a look at its record: another replica may have seen use.
        let mut due: HashMap<InstanceUid, Instant> = HashMap::new();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.drain.reached(Stage::Draining) => return,
            }
            let now = Instant::now();
            let mut unused = Vec::new();
            let mut later = HashMap::new();
            for (id, slot) in self.table.sessions() {
                let Some(instance) = slot.instance.filter(|_| !slot.ending) else {
                    continue;
                };
                if self.idle.of(&instance) != idle {
                    continue;
                }
                instance.next_window();
                if idle.after.is_zero() || slot.stop.or(slot.last).is_some() {
                    continue;
                }
                // One that has only just been seen may have been started elsewhere, and not been stamped yet.
                if self.is_used(&instance) || instance.since().elapsed() < idle.after {
                    continue;
                }
                let uid = instance.uid();
                match due.get(&uid) {
                    Some(at) if now < *at => drop(later.insert(uid, *at)),
                    _ => unused.push(Named { id, uid }),
                }
            }
            let looks = stream::iter(unused).map(|named| self.look_at(named, idle));
            let looked: Vec<_> = looks.buffer_unordered(AT_ONCE).collect().await;
            later.extend(looked);
            due = later;
        }
    }

    /// Announces the stop of a session that nobody uses here, unless its record says that it is used elsewhere. Returns
    /// when it is worth another look.
    async fn look_at(&self, named: Named, idle: IdleConfig) -> (InstanceUid, Instant) {
        let soon = Instant::now() + idle.looks();
        let used = match self.spawner.look(named.id).await {
            Ok(seen) => seen.used,
            Err(error) => {
                warn!(session = %named.id, %error, "its record cannot be read: it is not stopped for want of use");
                return (named.uid, soon);
            }
        };
        let unused = used.map_or(Duration::MAX, clock::since);
        let left = idle.after.checked_sub(unused);
        if let Some(left) = left.filter(|left| !left.is_zero()) {
            return (named.uid, Instant::now() + left);
        }
        let stop = clock::now() + idle.countdown;
        self.stops.ours().insert(named.uid);
        let facts = Facts::new(Arc::clone(&self.table));
        if let Err(error) = self.spawner.announce(named, stop, &facts).await {
            self.stops.ours().remove(&named.uid);
            warn!(session = %named.id, %error, "a stop for want of use cannot be announced");
            return (named.uid, soon);
        }
        (named.uid, Instant::now() + idle.after)
    }

    /// Answers stops that are announced, by whichever replica, until the process ends.
    pub(super) async fn answer(self: Arc<Self>) {
        loop {
            let announced = tokio::select! {
                announced = self.table.announcements() => announced,
                () = self.drain.reached(Stage::Ended) => return,
            };
            for id in announced {
                let activator = Arc::clone(&self);
                self.drain.spawn("countdown", async move {
                    let ended = activator.drain.clone();
                    tokio::select! {
                        () = activator.count_down(id) => {}
                        () = ended.reached(Stage::Ended) => {}
                    }
                });
            }
        }
    }

    /// Takes an announced stop back as soon as there is use, or sees to it when its time has come.
    async fn count_down(&self, id: SessionId) {
        let slot = self.table.slot(id);
        let (Some(instance), Some(stop)) = (slot.instance, slot.stop) else {
            return;
        };
        let named = Named {
            id,
            uid: instance.uid(),
        };
        // By this replica's own measure of time as well: its clock may be ahead.
        let countdown = self.idle.of(&instance).countdown;
        let mut due = Instant::now() + clock::until(stop).max(countdown);
        if !self.stops.ours().remove(&named.uid) {
            due += LATER;
        }
        info!(session = %id, %stop, "it is not used, and will be stopped");
        loop {
            let waiters = self.table.slot(id).waiters;
            let changed = waiters.changed.notified();
            let slot = self.table.slot(id);
            if !is_announced(&slot, named.uid, stop) {
                return;
            }
            if self.is_used(&instance) {
                match self.keep(named, stop).await {
                    Ok(_) => return,
                    Err(error) => {
                        warn!(session = %id, %error, "it is used, and its announced stop cannot be taken back");
                        sleep(PAUSE).await;
                        continue;
                    }
                }
            }
            if due <= Instant::now() {
                if self.expire(named, Some(stop)).await {
                    return;
                }
                due = Instant::now() + PAUSE;
                continue;
            }
            tokio::select! {
                () = changed => {}
                () = instance.worked() => {}
                () = sleep_until(due) => {}
            }
        }
    }

    /// Stops what is to be stopped now: what that is announced of, or with no `stop` what has run for as long as it
    /// may. Returns whether there is nothing more to do about it.
    pub(super) async fn expire(&self, named: Named, stop: Option<Timestamp>) -> bool {
        let facts = Facts::new(Arc::clone(&self.table));
        let stopped = self.spawner.expire(named, stop, &facts).await;
        self.records.forget(named.id);
        match stopped {
            Ok(true) => {
                self.table.apply(Fact::Forgiven(named.id));
                let because = if stop.is_some() { "idle" } else { "max_age" };
                info!(session = %named.id, because, "session stopped");
                true
            }
            // The watch will say what has become of it.
            Ok(false) => false,
            Err(error) => {
                warn!(session = %named.id, %error, "its time has come, and it cannot be stopped");
                false
            }
        }
    }

    /// The right to send to a service that runs. A request that meets an announced stop takes it back first; if what
    /// runs sessions cannot be reached it is served all the same, since nearly always nobody can stop it then. `None`:
    /// it is to be looked at again.
    pub(super) async fn take(
        self: &Arc<Self>,
        slot: &Slot,
        id: SessionId,
        service: Service,
        deadline: Instant,
    ) -> Option<Lease> {
        let (Some(instance), Some(stop)) = (&slot.instance, slot.stop) else {
            return self.table.running(id, service);
        };
        let named = Named {
            id,
            uid: instance.uid(),
        };
        // On control, and to its end: others may wait for it.
        let keep = self.keep_on_control(named, stop);
        match timeout_at(deadline.min(Instant::now() + KEEP), keep).await {
            Ok(Ok(_)) => None,
            _ => {
                debug!(session = %id, %stop, "it is served, although its announced stop is not taken back so far");
                self.table.running_still(named.id, service)
            }
        }
    }

    /// Takes the stop back that was announced for this time, and records that the session is used. Returns whether it
    /// goes on. If another was announced meanwhile, it may have been announced after the call was answered by what runs
    /// sessions: that one is to be taken back for itself.
    async fn keep(&self, named: Named, stop: Timestamp) -> Result<bool, SpawnError> {
        let of = (named.uid, stop);
        let keeping = Arc::clone(self.stops.kept().entry(of).or_default());
        let keep = || async {
            let facts = Facts::new(Arc::clone(&self.table));
            let kept = self.spawner.keep(named, clock::now(), &facts).await?;
            self.table.apply(if kept {
                Fact::TakenBack(named.id, named.uid, stop)
            } else {
                Fact::Ending(named.id, named.uid)
            });
            Ok(kept)
        };
        let kept = keeping.get_or_init(keep).await.clone();
        let mut all = self.stops.kept();
        if all.get(&of).is_some_and(|now| Arc::ptr_eq(now, &keeping)) {
            all.remove(&of);
        }
        drop(all);
        self.records.forget(named.id);
        kept
    }

    /// Counts as use because somebody says so, and takes an announced stop back. Does nothing for a session that does
    /// not run.
    ///
    /// # Errors
    /// If an announced stop could not be taken back; or if it will be stopped because of its age, which nothing takes
    /// back.
    pub async fn keep_alive(self: &Arc<Self>, id: SessionId) -> Result<(), KeepError> {
        let slot = self.table.slot(id);
        let Some(instance) = slot.instance.filter(|_| !slot.ending) else {
            return Ok(());
        };
        instance.touch();
        let kept = match slot.stop {
            Some(stop) => {
                let uid = instance.uid();
                let kept = self.keep_on_control(Named { id, uid }, stop).await;
                kept.map(drop)
            }
            None => Ok(()),
        };
        kept.map_err(|error| KeepError::Spawner(id, error))?;
        match slot.last {
            Some(stop) => Err(KeepError::Aged(id, stop)),
            None => Ok(()),
        }
    }

    /// As [`keep`](Self::keep), to its end, whoever waits for that.
    async fn keep_on_control(
        self: &Arc<Self>,
        named: Named,
        stop: Timestamp,
    ) -> Result<bool, SpawnError> {
        let activator = Arc::clone(self);
        let keep = self
            .drain
            .spawn("keep", async move { activator.keep(named, stop).await });
        keep.await
            .unwrap_or_else(|_| Err(SpawnError::new(Reason::Internal)))
    }

    /// Whether this replica has seen use lately.
    fn is_used(&self, instance: &Instance) -> bool {
        // Others may stop sessions where this replica does not.
        let idle = self.idle.of(instance);
        let lately = if idle.after.is_zero() {
            idle.countdown
        } else {
            idle.after
        };
        instance
            .last_used()
            .is_some_and(|used| used.elapsed() < lately)
    }
}

fn is_announced(slot: &Slot, uid: InstanceUid, stop: Timestamp) -> bool {
    let is_same = slot
        .instance
        .as_ref()
        .is_some_and(|instance| instance.uid() == uid);
    is_same && !slot.ending && slot.stop == Some(stop)
}
