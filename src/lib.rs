//! session-gateway

pub mod activator;
pub mod cli;
pub mod demo;
pub mod session;
pub mod shutdown;
