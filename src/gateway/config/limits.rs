//! How much anybody may take, and how long each step may take.

use std::time::Duration;

use bytesize::ByteSize;

use crate::settings::Section;

/// How much anybody may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections of clients in all (`limits.connections`).
    pub connections: usize,
    /// Connections of one address (`limits.connections_per_client`).
    pub connections_per_client: usize,
    /// Requests of one session that are not answered yet (`limits.requests_per_session`).
    pub requests_per_session: usize,
    /// Open websockets of one session (`limits.tunnels_per_session`).
    pub tunnels_per_session: usize,
    /// Bytes of a request's target (`limits.target`).
    pub target: usize,
    /// Bytes of a request's head (`limits.head`).
    pub head: usize,
}

/// How long each step may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From the beginning of a connection to its first whole head (`timeouts.handshake`).
    pub handshake: Duration,
    /// Without a request on an open connection (`timeouts.idle`).
    pub idle: Duration,
    /// Without a byte of a request's body (`timeouts.body`).
    pub body: Duration,
    /// Without a client taking a byte of an answer that waits for it (`timeouts.write`).
    pub write: Duration,
    /// Until a service's port has accepted (`timeouts.connect`).
    pub connect: Duration,
    /// Until an answer begins, from the last byte of the request on (`timeouts.first_byte`).
    pub first_byte: Duration,
    /// Without a byte of either side of a websocket (`timeouts.websocket`).
    pub websocket: Duration,
}

impl Limits {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let many = 1..=1_000_000;
        Self {
            connections: section.integer("connections", many.clone()),
            connections_per_client: section.integer("connections_per_client", many.clone()),
            requests_per_session: section.integer("requests_per_session", many.clone()),
            tunnels_per_session: section.integer("tunnels_per_session", many),
            target: section.bytes("target", ByteSize::b(256)..=ByteSize::kib(60)),
            head: section.bytes("head", ByteSize::kib(4)..=ByteSize::mib(1)),
        }
    }
}

impl Timeouts {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            handshake: section.timeout("handshake"),
            idle: section.timeout("idle"),
            body: section.timeout("body"),
            write: section.timeout("write"),
            connect: section.timeout("connect"),
            first_byte: section.timeout("first_byte"),
            websocket: section.timeout("websocket"),
        }
    }
}
