//! The listener.

mod config;

pub use config::GatewayConfig;
