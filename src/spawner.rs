//! What runs sessions: each room implements the traits of [`crate::activator`].

pub mod local;
