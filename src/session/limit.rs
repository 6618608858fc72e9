//! Why no more sessions are started for now.

use std::time::Duration;

/// When to look again for a place among the sessions: people stop theirs in seconds to minutes.
const PLACE: Duration = Duration::from_secs(10);
/// When to look again for a place in the queue: starts take seconds.
const QUEUE: Duration = Duration::from_secs(5);

/// A limit that keeps a session from being started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    /// As many sessions as may be are there.
    #[error("as many sessions as there may be are there already ({most})")]
    Sessions {
        /// How many that is.
        most: usize,
    },
    /// Its user has as many as one may have.
    #[error("its user has as many sessions already as one may have ({most})")]
    UserSessions {
        /// How many that is.
        most: usize,
    },
    /// Its user has started as many within a minute as one may.
    #[error("its user has had as many sessions started within a minute as one may ({most})")]
    UserStarts {
        /// How many that is.
        most: usize,
        /// When the first of them is a minute ago.
        wait: Duration,
    },
    /// As many were started from one address within a minute as may be.
    #[error("as many sessions were started from this address within a minute as may be ({most})")]
    ClientStarts {
        /// How many that is.
        most: usize,
        /// When the first of them is a minute ago.
        wait: Duration,
    },
    /// As many starts as may be wait for their turn already.
    #[error("as many sessions wait to be started already as may ({most})")]
    Queue {
        /// How many that is.
        most: usize,
    },
}

impl Limit {
    /// Its stable name for programs.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Sessions { .. } => "sessions",
            Self::UserSessions { .. } => "sessions_of_user",
            Self::UserStarts { .. } => "starts_of_user",
            Self::ClientStarts { .. } => "starts_of_client",
            Self::Queue { .. } => "queue_full",
        }
    }

    /// What would help.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::Sessions { .. } => {
                "It can be started when another one is stopped. If that happens often, the limit is too low for what \
                 is asked of it."
            }
            Self::UserSessions { .. } => {
                "Stop one of the user's other sessions; its files are kept."
            }
            Self::UserStarts { .. } | Self::ClientStarts { .. } => {
                "A little later it can be started."
            }
            Self::Queue { .. } => "When some of them have been started there is room for it.",
        }
    }

    /// When it is worth trying again by itself.
    #[must_use]
    pub fn retry(self) -> Duration {
        match self {
            Self::Sessions { .. } | Self::UserSessions { .. } => PLACE,
            Self::UserStarts { wait, .. } | Self::ClientStarts { wait, .. } => wait,
            Self::Queue { .. } => QUEUE,
        }
    }

    /// Whether it is about how often, and not about how many.
    #[must_use]
    pub fn is_rate(self) -> bool {
        matches!(self, Self::UserStarts { .. } | Self::ClientStarts { .. })
    }
}
