//! The built-in services as processes of their own: what a session's browser gets from them, and how they end.

#![expect(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

mod chat;
mod code_server;
mod editor;
mod preview;
mod service;
