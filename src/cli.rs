//! The command line.

use clap::Parser;

pub mod demo;

/// The command line's commands.
#[derive(Debug, Parser)]
pub enum Command {
    /// A built-in service.
    #[command(hide = true)]
    Demo(demo::DemoArgs),
}

/// Runs what the command line says.
/// # Errors
/// What the command failed at.
pub fn run() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Demo(args) => args.run(),
    }
}
