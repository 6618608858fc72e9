//! Section `admin` of the configuration.

use std::{net::SocketAddr, path::PathBuf};

use crate::settings::Section;

/// Where operators connect, and who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where the admin API, metrics and health are served.
    pub listen: SocketAddr,
    /// The file with the token that the API asks for; empty: it asks for none.
    pub token_file: PathBuf,
}

impl AdminConfig {
    /// Reads the section.
    #[must_use]
    pub fn read(section: &mut Section<'_>) -> Self {
        Self {
            listen: section.address("listen"),
            token_file: section.string("token_file").into(),
        }
    }
}
