//! Section `admin` of the configuration.

use std::net::SocketAddr;

use crate::settings::Section;

/// Where operators connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where the admin API, metrics and health are served.
    pub listen: SocketAddr,
}

impl AdminConfig {
    /// Reads the section.
    #[must_use]
    pub fn read(section: &mut Section<'_>) -> Self {
        Self {
            listen: section.address("listen"),
        }
    }
}
