//! Section `local` of the configuration.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// Where local sessions live, and what they run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalConfig {
    /// The folder of all sessions.
    pub data: PathBuf,
    /// Between SIGTERM and SIGKILL when a service is ended.
    pub grace: Duration,
    /// By name of the service, what it runs; a service without runs the built-in one of its name.
    pub services: BTreeMap<String, Command>,
}

/// What one service runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Command {
    /// The command and its arguments, without a shell.
    pub command: Vec<String>,
    /// Its environment, beside what every service gets.
    pub env: BTreeMap<String, String>,
    /// The folder it runs in; the session's workspace if none.
    pub cwd: Option<PathBuf>,
}
