//! What makes sessions.

pub mod local;
