//! When a start that failed may be tried again.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::session::{Failure, Reason};

/// First pause after a failure; doubled with each further one in a row.
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// Longest pause after failures: a person who mends the cause elsewhere and reloads should not wait longer.
pub(super) const LAST_RETRY: Duration = Duration::from_secs(300);
/// The pause while what runs sessions, or says what they are made from, cannot be reached: no session is at fault, and
/// it is asked at most so often.
const SOON: Duration = Duration::from_secs(1);

impl Failure {
    pub(super) fn after(before: Option<&Self>, reason: Arc<Reason>, now: Instant) -> Self {
        let attempts = before.map_or(1, |before| before.attempts.saturating_add(1));
        let pause = match *reason {
            Reason::Unavailable { .. } | Reason::Unresolved { .. } => SOON,
            Reason::Limited(limit) => limit.retry(),
            _ => FIRST_RETRY
                .saturating_mul(1 << (attempts - 1).min(16))
                .min(LAST_RETRY),
        };
        Self {
            passes: reason.passes(),
            reason,
            retry_at: now + pause,
            attempts,
        }
    }

    pub(super) fn that_passes(self, passes: bool) -> Self {
        Self { passes, ..self }
    }
}
