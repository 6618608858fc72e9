//! Whether a request is fit to be looked at: framing, host, target, upgrade. A malformed one must start no session.

use std::borrow::Cow;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Version, header,
    request::Parts,
    uri::{Authority, PathAndQuery},
};

use super::{
    Names,
    forwarded::{self, Public},
};
use crate::gateway::{Peer, http1::FIELDS};

/// What a request that is fit has said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::gateway) struct Admitted {
    /// What its sender's browser shows as its address.
    pub public: Public,
    /// For the handshake of a websocket, what it offers.
    pub upgrade: Option<Offer>,
    /// What fields it has.
    pub names: Names,
}

/// What the handshake of a websocket says that its answer must fit (RFC 6455 section 4.1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::gateway) struct Offer {
    /// Its key: 16 bytes in base64.
    pub key: Vec<u8>,
    /// The lines of its subprotocols and of its extensions.
    pub lines: [Vec<HeaderValue>; 2],
}

/// What both ends of a websocket agree on.
pub(super) const NEGOTIATED: [HeaderName; 2] = [
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_EXTENSIONS,
];

/// What makes a request unfit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::gateway) enum AdmitError {
    /// A method that a gateway must not pass, or that is written wrongly.
    #[error("this method is not served")]
    Method,
    /// Not the origin form (RFC 9112 section 3.2.1): whoever sends another means a proxy.
    #[error("the request target must be a path")]
    Target,
    /// A target longer than `limits.target` (RFC 9110 section 15.5.15).
    #[error("the request target is too long")]
    TargetLength,
    /// More fields than a head may have: over HTTP/1.1 they were refused already.
    #[error("the request has too many header fields")]
    Fields,
    /// It came through this gateway, or others of its name, too often (RFC 9110 section 7.6.3, RFC 8586).
    #[error("the request went through this gateway again and again")]
    Loop,
    /// A byte, an escape or a dot segment that two readers may read differently.
    #[error("the path holds a byte, an escape or a dot segment that is not allowed")]
    Path,
    /// Not exactly one `Host`, or no valid one (RFC 9112 section 3.2).
    #[error("exactly one valid Host header is needed")]
    Host,
    /// A transfer coding besides `chunked` (RFC 9112 section 6.1).
    #[error("of transfer codings only chunked is served")]
    Coding,
    /// An expectation besides `100-continue` (RFC 9110 section 10.1.1).
    #[error("this expectation cannot be met")]
    Expectation,
    /// A websocket's handshake that is none (RFC 6455 section 4.2.1).
    #[error("the websocket handshake is not valid")]
    Upgrade,
    /// A websocket of a version besides 13 (RFC 6455 section 4.4).
    #[error("of websocket versions only 13 is served")]
    SocketVersion,
}

/// Checks all that makes a request unfit, before anything is looked up or started for it.
///
/// # Errors
/// The first thing that is wrong.
pub(in crate::gateway) fn admit(
    head: &Parts,
    peer: &Peer,
    longest: usize,
) -> Result<Admitted, AdmitError> {
    method(&head.method)?;
    let target = head.uri.path_and_query().map_or("", PathAndQuery::as_str);
    if target.len() > longest {
        return Err(AdmitError::TargetLength);
    }
    if head.headers.len() > FIELDS {
        return Err(AdmitError::Fields);
    }
    if head.uri.authority().is_some() || head.uri.scheme().is_some() {
        return Err(AdmitError::Target);
    }
    path(head.uri.path())?;
    let public = public(&head.headers, peer).ok_or(AdmitError::Host)?;
    let names = Names::of(&head.headers);
    if names.has(Names::PASSED) && forwarded::loops(&head.headers) {
        return Err(AdmitError::Loop);
    }
    if names.has(Names::CODING) {
        coding(&head.headers)?;
    }
    if names.has(Names::EXPECT) && !expects_to_continue(&head.headers) {
        return Err(AdmitError::Expectation);
    }
    let upgrade = if names.has(Names::CONNECTION) {
        upgrade(head)?
    } else {
        None
    };
    Ok(Admitted {
        public,
        upgrade,
        names,
    })
}

fn expects_to_continue(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(header::EXPECT).into_iter();
    lines.all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// `CONNECT` makes a proxy of us; `TRACE` and `TRACK` tell scripts what they must not see. Methods are case-sensitive
/// (RFC 9110 section 9.1), and one in lower case is read differently by different servers.
fn method(method: &Method) -> Result<(), AdmitError> {
    let name = method.as_str();
    let refused = matches!(name, "CONNECT" | "TRACE" | "TRACK")
        || name.bytes().any(|byte| byte.is_ascii_lowercase());
    if refused {
        Err(AdmitError::Method)
    } else {
        Ok(())
    }
}

/// The bytes of a path: visible ASCII, no backslash, whole escapes, none of them a control, a backslash or half of a
/// dot segment. Browsers write none of these, and each has led two readers to two paths (CVE-2026-40912).
fn path(path: &str) -> Result<(), AdmitError> {
    let bytes = path.as_bytes();
    // Most paths end here. Not `all`, which looks at one byte at a time.
    let plain = |byte: u8| (0x21..=0x7e).contains(&byte) & !matches!(byte, b'\\' | b'%' | b'.');
    if bytes.iter().fold(true, |all, byte| all & plain(*byte)) {
        return Ok(());
    }
    for (at, byte) in bytes.iter().enumerate() {
        let fine = match byte {
            b'\\' => false,
            b'%' => !matches!(escape(&bytes[at..]), Some(0..=0x1f | 0x7f | b'\\') | None),
            _ => (0x21..=0x7e).contains(byte),
        };
        if !fine {
            return Err(AdmitError::Path);
        }
    }
    if path.split('/').any(is_dots) {
        Err(AdmitError::Path)
    } else {
        Ok(())
    }
}

/// Whether it is or holds a dot segment, however often it is escaped, and whatever parameter it has: some readers leave
/// out what follows a semicolon (RFC 3986 section 3.3), and take a backslash for a slash.
fn is_dots(segment: &str) -> bool {
    // Nearly all segments end here.
    if !segment.starts_with('.') && !segment.contains('%') {
        return false;
    }
    let mut read = Cow::Borrowed(segment.as_bytes());
    for _ in 0..3 {
        let is_dots = |part: &[u8]| {
            let name = part.split(|byte| matches!(byte, b';' | b'\0')).next();
            matches!(name, Some(b"." | b".."))
        };
        if read.split(|byte| *byte == b'\\').any(is_dots) {
            return true;
        }
        if !read.contains(&b'%') {
            return false;
        }
        read = Cow::Owned(decoded(&read));
    }
    false
}

/// The bytes with each escape read once.
fn decoded(bytes: &[u8]) -> Vec<u8> {
    let (mut read, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let escaped = (*byte == b'%').then(|| escape(&bytes[at..])).flatten();
        read.push(escaped.unwrap_or(*byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    read
}

/// The byte that an escape at the head of `bytes` stands for.
fn escape(bytes: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(bytes.get(1..3)?).ok()?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit())
        .then(|| u8::from_str_radix(digits, 16).ok())
        .flatten()
}

fn public(headers: &HeaderMap, peer: &Peer) -> Option<Public> {
    let mut lines = headers.get_all(header::HOST).into_iter();
    let (Some(host), None) = (lines.next(), lines.next()) else {
        return None;
    };
    forwarded::public(headers, host, peer)
}

/// Whether it is a host and nothing else, with or without a port (RFC 9110 section 7.2).
pub(super) fn is_authority(text: &str) -> bool {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port),
        _ => (text, "0"),
    };
    let port_is_number =
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    // As nearly all are written; the rest of the grammar is left to a parser.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let is_host = name.bytes().all(plain)
        || !text.contains('@') && Authority::try_from(text).is_ok_and(|all| !all.host().is_empty());
    !name.is_empty() && is_host && port_is_number
}

/// That a coding ends in `chunked` was checked; a list, even of `chunked` twice, is what smuggling is made of.
fn coding(headers: &HeaderMap) -> Result<(), AdmitError> {
    let mut lines = headers.get_all(header::TRANSFER_ENCODING).into_iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(()),
        (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(AdmitError::Coding),
    }
}

/// The key of a websocket's handshake. An upgrade to anything else is not taken up, as a server may (RFC 9110
/// section 7.8): the request is served as if it had not asked.
fn upgrade(head: &Parts) -> Result<Option<Offer>, AdmitError> {
    let headers = &head.headers;
    let asks = has_token(headers, header::CONNECTION, "upgrade")
        && has_token(headers, header::UPGRADE, "websocket");
    if !asks || head.version < Version::HTTP_11 {
        return Ok(None);
    }
    let has_body = headers.contains_key(header::TRANSFER_ENCODING)
        || headers
            .get(header::CONTENT_LENGTH)
            .is_some_and(|length| length != "0");
    if head.method != Method::GET || has_body {
        return Err(AdmitError::Upgrade);
    }
    if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err(AdmitError::SocketVersion);
    }
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).into_iter();
    match (keys.next(), keys.next()) {
        (Some(key), None) if is_socket_key(key.as_bytes()) => {
            let lines = NEGOTIATED.map(|name| headers.get_all(name).into_iter().cloned().collect());
            let key = key.as_bytes().to_vec();
            Ok(Some(Offer { key, lines }))
        }
        _ => Err(AdmitError::Upgrade),
    }
}

/// 16 bytes in base64: 22 digits and two signs of padding.
fn is_socket_key(key: &[u8]) -> bool {
    key.len() == 24
        && key.ends_with(b"==")
        && key[..22]
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|one| one.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");

    fn check(
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Result<Option<Offer>, AdmitError> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        admit(&head, &crate::gateway::headers::fixture::PEER, 64).map(|admitted| admitted.upgrade)
    }

    #[test]
    #[rustfmt::skip]
    fn a_request_is_fit_or_says_what_is_wrong() {
        const HOST: (&str, &str) = ("host", "gw.test:8000");
        type Row<'a> = (
            &'a str,
            &'a str,
            &'a [(&'a str, &'a str)],
            Result<(), AdmitError>,
        );
        let table: &[Row<'_>] = &[
            ("GET", "/a//b%2Fc?x=%00", &[HOST], Ok(())),
            ("PROPFIND", "/", &[("host", "[::1]:80")], Ok(())),
            ("POST", "/", &[HOST, ("expect", "100-Continue"), ("transfer-encoding", "chunked")], Ok(())),
            ("CONNECT", "gw.test:80", &[HOST], Err(AdmitError::Method)),
            ("TRACE", "/", &[HOST], Err(AdmitError::Method)),
            ("get", "/", &[HOST], Err(AdmitError::Method)),
            ("GET", "http://gw.test/", &[HOST], Err(AdmitError::Target)),
            ("GET", "/0123456789012345678901234567890123456789?012345678901234567890123", &[HOST], Err(AdmitError::TargetLength)),
            ("GET", "/", &[HOST, ("via", "1.1 session-gateway, 1.0 fred"), ("via", "2 session-gateway")], Ok(())),
            ("GET", "/", &[HOST, ("via", "1.1 session-gateway, 1.1 session-gateway (x), 1.1 session-gateway")], Err(AdmitError::Loop)),
            ("GET", "/", &[HOST, ("cdn-loop", "session-gateway; a=b, session-gateway"), ("cdn-loop", "session-gateway")], Err(AdmitError::Loop)),
            ("GET", "/a\\b", &[HOST], Err(AdmitError::Path)),
            ("GET", "/a%5cb", &[HOST], Err(AdmitError::Path)),
            ("GET", "/a%0d%0a", &[HOST], Err(AdmitError::Path)),
            ("GET", "/a%2", &[HOST], Err(AdmitError::Path)),
            ("GET", "/a%+1", &[HOST], Err(AdmitError::Path)),
            ("GET", "/a/../b", &[HOST], Err(AdmitError::Path)),
            ("GET", "/a/%2E./b", &[HOST], Err(AdmitError::Path)),
            ("GET", "/a/%252e%252e/b", &[HOST], Err(AdmitError::Path)),
            ("GET", "/a/%25%32%65./b", &[HOST], Err(AdmitError::Path)),
            ("GET", "/a/..;x=y/b", &[HOST], Err(AdmitError::Path)),
            ("GET", "/a/.%2e%3bx", &[HOST], Err(AdmitError::Path)),
            ("GET", "/a/b%255c..;x/c", &[HOST], Err(AdmitError::Path)),
            ("GET", "/a/%2525/100%25/b%2520c", &[HOST], Ok(())),
            ("GET", "/.vite/a;b/..c/...", &[HOST], Ok(())),
            ("GET", "/\u{e9}", &[HOST], Err(AdmitError::Path)),
            ("GET", "/", &[], Err(AdmitError::Host)),
            ("GET", "/", &[HOST, HOST], Err(AdmitError::Host)),
            ("GET", "/", &[("host", "")], Err(AdmitError::Host)),
            ("GET", "/", &[("host", "u@gw.test")], Err(AdmitError::Host)),
            ("GET", "/", &[("host", "gw.test:http")], Err(AdmitError::Host)),
            ("GET", "/", &[("host", "gw.test:+80")], Err(AdmitError::Host)),
            ("GET", "/", &[("host", ":80")], Err(AdmitError::Host)),
            ("GET", "/", &[("host", "a_b.test")], Ok(())),
            ("GET", "/", &[("host", "gw.test/x")], Err(AdmitError::Host)),
            ("POST", "/", &[HOST, ("transfer-encoding", "gzip, chunked")], Err(AdmitError::Coding)),
            ("POST", "/", &[HOST, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], Err(AdmitError::Coding)),
            ("POST", "/", &[HOST, ("expect", "payment")], Err(AdmitError::Expectation)),
        ];
        for (method, target, headers, expected) in table {
            assert_eq!(
                check(method, target, headers).map(|_| ()),
                *expected,
                "{method} {target} {headers:?}"
            );
        }
    }

    #[test]
    fn a_websocket_handshake_is_whole_or_refused() {
        const ASKS: [(&str, &str); 3] = [
            ("host", "gw.test"),
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
        ];
        const VERSION: (&str, &str) = ("sec-websocket-version", "13");
        let with = |more: &[(&'static str, &'static str)]| [&ASKS[..], more].concat();
        let protocols = ("sec-websocket-protocol", "a, b");
        let offer = Offer {
            key: KEY.1.into(),
            lines: [vec![HeaderValue::from_static("a, b")], vec![]],
        };
        let handshake = with(&[VERSION, KEY, protocols]);
        assert_eq!(check("GET", "/", &handshake), Ok(Some(offer)));
        for (method, headers, expected) in [
            ("POST", with(&[VERSION, KEY]), AdmitError::Upgrade),
            ("GET", with(&[VERSION]), AdmitError::Upgrade),
            ("GET", with(&[VERSION, KEY, KEY]), AdmitError::Upgrade),
            (
                "GET",
                with(&[VERSION, ("sec-websocket-key", "c2hvcnQ=")]),
                AdmitError::Upgrade,
            ),
            (
                "GET",
                with(&[VERSION, KEY, ("content-length", "3")]),
                AdmitError::Upgrade,
            ),
            (
                "GET",
                with(&[KEY, ("sec-websocket-version", "8")]),
                AdmitError::SocketVersion,
            ),
            ("GET", with(&[KEY]), AdmitError::SocketVersion),
        ] {
            assert_eq!(
                check(method, "/", &headers),
                Err(expected),
                "{method} {headers:?}"
            );
        }
        let other = [
            ("host", "gw.test"),
            ("connection", "upgrade"),
            ("upgrade", "h2c"),
        ];
        assert_eq!(check("GET", "/", &other), Ok(None));
        assert_eq!(
            check("GET", "/", &[("host", "gw.test"), ("upgrade", "websocket")]),
            Ok(None)
        );
    }
}
