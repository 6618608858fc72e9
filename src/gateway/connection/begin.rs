//! The beginning of a connection, up to the first byte of a request: PROXY header, TLS, which version of HTTP.

use std::{io, net::SocketAddr, rc::Rc};

use rustix::net::sockopt::set_socket_keepalive;
use tokio::{net::TcpStream, time::sleep};
use tracing::warn;

use super::Open;
use crate::{
    gateway::{
        Gateway, Peer,
        io::{Io, Overdue, Socket, Stream},
        proxy_protocol::{self, AGAIN},
    },
    metrics::End,
};

/// What a client of HTTP/2 says first (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection on which a request may come.
pub(super) struct Begun {
    pub io: Io,
    pub overdue: Overdue,
    pub http2: bool,
    pub peer: Rc<Peer>,
}

/// Why none may come.
#[derive(Debug, thiserror::Error)]
pub(super) enum BeginError {
    /// Only trusted proxies may connect, and this is none.
    #[error("not a trusted proxy")]
    Stranger,
    /// This client has as many connections as it may.
    #[error("too many connections of this client")]
    Crowd,
    /// What should say whose connection it is does not.
    #[error("no header of the PROXY protocol")]
    Proxy(#[source] io::Error),
    /// Nothing was agreed on, or with an end that is not trusted.
    #[error("the handshake of TLS failed")]
    Tls(#[source] io::Error),
    /// The socket failed, or the client left.
    #[error(transparent)]
    Socket(#[from] io::Error),
}

impl BeginError {
    /// How the connection is counted. Health checks of balancers connect and say nothing.
    pub(super) fn end(&self) -> End {
        match self {
            Self::Stranger => End::Stranger,
            Self::Crowd => End::PerClient,
            Self::Proxy(error) | Self::Tls(error) | Self::Socket(error)
                if error.kind() == io::ErrorKind::UnexpectedEof =>
            {
                End::Closed
            }
            Self::Proxy(_) => End::Proxy,
            Self::Tls(_) => End::Tls,
            Self::Socket(_) => End::Broken,
        }
    }
}

/// Makes it one. Waits for the client as long as the caller lets it.
pub(super) async fn begin(
    gateway: &Gateway,
    mut stream: TcpStream,
    from: SocketAddr,
    open: Open,
) -> Result<Begun, BeginError> {
    let shared = &gateway.shared;
    stream.set_nodelay(true)?;
    set_socket_keepalive(&stream, true).map_err(io::Error::from)?;
    let mut address = from.ip().to_canonical();
    let trusted = shared
        .config
        .trusted_proxies
        .iter()
        .any(|network| network.contains(&address));
    if shared.config.proxy_protocol {
        if !trusted {
            if shared.connections.says_stranger() {
                warn!(%address, "connection closed: proxy_protocol is set, and this is none of trusted_proxies");
            }
            return Err(BeginError::Stranger);
        }
        let said = proxy_protocol::read(&mut stream).await;
        address = said.map_err(BeginError::Proxy)?.unwrap_or(address);
    }
    let of = shared.connections.of(address, &shared.config.limits);
    let of = of.ok_or(BeginError::Crowd)?;
    let (write, overdue) = (shared.config.timeouts.write, Overdue::default());
    let (stream, http2, secure) = if let Some(tls) = &shared.tls {
        let socket = Socket::new(stream, write, overdue.clone());
        let (stream, http2) = tls.accept(socket).await.map_err(BeginError::Tls)?;
        (Stream::Tls(stream), http2, true)
    } else {
        let http2 = speaks_http2(&stream).await?;
        let socket = Socket::new(stream, write, overdue.clone());
        (Stream::Plain(socket), http2, false)
    };
    let peer = Rc::new(Peer::new(address, secure, trusted));
    Ok(Begun {
        io: Io::new(stream, (open, of)),
        overdue,
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
