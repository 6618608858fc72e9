//! The app.

use crate::config::Config;

/// Runs.
///
/// # Errors
/// Never.
pub fn run(config: Config) -> anyhow::Result<()> {
    drop(config);
    Ok(())
}
