//! How a service's end travels from its supervisor to the gateway: as one JSON document in the service's lock file.
//!
//! Exit codes could not tell the program's from the supervisor's own, and a line among the program's output could be
//! written by the program. The file is written by the holder of its lock only, and read once that one has ended.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::session::ExitStatus;

/// How a supervised service ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// The supervisor was asked to end it.
    Stopped,
    /// Its main process ended, and nothing else of it was left.
    Exited(End),
    /// Its main process ended; processes it had started were still there and were ended.
    Abandoned(End),
    /// It could not be started: the operating system's words, with the command's name.
    Unrunnable(String),
}

/// How a process ended, as it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum End {
    /// By returning this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Outcome {
    /// Writes it into the lock file, which the supervisor had emptied when it took the lock.
    pub(super) fn write(&self, mut lock: &File) -> io::Result<()> {
        lock.write_all(&serde_json::to_vec(self)?)
    }

    /// Reads what the supervisor wrote that held this lock last.
    pub(super) async fn read(lock: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&tokio::fs::read(lock).await?)?)
    }
}

impl From<End> for ExitStatus {
    fn from(end: End) -> Self {
        match end {
            End::Code(code) => Self::Code(code),
            End::Signal(signal) => Self::Signal(signal),
        }
    }
}
