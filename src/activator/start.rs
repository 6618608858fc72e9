//! Starting a session: one straight line, in its own task on control, so that a client that leaves cannot cancel it.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    ActivateError, Activator,
    fact::{Fact, Facts},
    queue::NoTurn,
    spawner::SpawnError,
    table::Table,
};
use crate::session::{Grant, Limit, Reason, SessionId, Stage};

/// How a start ended that did not fail.
enum Outcome {
    /// All was asked for.
    Asked,
    /// The session was stopped before its turn.
    Withdrawn,
}

/// A start under way. Dropped unfinished, by a panic or with the runtime, it counts as failed, so that nobody waits
/// for it for ever.
struct Start {
    table: Arc<Table>,
    id: SessionId,
    finished: bool,
}

impl Activator {
    /// Starts a session because somebody says so: no earlier failure keeps it waiting. Of a session that runs, the
    /// services that failed are started again. Returns at once.
    pub fn start(self: &Arc<Self>, id: SessionId, grant: Grant) {
        self.table.apply(Fact::Forgiven(id));
        // Of nobody whose starts are counted.
        let _ = self.begin(id, grant, None);
    }

    /// As [`start`](Self::start), by a client.
    ///
    /// # Errors
    /// `Limited` if as many were started for it as may be.
    pub fn start_for(
        self: &Arc<Self>,
        client: IpAddr,
        id: SessionId,
        grant: Grant,
    ) -> Result<(), ActivateError> {
        self.table.apply(Fact::Forgiven(id));
        self.begin(id, grant, Some(client))
    }

    /// Starts the session unless this replica is at it already. Returns at once; the start goes on whoever leaves.
    ///
    /// # Errors
    /// `Limited` if as many were started for this client as may be. Somebody else may start it.
    pub(super) fn begin(
        self: &Arc<Self>,
        id: SessionId,
        grant: Grant,
        client: Option<IpAddr>,
    ) -> Result<(), ActivateError> {
        if self.table.slot(id).start.is_some() {
            return Ok(());
        }
        let asked = client.map_or(Ok(()), |client| self.limits.ask(client));
        asked.map_err(|limit| ActivateError::Limited(id, Arc::new(limit.into())))?;
        if !self.table.apply(Fact::Begun(id)) {
            return Ok(());
        }
        let start = Start {
            table: Arc::clone(&self.table),
            id,
            finished: false,
        };
        let activator = Arc::clone(self);
        self.drain.spawn("start", async move {
            let begun = Instant::now();
            let outcome = activator.run(id, grant, client).await;
            activator.records.forget(id);
            let (well, took) = (outcome.is_ok(), begun.elapsed());
            start.finish(outcome, took);
            activator.watcher.started(well, took);
        });
        Ok(())
    }

    async fn run(
        &self,
        id: SessionId,
        grant: Grant,
        client: Option<IpAddr>,
    ) -> Result<Outcome, SpawnError> {
        let plan = self.resolver.plan(id, grant).await?;
        let user: Arc<str> = plan.user.as_str().into();
        let limited = |limit: Limit| SpawnError::new(limit.into());
        let entered = self.limits.enter(&self.table, id, &user, client.is_some());
        entered.map_err(limited)?;
        let _turn = match self.queue.turn(id, &user).await {
            Ok(turn) => turn,
            Err(NoTurn::Withdrawn) => return Ok(Outcome::Withdrawn),
            Err(NoTurn::Full(most)) => return Err(limited(Limit::Queue { most })),
        };
        let mut stages = self.spawner.stages().iter();
        // Whether something has to go first is found out by what comes after.
        let first = stages.find(|stage| **stage > Stage::Former);
        let next = (id, *first.unwrap_or(&Stage::Port));
        let admitted = self.limits.admit(&self.table, next, &user).await;
        admitted.map_err(limited)?;
        let facts = Facts::new(Arc::clone(&self.table));
        self.spawner.ensure(id, &plan, &facts).await?;
        Ok(Outcome::Asked)
    }
}

impl Start {
    fn finish(mut self, outcome: Result<Outcome, SpawnError>, took: Duration) {
        self.finished = true;
        match outcome {
            Ok(outcome) => {
                match outcome {
                    Outcome::Asked => info!(session = %self.id, ?took, "session asked for"),
                    Outcome::Withdrawn => info!(session = %self.id, ?took, "start taken back"),
                }
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
