//! Stopping sessions that have run for as long as they may (`idle.max_age`), however much they are used.
//!
//! Their age counts from when what runs was made, which every replica sees. So all of them know when that is without a
//! word to each other, and each tells those who follow the session, a countdown before. Nothing takes it back: requests
//! are served until then. The replicas come one after the other, and the first one stops that very instance; the others
//! hear of it before their turn.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::info;
use uuid::Uuid;

use super::{Activator, Fact, IdleConfig, Instance, InstanceUid, Named, SpawnError};
use crate::{
    session::{SessionId, clock},
    shutdown::Stage,
};

/// The shortest and the longest time between two looks for sessions that come to their age; a quarter of the time that
/// they run without being told of it, if that is in between.
const LOOKS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(60));
/// How much later than the replica that started a session the others come, and within which time: it may be gone.
const LATER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(2));
/// The pause after an instance could not be stopped, or was not to be found.
const PAUSE: Duration = Duration::from_secs(1);

/// Why a session is not kept from being stopped.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeepError {
    /// It is stopped at this time because of its age, which nothing takes back.
    #[error(
        "session {0} has run for as long as a session may (idle.max_age), and is stopped at {1}: its files are kept, and \
         the next visit starts it again"
    )]
    Aged(SessionId, Timestamp),
    /// Its announced stop could not be taken back.
    #[error("the announced stop of session {0} cannot be taken back")]
    Spawner(SessionId, #[source] SpawnError),
}

impl IdleConfig {
    /// How long the instance may run yet; `None` where there is no such limit.
    fn left(&self, instance: &Instance) -> Option<Duration> {
        let age = instance.age().filter(|_| !self.max_age.is_zero())?;
        Some(self.max_age.saturating_sub(age))
    }
}

impl Activator {
    /// Sees to those of these times that come to their age, until the process ends.
    pub(super) async fn look_for_age(self: Arc<Self>, idle: IdleConfig) {
        let pause = (idle.max_age.saturating_sub(idle.countdown) / 4).clamp(LOOKS.0, LOOKS.1);
        let mut followed: HashMap<InstanceUid, Arc<Instance>> = HashMap::new();
        loop {
            // In this order, or what is listed between the two would be seen late. What ran before this replica did is
            // known all at once.
            let listed = self.table.listed.notified();
            let mut soon = HashMap::new();
            for (id, slot) in self.table.sessions() {
                let Some(instance) = slot.instance.filter(|_| !slot.ending) else {
                    continue;
                };
                let left = idle.left(&instance);
                let is_soon = left.is_some_and(|left| left <= idle.countdown + pause);
                if !is_soon || self.idle.of(&instance) != idle {
                    continue;
                }
                let uid = instance.uid();
                let known = followed.get(&uid);
                if known.is_none_or(|known| !Arc::ptr_eq(known, &instance)) {
                    self.follow_age(id, &instance, idle);
                }
                soon.insert(uid, instance);
            }
            followed = soon;
            tokio::select! {
                () = listed => {}
                () = sleep(pause) => {}
                () = self.drain.reached(Stage::Draining) => return,
            }
        }
    }

    fn follow_age(self: &Arc<Self>, id: SessionId, instance: &Arc<Instance>, idle: IdleConfig) {
        let (activator, instance) = (Arc::clone(self), Arc::clone(instance));
        self.drain.spawn("age", async move {
            let ended = activator.drain.clone();
            tokio::select! {
                () = activator.grow_old(id, &instance, idle) => {}
                () = instance.ended() => {}
                () = ended.reached(Stage::Ended) => {}
            }
        });
    }

    /// Tells that it will be stopped, and stops it. Goes on until it is cancelled by the instance's end.
    async fn grow_old(&self, id: SessionId, instance: &Arc<Instance>, idle: IdleConfig) {
        let (Some(left), Some(made)) = (idle.left(instance), instance.made()) else {
            return;
        };
        let told = left.saturating_sub(idle.countdown);
        sleep_until(Instant::now() + told).await;
        // Where it is told too late, it is told for as long all the same. Otherwise all replicas tell one time.
        let (stop, due) = if left < idle.countdown {
            (clock::now() + idle.countdown, idle.countdown)
        } else {
            (made + idle.max_age, left - told)
        };
        let uid = instance.uid();
        let mut due = Instant::now() + due;
        self.table.apply(Fact::Aged(id, uid, stop));
        info!(session = %id, %stop, "it has run for as long as it may, and will be stopped");
        if !instance.was_started_here() {
            let [turn, ..] = Uuid::new_v4().into_bytes();
            due += LATER.0 + LATER.1.mul_f64(f64::from(turn) / f64::from(u8::MAX));
        }
        loop {
            sleep_until(due).await;
            if self.expire(Named { id, uid }, None).await {
                return;
            }
            due = Instant::now() + PAUSE;
        }
    }
}
