//! The gateway's own part of the configuration: where it listens, and for whom.

use std::net::SocketAddr;

/// Where clients connect, and which of them are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayConfig {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// How many threads carry bytes, at least one.
    pub workers: usize,
    /// Names under which clients may come, without port; empty: any, or on a loopback address loopback names only.
    pub hosts: Vec<String>,
    /// User agents that only look at a link, in lower case, each a part of the name.
    pub link_previews: Vec<String>,
    /// Whether it is fine that whoever reaches the port may start and use sessions.
    pub none_is_fine: bool,
}
