//! Section `log` of the configuration, and where log lines go: standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::settings::Section;

/// What is logged, and how it is written.
#[derive(Debug, Clone, PartialEq)]
pub struct LogConfig {
    /// How a line is written.
    pub format: LogFormat,
    /// Which events are written.
    pub level: Targets,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people, with colours on a terminal.
    Text,
    /// One JSON object on each line.
    Json,
}

impl LogConfig {
    /// Reads the section.
    #[must_use]
    pub fn read(section: &mut Section<'_>) -> Self {
        Self {
            format: section.choice(
                "format",
                &[("text", LogFormat::Text), ("json", LogFormat::Json)],
            ),
            level: section
                .parsed(
                    "level",
                    "a level such as info or debug, or info,session_gateway::spawner=debug",
                    targets,
                )
                .unwrap_or_default(),
        }
    }
}

/// Starts logging, for the whole process.
///
/// # Errors
/// If logging was started before.
pub fn init(config: &LogConfig) -> Result<(), TryInitError> {
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let registry = tracing_subscriber::registry().with(config.level.clone());
    match config.format {
        LogFormat::Text => registry
            .with(lines.with_ansi(io::stderr().is_terminal()))
            .try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    }
}

/// Levels and targets. A target without a level is far more often a misspelled level than meant.
fn targets(text: &str) -> Option<Targets> {
    let is_level = |level: &str| !level.is_empty() && level.parse::<LevelFilter>().is_ok();
    let known = text.split(',').all(|part| match part.rsplit_once('=') {
        Some((target, level)) => !target.is_empty() && is_level(level),
        None => is_level(part),
    });
    known.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_without_a_target_is_not_taken_for_a_target() {
        for level in [
            "info",
            "OFF",
            "info,session_gateway::spawner=debug",
            "a=trace",
        ] {
            assert!(targets(level).is_some(), "{level}");
        }
        for level in [
            "",
            "inof",
            "info,",
            "info,session_gateway",
            "a=loud",
            "=info",
            "a=b=c",
        ] {
            assert!(targets(level).is_none(), "{level}");
        }
    }
}
