//! Sessions as processes.

mod config;

pub use config::{Command, LocalConfig};
