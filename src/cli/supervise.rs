//! `session-gateway supervise`: hidden; the local spawner starts one for each service.

use std::{ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;

use crate::spawner::local::supervisor::{self, Order};

/// Runs one service of a local session, and ends with all of its processes
///
/// The end of standard input means stop.
#[derive(Debug, Args)]
pub(super) struct Supervise {
    /// File whose lock is held while anything of the service runs, and into which its outcome is written
    #[arg(long, value_name = "FILE")]
    lock: PathBuf,

    /// How long the service may take to end before it is killed
    #[arg(long, value_parser = humantime::parse_duration)]
    grace: Duration,

    /// Where the service is started
    #[arg(long)]
    folder: PathBuf,

    /// The service's program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl Supervise {
    pub(super) fn run(self) -> ExitCode {
        let Self {
            lock,
            grace,
            folder,
            command,
        } = self;
        supervisor::run(&Order {
            lock,
            grace,
            folder,
            command,
        })
    }
}
