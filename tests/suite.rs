//! All tests that use the crate from outside, in one binary.

mod config;
mod sessions;
