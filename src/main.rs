//! session-gateway: hands the command line to `cli`.

fn main() -> anyhow::Result<()> {
    session_gateway::cli::run()
}
