//! session-gateway

pub mod activator;
pub mod session;
pub mod shutdown;
