//! Starting a session: one straight line, in its own task on control, so that a client that leaves cannot cancel it.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::Instant};
use tracing::{info, warn};

use super::{
    Activator,
    fact::{Fact, Facts},
    spawner::SpawnError,
    table::Table,
};
use crate::session::{Grant, Reason, SessionId, Stage};

/// Whose turn it is to start: first come, first served, so many at a time.
pub(super) struct Queue(Semaphore);

impl Queue {
    pub(super) fn of(places: usize) -> Self {
        Self(Semaphore::new(places))
    }
}

/// A start under way. Dropped unfinished, by a panic or with the runtime, it counts as failed, so that nobody waits
/// for it for ever.
struct Start {
    table: Arc<Table>,
    id: SessionId,
    finished: bool,
}

impl Activator {
    /// Starts the session unless this replica is at it already. Returns at once; the start goes on whoever leaves.
    pub(super) fn begin(self: &Arc<Self>, id: SessionId, grant: Grant) {
        if !self.table.apply(Fact::Begun(id)) {
            return;
        }
        let start = Start {
            table: Arc::clone(&self.table),
            id,
            finished: false,
        };
        let activator = Arc::clone(self);
        self.drain.spawn("start", async move {
            let begun = Instant::now();
            let outcome = activator.run(id, grant).await;
            activator.records.forget(id);
            activator.watcher.started(outcome.is_ok(), begun.elapsed());
            start.finish(outcome, begun.elapsed());
        });
    }

    async fn run(&self, id: SessionId, grant: Grant) -> Result<(), SpawnError> {
        let plan = self.resolver.plan(id, grant).await?;
        let facts = Facts::new(Arc::clone(&self.table));
        let turn = self.queue.0.acquire().await;
        turn.as_ref()
            .map_err(|_| SpawnError::new(Reason::Internal))?;
        if let Some(first) = self
            .spawner
            .stages()
            .iter()
            .find(|stage| **stage > Stage::Queue)
        {
            facts.stage(id, *first);
        }
        self.spawner.ensure(id, &plan, &facts).await
    }
}

impl Start {
    fn finish(mut self, outcome: Result<(), SpawnError>, took: Duration) {
        self.finished = true;
        match outcome {
            Ok(()) => {
                info!(session = %self.id, ?took, "session asked for");
                self.table.apply(Fact::Done(self.id));
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(tracing::field::display);
                let detail = error.reason.detail();
                warn!(session = %self.id, ?took, %error, detail, cause, "session not started");
                self.table.apply(Fact::Failed(self.id, error.reason));
            }
        }
    }
}

impl Drop for Start {
    fn drop(&mut self) {
        if !self.finished {
            self.table
                .apply(Fact::Failed(self.id, Arc::new(Reason::Internal)));
        }
    }
}
