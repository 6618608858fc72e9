//! What proxies before this one say of a request, and what this one says of it.
//!
//! The word of a trusted proxy is believed, and of nobody else: it is dropped, whatever it was. What is said by the
//! nearest proxy is its last entry, and the only one that its client cannot have made up.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{
    CDN_LOOP, FORWARDED, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, admit::is_authority,
};
use crate::gateway::Peer;

/// What this gateway calls itself to other proxies, and to itself.
pub(super) const NAME: &str = "session-gateway";
/// The same with the version of the protocol (RFC 9110 section 7.6.3).
pub(super) const VIA: &str = "1.1 session-gateway";
/// The same of a request that came by HTTP/2.
pub(super) const VIA_HTTP2: &str = "2 session-gateway";
/// A request comes through a gateway once; through two, where one stands before the other; never a third time.
const PASSES: usize = 3;

/// The address under which a client knows this gateway: what its browser shows, and compares origins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::gateway) struct Public {
    /// Host, with the port if there is one. A field's value, since that is what most requests need it as: its bytes are
    /// shared and not checked again.
    host: HeaderValue,
    /// Whether the scheme is `https`.
    pub secure: bool,
}

impl Public {
    /// `None` if it is no host.
    pub(in crate::gateway) fn new(host: HeaderValue, secure: bool) -> Option<Self> {
        host.to_str()
            .is_ok_and(is_authority)
            .then_some(Self { host, secure })
    }

    /// The host, with the port if there is one.
    pub(in crate::gateway) fn host(&self) -> &str {
        self.host.to_str().expect("a host is visible ASCII")
    }

    /// The same as a field's value.
    pub(super) fn host_value(&self) -> HeaderValue {
        self.host.clone()
    }
}

/// The public address: as a trusted proxy says, else as the request itself does. `None` if that is no host.
pub(super) fn public(headers: &HeaderMap, host: &HeaderValue, peer: &Peer) -> Option<Public> {
    let own = Public::new(host.clone(), peer.secure)?;
    if !peer.trusted {
        return Some(own);
    }
    let said =
        |name, parameter| last(headers, name).or_else(|| forwarded(headers, parameter).pop());
    let host = match said(X_FORWARDED_HOST, "host") {
        Some(host) => HeaderValue::try_from(host).ok()?,
        None => own.host,
    };
    let secure = said(X_FORWARDED_PROTO, "proto").map_or(peer.secure, |scheme| {
        scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("wss")
    });
    Public::new(host, secure)
}

/// The addresses that the request came by, the client's first: `X-Forwarded-For` for the service.
pub(super) fn path(headers: &HeaderMap, peer: &Peer) -> HeaderValue {
    if !peer.trusted {
        return peer.address.clone();
    }
    let mut path: Vec<Vec<u8>> = entries(headers, &X_FORWARDED_FOR)
        .map(|entry| entry.as_bytes().to_vec())
        .collect();
    if path.is_empty() {
        let said = forwarded(headers, "for");
        path = said.into_iter().map(String::into_bytes).collect();
    }
    path.push(peer.address.as_bytes().to_vec());
    HeaderValue::try_from(path.join(&b", "[..])).expect("entries of a field's value make one")
}

/// The address of whoever sent the request to the first of our proxies, as far as these can tell.
pub(in crate::gateway) fn client(headers: &HeaderMap, peer: &Peer) -> IpAddr {
    let own = peer.address.to_str().ok();
    let said = || {
        let entry = last(headers, X_FORWARDED_FOR).or_else(|| forwarded(headers, "for").pop())?;
        address(&entry)
    };
    let said = if peer.trusted { said() } else { None };
    said.or_else(|| own?.parse().ok())
        .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

/// An address with or without brackets and port.
fn address(text: &str) -> Option<IpAddr> {
    let inside = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let bare = inside.map_or(text, |(address, _)| address);
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    bare.parse().ok().or_else(with_port)
}

/// Whether the request has come through gateways of this name too often. Services can call the public address.
pub(super) fn loops(headers: &HeaderMap) -> bool {
    let named = |name: &HeaderName, at: usize| {
        let word = |entry: &&str| entry.split([' ', '\t', ';']).nth(at) == Some(NAME);
        entries(headers, name).filter(word).count()
    };
    named(&header::VIA, 1) >= PASSES || named(&CDN_LOOP, 0) >= PASSES
}

/// The entries of a list, over all lines (RFC 9110 section 5.6.1).
fn entries<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
}

fn last(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    entries(headers, &name).last().map(str::to_owned)
}

/// A parameter of every entry of `Forwarded` that has it (RFC 7239 section 4). Values hold no comma: none of a host, a
/// scheme or an address does.
fn forwarded(headers: &HeaderMap, parameter: &str) -> Vec<String> {
    entries(headers, &FORWARDED)
        .filter_map(|entry| {
            entry.split(';').find_map(|pair| {
                let (name, value) = pair.trim().split_once('=')?;
                name.eq_ignore_ascii_case(parameter)
                    .then(|| value.trim_matches('"').to_owned())
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN: HeaderValue = HeaderValue::from_static("in.test");

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn peer(trusted: bool) -> Peer {
        Peer::new([192, 0, 2, 7].into(), false, trusted)
    }

    #[test]
    fn a_trusted_proxy_is_believed_and_nobody_else() {
        type Row<'a> = (&'a [(&'static str, &'static str)], &'a str, bool, &'a str);
        let table: &[Row<'_>] = &[
            (&[], "in.test", false, "192.0.2.7"),
            (
                &[
                    ("x-forwarded-host", "made.up, dev.test:8443"),
                    ("x-forwarded-proto", "HTTPS"),
                    ("x-forwarded-for", "198.51.100.1"),
                    ("x-forwarded-for", "2001:db8::1"),
                ],
                "dev.test:8443",
                true,
                "198.51.100.1, 2001:db8::1, 192.0.2.7",
            ),
            (
                &[(
                    "forwarded",
                    "for=198.51.100.1;proto=http, For=\"[2001:db8::1]\"; Host=\"dev.test:1\";proto=https",
                )],
                "dev.test:1",
                true,
                "198.51.100.1, [2001:db8::1], 192.0.2.7",
            ),
        ];
        for (lines, host, secure, by) in table {
            let headers = headers(lines);
            let found = public(&headers, &IN, &peer(true)).unwrap();
            assert_eq!((found.host(), found.secure), (*host, *secure), "{lines:?}");
            assert_eq!(path(&headers, &peer(true)), *by, "{lines:?}");
            let found = public(&headers, &IN, &peer(false)).unwrap();
            assert_eq!((found.host(), found.secure), ("in.test", false));
            assert_eq!(path(&headers, &peer(false)), "192.0.2.7");
        }
        for (lines, said) in [
            (&[][..], "192.0.2.7"),
            (
                &[("x-forwarded-for", "203.0.113.9, 198.51.100.1")],
                "198.51.100.1",
            ),
            (&[("x-forwarded-for", "198.51.100.1:4711")], "198.51.100.1"),
            (&[("forwarded", "for=\"[2001:db8::1]:80\"")], "2001:db8::1"),
            (&[("forwarded", "for=_hidden")], "192.0.2.7"),
            (&[("x-forwarded-for", "unknown")], "192.0.2.7"),
        ] {
            let headers = headers(lines);
            assert_eq!(client(&headers, &peer(true)).to_string(), said, "{lines:?}");
            assert_eq!(client(&headers, &peer(false)).to_string(), "192.0.2.7");
        }
        let none = headers(&[("x-forwarded-host", "u@evil/x")]);
        assert_eq!(public(&none, &IN, &peer(true)), None);
    }
}
