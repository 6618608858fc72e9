//! What the durable records say of sessions that do not run, remembered for a second.
//!
//! A request for a session without a running instance has to know whether it is absent, stopped or vanished.

use std::{sync::Arc, time::Duration};

use super::{
    remembered::Remembered,
    spawner::{Seen, SpawnError, Spawner},
};
use crate::{
    session::{Reason, SessionId},
    shutdown::Drain,
};

/// How long an answer holds. Long enough for one page's burst of requests, short enough that what another replica
/// did meanwhile is seen at the next reload.
const FRESH: Duration = Duration::from_secs(1);

/// The remembered answers. One per replica.
pub(super) struct Records {
    spawner: Arc<dyn Spawner>,
    /// Apart for those that ran and those that did not when it was asked: what was read of a session that ran does not
    /// say whether it was stopped since.
    running: Remembered<Seen>,
    others: Remembered<Seen>,
}

impl Records {
    pub(super) fn new(spawner: Arc<dyn Spawner>) -> Self {
        // A failure took a while and answered all who waited; the next one is to see whether it works again.
        let fresh = |seen: &Result<_, _>| if seen.is_ok() { FRESH } else { Duration::ZERO };
        Self {
            spawner,
            running: Remembered::new(fresh),
            others: Remembered::new(fresh),
        }
    }

    /// The record of a session, at most a second old. Dropping the future leaves the read to the others who wait.
    pub(super) async fn look(
        &self,
        id: SessionId,
        runs: bool,
        drain: &Drain,
    ) -> Result<Seen, SpawnError> {
        let read = || async {
            let spawner = Arc::clone(&self.spawner);
            // On control: a worker waits for no disk and no API server.
            let read = drain.spawn("look", async move { spawner.look(id).await });
            read.await
                .unwrap_or_else(|_| Err(SpawnError::new(Reason::Internal)))
        };
        let answers = if runs { &self.running } else { &self.others };
        answers.get(id, read).await
    }

    /// Forgets a session whose record this replica has changed.
    pub(super) fn forget(&self, id: SessionId) {
        self.running.forget(id);
        self.others.forget(id);
    }
}
