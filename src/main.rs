//! The program `session-gateway`; everything it does is in the library.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Buffers of a connection's beginning lie apart from what its websocket keeps, and go back to the system soon after:
/// otherwise the few bytes of each tunnel would pin pages of buffers that are gone. `.cargo/config.toml` says when.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    session_gateway::cli::main()
}
