//! When sessions were last used: each replica stamps what it has seen, at most once a minute and session.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::{Instant, interval};
use tracing::warn;

use super::{Activator, instance::InstanceUid};
use crate::{
    session::{SessionId, clock},
    shutdown::Stage,
};

/// How often use is written down. Idle times are minutes to hours; finer stamps would only load what keeps them.
const EVERY: Duration = Duration::from_secs(60);

impl Activator {
    /// Stamps the use of sessions and forgets old failures, until the process ends.
    pub(super) async fn note(self: Arc<Self>) {
        let mut stamped: HashMap<InstanceUid, Instant> = HashMap::new();
        let mut ticks = interval(EVERY);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.drain.reached(Stage::Draining) => return,
            }
            self.table.sweep();
            stamped = self.stamp(&stamped).await;
        }
    }

    /// Stamps the use of one session now, as far as it was used.
    pub(super) async fn stamp_session(&self, id: SessionId) {
        let Some(instance) = self.table.slot(id).instance else {
            return;
        };
        if let Some(used) = instance.last_used()
            && let Err(error) = self.spawner.stamp(id, clock::at(used)).await
        {
            warn!(session = %id, %error, "last use not recorded");
        }
    }

    /// Stamps every instance used since its last stamp; returns the stamps of those that still run.
    async fn stamp(&self, before: &HashMap<InstanceUid, Instant>) -> HashMap<InstanceUid, Instant> {
        let mut after = HashMap::new();
        for (id, slot) in self.table.sessions() {
            let Some(instance) = slot.instance.filter(|_| !slot.ending) else {
                continue;
            };
            let Some(used) = instance.last_used() else {
                continue;
            };
            if before
                .get(&instance.uid())
                .is_none_or(|stamped| used > *stamped)
                && let Err(error) = self.spawner.stamp(id, clock::at(used)).await
            {
                warn!(session = %id, %error, "last use not recorded");
                continue;
            }
            after.insert(instance.uid(), used);
        }
        after
    }
}
