//! session-gateway

pub mod activator;
pub mod admin;
pub mod app;
pub mod cli;
pub mod client;
pub mod config;
pub mod demo;
pub mod gateway;
pub mod metrics;
pub mod pages;
pub mod session;
pub mod settings;
pub mod shutdown;
pub mod spawner;
pub mod telemetry;
