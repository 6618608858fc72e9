//! What is sent back to the client. The service is not trusted: its answer must not upset the client's connection,
//! which other sessions may share, nor speak for the whole origin.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header, response::Parts};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{
    admit::SocketKey,
    drop_hop_by_hop,
    prepare::Hop,
    rewrite::{cookie, link, location, refresh},
};

const SERVICE_WORKER_ALLOWED: HeaderName = HeaderName::from_static("service-worker-allowed");

/// Fields by which one answer would speak for every session of the origin.
const ORIGIN_WIDE: [&str; 12] = [
    "accept-ch",
    "alt-svc",
    "clear-site-data",
    "critical-ch",
    "expect-ct",
    "nel",
    "origin-agent-cluster",
    "public-key-pins",
    "report-to",
    "set-login",
    "strict-transport-security",
    "use-as-dictionary",
];

/// What makes an answer unfit to be sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::gateway) enum ScrubError {
    /// A length that is no single number, or a coding besides `chunked` (RFC 9112 section 6.3).
    #[error("its length cannot be told")]
    Framing,
    /// A switch of protocols that was not asked for (RFC 9110 section 7.8).
    #[error("it switched protocols without being asked")]
    Unasked,
    /// A switch to something else, or without knowing the key (RFC 6455 section 4.1).
    #[error("its websocket handshake is not valid")]
    Handshake,
}

/// Makes the head that the client gets of an answer that is no switch of protocols.
///
/// # Errors
/// If its length cannot be told, or it switches protocols.
pub(in crate::gateway) fn scrub(head: &mut Parts, hop: &Hop<'_>) -> Result<(), ScrubError> {
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(ScrubError::Unasked);
    }
    framing(&mut head.headers)?;
    clean(head, hop);
    Ok(())
}

/// As [`scrub`], for the answer to a websocket's handshake with this key, if it did switch.
///
/// # Errors
/// If it switched to something else, or its proof is wrong.
pub(in crate::gateway) fn switched(
    head: &mut Parts,
    hop: &Hop<'_>,
    key: &SocketKey,
) -> Result<(), ScrubError> {
    let to_websocket = head
        .headers
        .get(header::UPGRADE)
        .is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let proof = head
        .headers
        .get(header::SEC_WEBSOCKET_ACCEPT)
        .map(HeaderValue::as_bytes);
    if !to_websocket || proof != Some(derive_accept_key(&key.0).as_bytes()) {
        return Err(ScrubError::Handshake);
    }
    clean(head, hop);
    head.headers
        .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    head.headers
        .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    Ok(())
}

fn clean(head: &mut Parts, hop: &Hop<'_>) {
    head.version = Version::HTTP_11;
    let headers = &mut head.headers;
    drop_hop_by_hop(headers);
    for name in ORIGIN_WIDE {
        headers.remove(name);
    }
    rewritten(headers, header::LOCATION, hop, location);
    rewritten(headers, header::CONTENT_LOCATION, hop, location);
    rewritten(headers, header::REFRESH, hop, refresh);
    rewritten(headers, header::LINK, hop, link);
    if headers.contains_key(header::SET_COOKIE) {
        cookies(headers, hop);
    }
    // Narrowed and not dropped: code-server registers its worker by it.
    if headers.contains_key(SERVICE_WORKER_ALLOWED)
        && let Ok(prefix) = HeaderValue::try_from(format!("{}/", hop.prefix))
    {
        headers.insert(SERVICE_WORKER_ALLOWED, prefix);
    }
}

/// Rewrites the addresses in every line of a field. A line that is no text is dropped: whether it leads out of the
/// service cannot be told.
fn rewritten(
    headers: &mut HeaderMap,
    name: HeaderName,
    hop: &Hop<'_>,
    rule: fn(&str, &Hop<'_>) -> Option<String>,
) {
    let http::header::Entry::Occupied(mut lines) = headers.entry(name) else {
        return;
    };
    let mut unreadable = false;
    for line in lines.iter_mut() {
        match std::str::from_utf8(line.as_bytes()) {
            Ok(text) => {
                let new = rule(text, hop);
                if let Some(new) = new.and_then(|new| HeaderValue::try_from(new).ok()) {
                    *line = new;
                }
            }
            Err(_) => unreadable = true,
        }
    }
    if unreadable {
        lines.remove();
    }
}

fn cookies(headers: &mut HeaderMap, hop: &Hop<'_>) {
    let kept: Vec<HeaderValue> = headers
        .get_all(header::SET_COOKIE)
        .into_iter()
        // Some services send cookies in bytes beyond ASCII; what cannot be read cannot be bound to its service.
        .filter_map(|value| cookie(value.to_str().ok()?, hop))
        .filter_map(|value| HeaderValue::try_from(value).ok())
        .collect();
    headers.remove(header::SET_COOKIE);
    for value in kept {
        headers.append(header::SET_COOKIE, value);
    }
}

/// One length, as one number; none where the body is chunked (RFC 9112 sections 6.2 and 6.3).
fn framing(headers: &mut HeaderMap) -> Result<(), ScrubError> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).into_iter();
    if let Some(coding) = codings.next() {
        if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(ScrubError::Framing);
        }
        headers.remove(header::CONTENT_LENGTH);
        return Ok(());
    }
    let mut lengths = headers
        .get_all(header::CONTENT_LENGTH)
        .into_iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(|one| number(one.trim_ascii()));
    let Some(first) = lengths.next() else {
        return Ok(());
    };
    let length = first.ok_or(ScrubError::Framing)?;
    if lengths.any(|other| other != Some(length)) {
        return Err(ScrubError::Framing);
    }
    headers.insert(header::CONTENT_LENGTH, length.into());
    Ok(())
}

/// Digits only: Rust's own parser takes a sign.
fn number(text: &[u8]) -> Option<u64> {
    text.iter()
        .all(u8::is_ascii_digit)
        .then(|| std::str::from_utf8(text).ok()?.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use http::Response;

    use super::*;
    use crate::gateway::headers::Public;
    use crate::session::{HostHeader, OriginHeader, Prefix, ServiceSpec};

    fn check(
        status: u16,
        headers: &[(&'static str, &'static str)],
        rule: impl FnOnce(&mut Parts, &Hop<'_>) -> Result<(), ScrubError>,
    ) -> Result<Vec<String>, ScrubError> {
        let (mut head, ()) = Response::new(()).into_parts();
        head.status = StatusCode::from_u16(status).unwrap();
        for (name, value) in headers {
            head.headers.append(*name, HeaderValue::from_static(value));
        }
        let spec = ServiceSpec {
            name: "x".into(),
            port: 80,
            path: "/x".into(),
            prefix: Prefix::Strip,
            host: HostHeader::Public,
            origin: OriginHeader::Pass,
        };
        let public = Public {
            host: "gw.test".into(),
            secure: false,
        };
        let hop = Hop {
            spec: &spec,
            prefix: "/ID/x",
            public: &public,
            peer: crate::gateway::Peer {
                address: [192, 0, 2, 7].into(),
                secure: false,
                trusted: false,
            },
            upstream: SocketAddr::from(([127, 0, 0, 1], 4321)),
        };
        rule(&mut head, &hop)?;
        let show = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().unwrap())
        };
        let mut lines: Vec<_> = head.headers.iter().map(show).collect();
        lines.sort();
        Ok(lines)
    }

    #[test]
    fn an_answer_keeps_what_is_its_own_and_loses_what_is_not() {
        let headers = [
            ("content-length", "2, 2"),
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("clear-site-data", "\"*\""),
            ("strict-transport-security", "max-age=1"),
            ("service-worker-allowed", "/"),
            ("location", "/login"),
            ("set-cookie", "a=b; Path=/"),
            ("set-cookie", "__Host-c=d; Path=/; Secure"),
            ("etag", "\"1\""),
        ];
        let expected = [
            "content-length: 2",
            "etag: \"1\"",
            "location: /ID/x/login",
            "service-worker-allowed: /ID/x/",
            "set-cookie: a=b; Path=/ID/x",
        ];
        assert_eq!(check(302, &headers, scrub).unwrap(), expected);
    }

    #[test]
    fn an_answer_whose_length_cannot_be_told_is_not_sent_on() {
        let both = [("content-length", "5"), ("transfer-encoding", "chunked")];
        assert_eq!(
            check(200, &both, scrub),
            Ok(vec![]),
            "hyper writes the coding"
        );
        for headers in [
            &[("content-length", "5, 6")][..],
            &[("content-length", "5"), ("content-length", "6")],
            &[("content-length", "+5")],
            &[("transfer-encoding", "gzip")],
            &[("transfer-encoding", "gzip, chunked")],
        ] {
            assert_eq!(
                check(200, headers, scrub),
                Err(ScrubError::Framing),
                "{headers:?}"
            );
        }
        assert_eq!(check(101, &[], scrub), Err(ScrubError::Unasked));
    }

    #[test]
    fn a_switch_to_a_websocket_needs_the_proof_of_its_key() {
        // The example of RFC 6455 section 1.3.
        let key = SocketKey(b"dGhlIHNhbXBsZSBub25jZQ==".to_vec());
        let accept = ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let good = [
            ("upgrade", "WebSocket"),
            ("connection", "Upgrade"),
            accept,
            ("sec-websocket-protocol", "vite-hmr"),
        ];
        let lines = check(101, &good, |head, hop| switched(head, hop, &key)).unwrap();
        assert!(
            lines.contains(&"sec-websocket-protocol: vite-hmr".to_owned()),
            "{lines:?}"
        );
        assert!(
            lines.contains(&"upgrade: websocket".to_owned()),
            "{lines:?}"
        );
        for bad in [
            &[("upgrade", "h2c"), accept][..],
            &[("upgrade", "websocket")],
            &[("upgrade", "websocket"), ("sec-websocket-accept", "x")],
        ] {
            assert_eq!(
                check(101, bad, |head, hop| switched(head, hop, &key)),
                Err(ScrubError::Handshake),
                "{bad:?}"
            );
        }
    }
}
