//! That a session will be stopped by itself, and why.

use jiff::Timestamp;
use serde::Serialize;

/// A stop that is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub because: Because,
}

/// Why a session that runs is to be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Because {
    /// Nobody uses it. Any use takes that back.
    Idle,
    /// It has run for as long as a session may (`idle.max_age`). Nothing takes that back.
    MaxAge,
}

impl Because {
    /// Its stable name for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::MaxAge => "max_age",
        }
    }
}
