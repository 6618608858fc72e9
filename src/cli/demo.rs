//! `session-gateway demo NAME`: one built-in service, as a session's own process. Hidden: the local spawner starts it.

use anyhow::Context;
use clap::{Args, ValueEnum};

use crate::demo::{self, Demo, Environment};

/// Runs a built-in service of a session.
///
/// PORT says where it listens, WORKSPACE which folder it shows (default: the current one).
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Which one.
    name: Name,
    /// vscode: the built-in editor, even where code-server is installed.
    #[arg(long)]
    builtin: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Name {
    Preview,
    Chat,
    Vscode,
}

impl DemoArgs {
    /// Runs the service until SIGTERM or SIGINT.
    /// # Errors
    /// The environment is not one of a service, its workspace cannot be made, or its port is not free.
    pub(super) fn run(self) -> anyhow::Result<()> {
        let environment = Environment::read()?;
        let demo = match self.name {
            Name::Preview => Demo::Preview,
            Name::Chat => Demo::Chat,
            Name::Vscode => Demo::Vscode {
                builtin: self.builtin,
            },
        };
        let port = environment.port;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let ended = runtime.block_on(demo::run(demo, environment));
        // File work that still runs must not keep the process.
        runtime.shutdown_background();
        ended.with_context(|| {
            format!(
                "cannot run {} on port {port}",
                format!("{:?}", self.name).to_lowercase()
            )
        })
    }
}
