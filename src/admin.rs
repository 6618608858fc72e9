//! The admin API.

mod config;

pub use config::AdminConfig;
