//! The beginning of a connection, up to the first byte of a request: PROXY header, TLS, which version of HTTP.

use std::{io, net::SocketAddr};

use rustix::net::sockopt::set_socket_keepalive;
use tokio::{net::TcpStream, time::sleep};
use tracing::warn;

use super::Open;
use crate::gateway::{
    Gateway, Peer,
    io::{Io, Stream},
    proxy_protocol::{self, AGAIN},
};

/// What a client of HTTP/2 says first (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection on which a request may come.
pub(super) struct Begun {
    pub io: Io,
    pub http2: bool,
    pub peer: Peer,
}

/// Makes it one. Waits for the client as long as the caller lets it.
pub(super) async fn begin(
    gateway: &Gateway,
    mut stream: TcpStream,
    from: SocketAddr,
    open: Open,
) -> io::Result<Begun> {
    let shared = &gateway.shared;
    stream.set_nodelay(true)?;
    set_socket_keepalive(&stream, true)?;
    let mut address = from.ip().to_canonical();
    let trusted = shared
        .config
        .trusted_proxies
        .iter()
        .any(|network| network.contains(&address));
    if shared.config.proxy_protocol {
        if !trusted {
            if shared.connections.says() {
                warn!(%address, "connection closed: proxy_protocol is set, and this is none of trusted_proxies");
            }
            return Err(io::Error::other("not a trusted proxy"));
        }
        address = proxy_protocol::read(&mut stream).await?.unwrap_or(address);
    }
    let of = shared.connections.of(address, &shared.config.limits);
    let of = of.ok_or_else(|| io::Error::other("too many connections of this client"))?;
    let (stream, http2, secure) = if let Some(tls) = &shared.tls {
        let (stream, http2) = tls.accept(stream).await?;
        (Stream::Tls(stream), http2, true)
    } else {
        let http2 = speaks_http2(&stream).await?;
        (Stream::Plain(stream), http2, false)
    };
    let peer = Peer {
        address,
        secure,
        trusted,
    };
    Ok(Begun {
        io: Io::new(stream, (open, of)),
        http2,
        peer,
    })
}

/// Whether the client begins as one of HTTP/2 does that knows beforehand; what it said is still to be read.
async fn speaks_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut bytes = [0; PREFACE.len()];
    loop {
        let have = stream.peek(&mut bytes).await?;
        if have == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if bytes[..have] != PREFACE[..have] {
            return Ok(false);
        }
        if have == PREFACE.len() {
            return Ok(true);
        }
        // A part of it: the socket stays readable, so the rest cannot be waited for.
        sleep(AGAIN).await;
    }
}
