//! The time of day, for records and people. What is only measured or waited for is tokio's `Instant`.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// The time of day.
#[expect(clippy::disallowed_methods, reason = "the one clock for all records")]
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// The time of day at a moment that was measured, in the past.
#[must_use]
pub fn at(moment: Instant) -> Timestamp {
    let ago = SignedDuration::try_from(moment.elapsed()).unwrap_or(SignedDuration::MAX);
    now().checked_sub(ago).unwrap_or(Timestamp::UNIX_EPOCH)
}
