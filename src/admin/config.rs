//! Section `admin` of the configuration.

use std::net::SocketAddr;

/// Where operators connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where the admin API, metrics and health are.
    pub listen: SocketAddr,
}
