//! `session-gateway serve`.

use std::net::SocketAddr;

use clap::Args;

use super::{Failure, Settings};

/// Run the gateway until SIGTERM or SIGINT
///
/// Settings come from the built-in defaults, then FILE, then the environment, then the command line; what comes later
/// wins. `session-gateway config default` prints all of them.
///
/// In the environment, two underscores stand for each dot: SESSION_GATEWAY__SPAWN__HOLD=30s sets spawn.hold. A value is
/// read as YAML, so [a, b] is a list. Keys with a hyphen or a capital can be set in the file and with --set only.
///
/// With --set, commas separate pairs and {a,b} is a list; a backslash takes the meaning off a comma or a dot.
#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    settings: Settings,

    /// IP address and port where clients connect; the same as --set listen=ADDRESS
    #[arg(long, value_name = "ADDRESS", value_parser = super::address)]
    listen: Option<SocketAddr>,
}

impl Serve {
    pub(super) fn run(self) -> Result<(), Failure> {
        let listen = self.listen.map(|listen| format!("listen={listen}"));
        let config = self.settings.load(listen)?;
        Ok(crate::app::run(config)?)
    }
}
