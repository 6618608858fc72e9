//! `session-gateway completion`.

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::{Shell, generate};

use super::{Cli, Failure, print};

/// Print a script that completes this program's command line in a shell
///
/// To try it in bash: source <(session-gateway completion bash)
/// For every bash: session-gateway completion bash > /etc/bash_completion.d/session-gateway
/// For zsh: session-gateway completion zsh > "${fpath[1]}/_session-gateway"
/// For fish: session-gateway completion fish > ~/.config/fish/completions/session-gateway.fish
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Completion {
    /// Whose script
    #[arg(value_name = "SHELL", value_enum)]
    shell: Known,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Known {
    Bash,
    Zsh,
    Fish,
}

impl Completion {
    pub(super) fn run(self) -> Result<(), Failure> {
        let shell = match self.shell {
            Known::Bash => Shell::Bash,
            Known::Zsh => Shell::Zsh,
            Known::Fish => Shell::Fish,
        };
        // What is hidden is for this program itself.
        let whole = Cli::command();
        let shown = whole.get_subcommands().filter(|one| !one.is_hide_set());
        let shown: Vec<_> = shown.cloned().collect();
        let mut command = clap::Command::new("session-gateway")
            .version(env!("CARGO_PKG_VERSION"))
            .disable_help_subcommand(true)
            .subcommands(shown);
        let mut script = Vec::new();
        generate(shell, &mut command, "session-gateway", &mut script);
        // Two places of clap's script spell a program's name with a hyphen in two ways (clap's issue 6421), and only
        // one of them is looked up.
        let script = String::from_utf8_lossy(&script);
        print(&script.replace("session__subcmd__gateway", "session__gateway"))
    }
}
