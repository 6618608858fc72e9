//! Whether a request is fit to be looked at: framing, host, target, upgrade. A malformed one must start no session.

use http::{
    HeaderMap, HeaderValue, Method, Version, header,
    request::Parts,
    uri::{Authority, PathAndQuery},
};

use super::forwarded::{self, Public};
use crate::gateway::Peer;

/// What a request that is fit has said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::gateway) struct Admitted {
    /// What its sender's browser shows as its address.
    pub public: Public,
    /// For the handshake of a websocket, its key.
    pub upgrade: Option<SocketKey>,
}

/// The `Sec-WebSocket-Key` of a handshake (RFC 6455 section 4.1): 16 bytes in base64.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::gateway) struct SocketKey(pub(in crate::gateway) Vec<u8>);

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
    peer: Peer,
    longest: usize,
) -> Result<Admitted, AdmitError> {
    method(&head.method)?;
    let target = head.uri.path_and_query().map_or("", PathAndQuery::as_str);
    if target.len() > longest {
        return Err(AdmitError::TargetLength);
    }
    if head.uri.authority().is_some() || head.uri.scheme().is_some() {
        return Err(AdmitError::Target);
    }
    path(head.uri.path())?;
    let host = host(&head.headers)?;
    let public = forwarded::public(&head.headers, host, peer).ok_or(AdmitError::Host)?;
    if forwarded::loops(&head.headers) {
        return Err(AdmitError::Loop);
    }
    coding(&head.headers)?;
    if head
        .headers
        .get_all(header::EXPECT)
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
    {
        return Err(AdmitError::Expectation);
    }
    Ok(Admitted {
        public,
        upgrade: upgrade(head)?,
    })
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
    for (at, byte) in bytes.iter().enumerate() {
        let fine = match byte {
            b'\\' => false,
            b'%' => match escape(&bytes[at..]) {
                Some(0..=0x1f | 0x7f | b'\\') | None => false,
                Some(_) => true,
            },
            _ => (0x21..=0x7e).contains(byte),
        };
        if !fine {
            return Err(AdmitError::Path);
        }
    }
    let dots = |segment: &str| {
        // Of nothing else can one be made; nearly all segments end here.
        let may_be = |byte| matches!(byte, b'.' | b'%' | b'2' | b'5' | b'e' | b'E');
        if !segment.bytes().all(may_be) {
            return false;
        }
        let mut once = segment.to_ascii_lowercase();
        for _ in 0..2 {
            once = once.replace("%2e", ".").replace("%25", "%");
        }
        matches!(once.as_str(), "." | "..")
    };
    if path.split('/').any(dots) {
        Err(AdmitError::Path)
    } else {
        Ok(())
    }
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

fn host(headers: &HeaderMap) -> Result<String, AdmitError> {
    let mut lines = headers.get_all(header::HOST).into_iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Err(AdmitError::Host);
    };
    let text = line.to_str().map_err(|_| AdmitError::Host)?;
    is_authority(text)
        .then(|| text.to_owned())
        .ok_or(AdmitError::Host)
}

/// Whether it is a host and nothing else, with or without a port (RFC 9110 section 7.2).
pub(super) fn is_authority(text: &str) -> bool {
    let Ok(authority) = Authority::try_from(text) else {
        return false;
    };
    let port_is_number = match text.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => port.parse::<u16>().is_ok(),
        _ => true,
    };
    !authority.host().is_empty() && !text.contains('@') && port_is_number
}

/// hyper has checked that a coding ends in `chunked`; a list, even of `chunked` twice, is what smuggling is made of.
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
fn upgrade(head: &Parts) -> Result<Option<SocketKey>, AdmitError> {
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
    match (keys.next().map(HeaderValue::as_bytes), keys.next()) {
        (Some(key), None) if is_socket_key(key) => Ok(Some(SocketKey(key.to_vec()))),
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
    ) -> Result<Option<SocketKey>, AdmitError> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let peer = Peer {
            address: [192, 0, 2, 7].into(),
            secure: false,
            trusted: false,
        };
        admit(&head, peer, 64).map(|admitted| admitted.upgrade)
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
            ("GET", "/\u{e9}", &[HOST], Err(AdmitError::Path)),
            ("GET", "/", &[], Err(AdmitError::Host)),
            ("GET", "/", &[HOST, HOST], Err(AdmitError::Host)),
            ("GET", "/", &[("host", "")], Err(AdmitError::Host)),
            ("GET", "/", &[("host", "u@gw.test")], Err(AdmitError::Host)),
            ("GET", "/", &[("host", "gw.test:http")], Err(AdmitError::Host)),
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
        let key = Some(SocketKey(KEY.1.into()));
        assert_eq!(check("GET", "/", &with(&[VERSION, KEY])), Ok(key));
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
