//! The other end of a connection.

use std::net::IpAddr;

use http::HeaderValue;

/// Who is at the other end of a connection, and how it came.
#[derive(Debug)]
pub(super) struct Peer {
    /// Its address, as `X-Forwarded-For` has it; an IPv4 address is never written as an IPv6 one.
    pub address: HeaderValue,
    /// Whether the connection is encrypted.
    pub secure: bool,
    /// Whether it is one of `trusted_proxies`: what it says of a client is believed.
    pub trusted: bool,
}

impl Peer {
    pub(super) fn new(address: IpAddr, secure: bool, trusted: bool) -> Self {
        Self {
            address: HeaderValue::try_from(address.to_string()).expect("an address is ASCII"),
            secure,
            trusted,
        }
    }
}
