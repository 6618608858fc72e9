//! `session-gateway supervise`: hidden; the local spawner starts one for each service.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use crate::supervise::{self, Order};

/// Runs one service of a local session and ends with all of its processes.
///
/// The end of standard input means stop.
#[derive(Debug, Args)]
pub(super) struct Supervise {
    /// Held while any process of the service lives.
    #[arg(long)]
    lock: PathBuf,
    /// Where it is left what became of the command.
    #[arg(long)]
    report: PathBuf,
    /// Between SIGTERM and SIGKILL.
    #[arg(long, value_parser = humantime::parse_duration)]
    grace: Duration,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl Supervise {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Self {
            lock,
            report,
            grace,
            command,
        } = self;
        Ok(supervise::run(&Order {
            lock,
            report,
            grace,
            command,
        })?)
    }
}
