//! Removing sessions with their workspaces: because somebody says so, or because nobody has used them for long.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::{Activator, Fact, Facts, Listed, SpawnError};
use crate::{
    session::{Reason, SessionId, clock},
    settings::Section,
    shutdown::Stage,
};

/// The shortest and the longest time between two looks for sessions that are to be removed; a twentieth of
/// `retention.after`, if that is in between.
const LOOKS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(6 * 3600));
/// Records that are read at a time.
const PAGE: usize = 1000;

/// When sessions that nobody uses are removed, with their workspaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionConfig {
    /// After so long without use; zero: never.
    pub after: Duration,
    /// How many within a minute, by one replica.
    pub per_minute: u32,
}

impl RetentionConfig {
    /// Reads the section.
    #[must_use]
    pub fn read(section: &mut Section<'_>) -> Self {
        Self {
            after: section.duration("after"),
            per_minute: section.integer("per_minute", 1..=10_000),
        }
    }

    fn looks(&self) -> Duration {
        let (shortest, longest) = LOOKS;
        (self.after / 20).clamp(shortest, longest)
    }
}

impl Activator {
    /// Removes a session with its workspace, and ends what runs of it. It may take some time yet until all of it is
    /// gone. Returns whether there was anything. Dropping the future abandons the wait, never the removal.
    ///
    /// # Errors
    /// If it is not ours to remove, or cannot be removed; the next call goes on from there.
    pub async fn delete(self: &Arc<Self>, id: SessionId) -> Result<bool, SpawnError> {
        let activator = Arc::clone(self);
        self.queue.withdraw(id);
        let delete = self
            .drain
            .spawn("delete", async move { activator.remove(id, None).await });
        delete
            .await
            .unwrap_or_else(|_| Err(SpawnError::new(Reason::Internal)))
    }

    async fn remove(&self, id: SessionId, unused: Option<Timestamp>) -> Result<bool, SpawnError> {
        let facts = Facts::new(Arc::clone(&self.table));
        let removed = self.spawner.delete(id, unused, &facts).await;
        self.records.forget(id);
        if removed.is_ok() {
            self.table.apply(Fact::Forgiven(id));
        }
        removed
    }

    /// The sessions that are to be removed, since nobody has used them for long. Those that are protected are among
    /// them: whoever removes them asks. Reads all records.
    ///
    /// # Errors
    /// If the records cannot be listed.
    pub async fn unused(&self) -> Result<Vec<Listed>, SpawnError> {
        let mut unused = Vec::new();
        let Some(since) = self.since() else {
            return Ok(unused);
        };
        let mut after = None;
        loop {
            let page = self.inspect.list(after, PAGE).await?;
            after = page.last().map(|last| last.id);
            let is_last = page.len() < PAGE;
            unused.extend(page.into_iter().filter(|listed| {
                let used = listed.seen.used.or(listed.made);
                used.is_some_and(|used| used < since) && !self.table.slot(listed.id).is_alive()
            }));
            if is_last {
                return Ok(unused);
            }
        }
    }

    /// What was not used since then is to be removed. `None`: nothing is.
    fn since(&self) -> Option<Timestamp> {
        let after = self.retention.after;
        let after = SignedDuration::try_from(after)
            .ok()
            .filter(|after| !after.is_zero())?;
        clock::now().checked_sub(after).ok()
    }

    /// Removes what nobody has used for long, until the process ends.
    pub(super) async fn retain(self: Arc<Self>) {
        let pause = Duration::from_secs(60) / self.retention.per_minute;
        let mut next = Instant::now();
        while let Some(since) = self.since() {
            next = next.max(Instant::now() + self.retention.looks());
            if self.ends_before(next).await {
                return;
            }
            let unused = match self.unused().await {
                Ok(unused) => unused,
                Err(error) => {
                    warn!(%error, "it is not known which sessions nobody uses");
                    continue;
                }
            };
            for listed in unused {
                if self.let_go(&listed, since).await {
                    next = Instant::now() + pause;
                    if self.ends_before(next).await {
                        return;
                    }
                }
            }
        }
    }

    /// Removes a session that nobody has used since then: it may have been, after it was listed. Returns whether there
    /// is to be a pause.
    async fn let_go(&self, listed: &Listed, since: Timestamp) -> bool {
        let id = listed.id;
        match self.remove(id, Some(since)).await {
            Ok(removed) => {
                if removed {
                    info!(session = %id, used = ?listed.seen.used, "nobody has used it for long");
                }
                removed
            }
            Err(error) => {
                warn!(session = %id, %error, "nobody has used it for long, and it cannot be removed");
                true
            }
        }
    }

    /// Waits until then; returns whether the process ends first.
    async fn ends_before(&self, then: Instant) -> bool {
        tokio::select! {
            () = sleep_until(then) => false,
            () = self.drain.reached(Stage::Draining) => true,
        }
    }
}
