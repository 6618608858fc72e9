//! The program `session-gateway`; everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    session_gateway::cli::main()
}
