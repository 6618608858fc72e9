//! The command line: reads arguments, calls one command, turns its result into an exit code.

mod completion;
mod config;
mod demo;
mod render;
mod serve;
mod sessions;
mod supervise;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, Sources, environment};
use crate::settings::Problems;

/// Everything was done.
const DONE: u8 = 0;
/// It was started and failed.
const FAILED: u8 = 1;
/// It was not started: the command line or the configuration is wrong. The same number as clap's.
const MISUSED: u8 = 2;
/// The gateway that was to be asked is not there.
const UNREACHABLE: u8 = 3;
/// The session that was meant is not there.
const MISSING: u8 = 4;

const AFTER_HELP: &str = "\
Without any configuration, `session-gateway serve` runs sessions with small demo services on this machine.

Exit codes: 0 done; 1 failed; 2 wrong usage or configuration, and nothing was started. There are more
of `sessions`.";

/// One address in front of all dev sessions, which starts a session on its first request.
#[derive(Debug, Parser)]
#[command(version, disable_help_subcommand = true, after_help = AFTER_HELP, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Render(render::Render),
    #[command(subcommand)]
    Config(config::Command),
    #[command(subcommand)]
    Sessions(sessions::Command),
    Completion(completion::Completion),
    #[command(hide = true)]
    Demo(demo::DemoArgs),
    #[command(hide = true)]
    Supervise(supervise::Supervise),
}

/// Where settings come from: the same for every command that has any.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Configuration")]
struct Settings {
    /// YAML file with the settings that differ from the defaults
    #[arg(long, short, value_name = "FILE")]
    config: Option<std::path::PathBuf>,

    /// Setting on top of file and environment, such as spawn.hold=30s
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

/// Why a command did not do what it should.
#[derive(Debug)]
enum Failure {
    /// It was not started.
    Config(Problems),
    /// It was not started: it is not clear what is meant.
    Usage(anyhow::Error),
    /// It was started and failed.
    Run(anyhow::Error),
    /// There was nobody to ask.
    Unreachable(anyhow::Error),
    /// There is no such session.
    Missing(anyhow::Error),
}

/// Runs the command that the arguments of this process name.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Serve(serve) => serve.run(),
        Command::Render(render) => render.run(),
        Command::Config(command) => command.run(),
        Command::Sessions(command) => command.run(),
        Command::Completion(completion) => completion.run(),
        Command::Demo(demo) => demo.run().map_err(Failure::Run),
        // It has its own way of telling how it went: its parent reads the code.
        Command::Supervise(supervise) => return supervise.run(),
    };
    let (text, code) = match result {
        Ok(()) => return DONE.into(),
        Err(Failure::Config(problems)) => (format!("invalid configuration\n{problems}"), MISUSED),
        Err(Failure::Usage(error)) => (format!("{error:#}"), MISUSED),
        Err(Failure::Run(error)) => (format!("{error:#}"), FAILED),
        Err(Failure::Unreachable(error)) => (format!("{error:#}"), UNREACHABLE),
        Err(Failure::Missing(error)) => (format!("{error:#}"), MISSING),
    };
    // Nobody reads the reason if standard error is closed: the code says enough.
    let _ = writeln!(io::stderr().lock(), "error: {text}");
    code.into()
}

impl Settings {
    /// The configuration, with `sets` on top of everything.
    fn load(self, sets: impl IntoIterator<Item = String>) -> Result<Config, Failure> {
        let mut sources = Sources {
            file: self.config,
            environment: environment(),
            sets: self.sets,
        };
        sources.sets.extend(sets);
        Ok(Config::load(&sources)?)
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::Config(problems)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Run(error)
    }
}

/// An address of the command line.
fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse()
        .map_err(|_| "expected an IP address and a port, such as 127.0.0.1:8000 or \"[::1]:8000\"")
}

/// Writes to standard output. A reader that went away, as `head` does, has what it wanted.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(anyhow::Error::new(error)
            .context("cannot write to standard output")
            .into()),
        Ok(()) | Err(_) => Ok(()),
    }
}
