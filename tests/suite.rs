//! The promises of the gateway, each in the file of its name, through real sockets.
//!
//! One binary, since linking costs more than most of the tests.
#![allow(
    clippy::disallowed_methods,
    clippy::large_futures,
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "tests spawn on their own runtime, and fail by panicking"
)]

mod activity;
mod admin;
mod age;
mod config;
mod connections;
mod crash;
mod demo;
mod hostile;
mod kubernetes;
mod limits;
mod local;
mod node;
mod pages;
mod pool;
mod profiles;
mod resolver;
mod retention;
mod routing;
mod rules;
mod sessions;
mod start;
mod streaming;
mod support;
mod websocket;
