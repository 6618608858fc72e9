//! The time of day, for records and people. What is only measured or waited for is tokio's `Instant`.

use std::time::Duration;

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

/// How long it is until this time of day; nothing if it is past.
#[must_use]
pub fn until(time: Timestamp) -> Duration {
    time.duration_since(now())
        .max(SignedDuration::ZERO)
        .unsigned_abs()
}

/// How long ago this time of day was; nothing if it is to come.
#[must_use]
pub fn since(time: Timestamp) -> Duration {
    now()
        .duration_since(time)
        .max(SignedDuration::ZERO)
        .unsigned_abs()
}
