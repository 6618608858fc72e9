//! `session-gateway config`.

use clap::Subcommand;

use super::{Failure, Settings, print};
use crate::config::DEFAULT;

/// Check a configuration, or print the defaults
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Read the configuration as `serve` would, and say what is wrong with it
    Check {
        #[command(flatten)]
        settings: Settings,
    },
    /// Print all settings with their defaults and what they mean, as a file to start from
    Default,
}

impl Command {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Check { settings } => {
                settings.load(None)?;
                print("the configuration is valid\n")
            }
            Self::Default => print(DEFAULT),
        }
    }
}
