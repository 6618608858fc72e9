//! Doors for the fuzz targets (`tests/fuzz`), which see no more of this crate than anybody. Compiled for them alone.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderValue, request, response};

use super::{
    Peer,
    connection::{may_be_whole, parse},
    headers::{self, Hop, Public, ScrubError},
    http1::Reading,
    proxy_protocol,
    tunnel::Scanner,
    upstream::{Finder, Head},
};
use crate::session::ServiceSpec;

/// The way of a request to its service, as far as the header rules ask.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a> {
    /// The service.
    pub spec: &'a ServiceSpec,
    /// The public path of it.
    pub prefix: &'a str,
    /// Whether the client's connection is encrypted.
    pub secure: bool,
    /// Whether the client is believed what it says of others.
    pub trusted: bool,
}

/// Makes the head that the service gets. `None` if it gets none; else whether it is the handshake of a websocket.
pub fn sent_on(head: &mut request::Parts, way: Way<'_>) -> Option<bool> {
    headers::flatten(head).ok()?;
    let peer = way.peer();
    let admitted = headers::admit(head, &peer, 8192).ok()?;
    let upgrade = admitted.upgrade.is_some();
    let hop = way.hop(&admitted.public, &peer);
    headers::prepare(head, &hop, admitted.names, upgrade);
    Some(upgrade)
}

/// Makes the head that the client gets. `None` if it gets none.
pub fn sent_back(head: &mut response::Parts, way: Way<'_>) -> Option<()> {
    let public = Public::new(HeaderValue::from_static("gw.test"), way.secure)?;
    headers::scrub(head, &way.hop(&public, &way.peer())).ok()?;
    Some(())
}

/// An answer, as it is read.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Of its body, what came.
    pub body: Vec<u8>,
    /// How many bytes are left behind it, if all of it came.
    pub left: Option<usize>,
}

/// Reads all that a service writes before it closes the connection, as the answer to a GET, in these pieces. `None` if
/// it gets no further than the head.
pub fn answered<'a>(pieces: impl Iterator<Item = &'a [u8]>, way: Way<'_>) -> Option<Answer> {
    let (mut finder, mut unread) = (Finder::new(), Vec::new());
    let mut begun: Option<(Answer, Reading)> = None;
    // The end, at last.
    for piece in pieces.chain([&[][..]]) {
        unread.extend_from_slice(piece);
        if begun.is_none() {
            let (head, at) = finder.find(&unread).ok()?;
            unread.drain(..at);
            begun = head.map(|head| begin(head, way)).transpose().ok()?;
        }
        let Some((answer, reading)) = &mut begun else {
            continue;
        };
        if *reading == Reading::Whole || unread.is_empty() && !piece.is_empty() {
            continue;
        }
        let Ok((body, rest)) = reading.take(std::mem::take(&mut unread).into()) else {
            answer.left = None;
            return begun.map(|(answer, _)| answer);
        };
        answer.body.extend_from_slice(&body);
        unread = rest.into();
    }
    let (answer, reading) = begun?;
    let left = (reading == Reading::Whole).then_some(unread.len());
    Some(Answer { left, ..answer })
}

fn begin(mut head: Head, way: Way<'_>) -> Result<(Answer, Reading), ScrubError> {
    let peer = way.peer();
    let public =
        Public::new(HeaderValue::from_static("gw.test"), false).ok_or(ScrubError::Unasked)?;
    let framing = headers::scrub(&mut head.parts, &way.hop(&public, &peer))?;
    let status = head.parts.status.as_u16();
    let reading = match status {
        204 | 304 => Reading::Whole,
        _ => Reading::new(framing),
    };
    let answer = Answer {
        status,
        body: Vec::new(),
        left: None,
    };
    Ok((answer, reading))
}

/// A request, as it is read.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its method, target and version.
    pub line: String,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

/// Reads the whole requests that a client writes, up to what is none, or to one that is the last.
///
/// # Panics
/// If a head would be found before it is whole, or not be looked for then.
#[must_use]
pub fn asked(bytes: &[u8]) -> Vec<Asked> {
    let (mut all, mut left) = (Vec::new(), bytes);
    while let Ok(Some((head, length))) = parse(left, 8192) {
        for from in 0..length {
            assert!(may_be_whole(&left[..length], from), "it is whole");
            let found = parse(&left[..from], 8192).map(|found| found.is_some());
            assert!(!found.unwrap_or(false), "it is whole before its end");
        }
        let (mut body, mut reading) = (Vec::new(), head.body);
        left = &left[length..];
        if !reading.is_whole() {
            let Ok((read, rest)) = reading.take(left.to_vec().into()) else {
                return all;
            };
            body.extend_from_slice(&read);
            left = &left[left.len() - rest.len()..];
        }
        if !reading.is_whole() {
            return all;
        }
        let (method, uri, version) = (head.parts.method, head.parts.uri, head.parts.version);
        all.push(Asked {
            line: format!("{method} {uri} {version:?}"),
            headers: head.parts.headers,
            body,
        });
        if !head.keeps {
            return all;
        }
    }
    all
}

/// Reads a PROXY header: its length, and whose connection it announces. `None` if more of it is to come.
///
/// # Errors
/// If it is none.
pub fn proxied(bytes: &[u8]) -> std::io::Result<Option<(usize, Option<IpAddr>)>> {
    proxy_protocol::look(&bytes[..bytes.len().min(proxy_protocol::LONGEST)])
}

/// Follows the frames of a websocket.
#[derive(Debug, Default)]
pub struct Frames(Scanner);

impl Frames {
    /// Bytes go by to the end of the frame at hand. Returns how many.
    pub fn frame(&mut self, bytes: &[u8]) -> usize {
        self.0.frame(bytes)
    }

    /// Bytes go by. Returns how many data and control frames ended in them.
    pub fn scan(&mut self, bytes: &[u8]) -> (u64, u64) {
        let frames = self.0.scan(bytes, 0);
        (frames.data, frames.control)
    }

    /// Whether a frame begins here, whether a Close went by, and whether it is lost.
    #[must_use]
    pub fn state(&self) -> (bool, bool, bool) {
        (self.0.at_boundary(), self.0.is_closed(), self.0.is_lost())
    }
}

impl<'a> Way<'a> {
    fn peer(self) -> Peer {
        Peer::new([192, 0, 2, 7].into(), self.secure, self.trusted)
    }

    fn hop(self, public: &'a Public, peer: &'a Peer) -> Hop<'a> {
        Hop {
            spec: self.spec,
            prefix: self.prefix,
            public,
            peer,
            upstream: SocketAddr::from(([127, 0, 0, 1], 4321)),
        }
    }
}
