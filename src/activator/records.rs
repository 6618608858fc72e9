//! What the durable records say of sessions that do not run, and what others said last, remembered for a moment.
//!
//! A request for a session without a running instance has to know whether it is absent, stopped or vanished.

use std::{sync::Arc, time::Duration};

use super::{
    remembered::Remembered,
    spawner::{Inspect, Seen, SpawnError, Spawner},
};
use crate::{
    session::{Reason, SessionId},
    shutdown::Drain,
};

/// How long an answer holds. Long enough for one page's burst of requests, short enough that what another replica
/// did meanwhile is seen at the next reload.
const FRESH: Duration = Duration::from_secs(1);

/// The same of the last lines of a session's services, whether they could be read or not: however often its page is
/// looked at, whoever has them is asked no more than that.
const FRESH_LINES: Duration = Duration::from_secs(2);
/// So many lines of each service are remembered, and so many characters of each.
const LINES: (usize, usize) = (5, 200);

/// The last lines of each service.
type Lines = Arc<[String]>;

/// The remembered answers. One per replica.
pub(super) struct Records {
    spawner: Arc<dyn Spawner>,
    inspect: Arc<dyn Inspect>,
    lines: Remembered<Lines>,
    /// Apart for those that ran and those that did not when it was asked: what was read of a session that ran does not
    /// say whether it was stopped since.
    running: Remembered<Seen>,
    others: Remembered<Seen>,
}

impl Records {
    pub(super) fn new(spawner: Arc<dyn Spawner>, inspect: Arc<dyn Inspect>) -> Self {
        // A failure took a while and answered all who waited; the next one is to see whether it works again.
        let fresh = |seen: &Result<_, _>| if seen.is_ok() { FRESH } else { Duration::ZERO };
        Self {
            spawner,
            inspect,
            lines: Remembered::new(|_| FRESH_LINES),
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

    /// What each service of a session said last, two seconds old at most.
    pub(super) async fn lines(&self, id: SessionId) -> Result<Lines, SpawnError> {
        let read = async || {
            let tails = self.inspect.tail(id).await?;
            Ok(tails.iter().map(|tail| last(tail)).collect())
        };
        self.lines.get(id, read).await
    }

    /// Forgets a session whose record this replica has changed.
    pub(super) fn forget(&self, id: SessionId) {
        self.running.forget(id);
        self.others.forget(id);
    }
}

fn last(text: &str) -> String {
    let (lines, width) = LINES;
    let mut last: Vec<String> = text
        .lines()
        .rev()
        .take(lines)
        .map(|line| line.chars().take(width).collect())
        .collect();
    last.reverse();
    last.join("\n")
}
