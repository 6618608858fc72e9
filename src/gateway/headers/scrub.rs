//! What is sent back to the client. The service is not trusted: its answer must not upset the client's connection,
//! which other sessions may share, nor speak for the whole origin.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header, response::Parts};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{
    admit::{NEGOTIATED, Offer},
    drop_hop_by_hop,
    prepare::Hop,
    rewrite::{cookie, link, location, refresh},
};

const SERVICE_WORKER_ALLOWED: HeaderName = HeaderName::from_static("service-worker-allowed");

/// Whether one answer would speak by this field for every session of the origin.
fn is_origin_wide(name: &str) -> bool {
    matches!(
        name,
        "accept-ch"
            | "alt-svc"
            | "clear-site-data"
            | "critical-ch"
            | "expect-ct"
            | "nel"
            | "origin-agent-cluster"
            | "public-key-pins"
            | "report-to"
            | "set-login"
            | "strict-transport-security"
            | "use-as-dictionary"
    )
}

/// Whether the field's value leads to the service, and may have to lead to it another way for the client.
fn leads(name: &str) -> bool {
    matches!(
        name,
        "location"
            | "content-location"
            | "refresh"
            | "link"
            | "set-cookie"
            | "service-worker-allowed"
    )
}

/// What makes an answer unfit to be sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::gateway) enum ScrubError {
    /// A length that is no single number, or a coding besides `chunked` (RFC 9112 section 6.3).
    #[error("its length cannot be told")]
    Framing,
    /// A switch of protocols that was not asked for (RFC 9110 section 7.8).
    #[error("it switched protocols without being asked")]
    Unasked,
    /// A switch to something else, without knowing the key, or by what was not offered (RFC 6455 section 4.1).
    #[error("its websocket handshake is not valid")]
    Handshake,
}

/// Where the body of an answer ends, if its kind has one (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// Where its last chunk says so.
    Chunked,
    /// Where the connection ends.
    Open,
}

/// Makes the head that the client gets of an answer that is no switch of protocols. Returns how its body is to be read.
///
/// # Errors
/// If its length cannot be told, or it switches protocols.
pub(in crate::gateway) fn scrub(head: &mut Parts, hop: &Hop<'_>) -> Result<Framing, ScrubError> {
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(ScrubError::Unasked);
    }
    let framing = framing(head)?;
    clean(head, hop);
    Ok(framing)
}

/// As [`scrub`], for the answer to a websocket's handshake, if it did switch.
///
/// # Errors
/// If it switched to something else, its proof is wrong, or it chose what was not offered.
pub(in crate::gateway) fn switched(
    head: &mut Parts,
    hop: &Hop<'_>,
    offer: &Offer,
) -> Result<(), ScrubError> {
    let to_websocket = head
        .headers
        .get(header::UPGRADE)
        .is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let proof = head
        .headers
        .get(header::SEC_WEBSOCKET_ACCEPT)
        .map(HeaderValue::as_bytes);
    if !to_websocket
        || proof != Some(derive_accept_key(&offer.key).as_bytes())
        || !is_offered(&head.headers, offer)
    {
        return Err(ScrubError::Handshake);
    }
    clean(head, hop);
    head.headers
        .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    head.headers
        .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    Ok(())
}

/// Whether what the answer chose was offered: one subprotocol at most, and any number of extensions.
fn is_offered(headers: &HeaderMap, offer: &Offer) -> bool {
    let [protocols, extensions] = NEGOTIATED.map(|name| headers.get_all(name));
    let [protocol_lines, extension_lines] = &offer.lines;
    let mut protocols = protocols.iter();
    let protocol = match (protocols.next(), protocols.next()) {
        (None, _) => true,
        (Some(chosen), None) => tokens(protocol_lines).any(|one| one == chosen.as_bytes()),
        (Some(_), Some(_)) => false,
    };
    // Of an extension the name; its parameters are between the ends.
    let name = |one: &[u8]| {
        let name = one.split(|byte| *byte == b';').next();
        name.unwrap_or_default().trim_ascii().to_ascii_lowercase()
    };
    let extension = |one: &[u8]| tokens(extension_lines).any(|other| name(other) == name(one));
    protocol && tokens(extensions).all(extension)
}

/// The entries of a list, over all lines.
fn tokens<'a>(lines: impl IntoIterator<Item = &'a HeaderValue>) -> impl Iterator<Item = &'a [u8]> {
    let entries = |line: &'a HeaderValue| line.as_bytes().split(|byte| *byte == b',');
    let entries = lines.into_iter().flat_map(entries);
    entries
        .map(<[u8]>::trim_ascii)
        .filter(|one| !one.is_empty())
}

fn clean(head: &mut Parts, hop: &Hop<'_>) {
    head.version = Version::HTTP_11;
    let headers = &mut head.headers;
    let mut leading = false;
    drop_hop_by_hop(headers, |name| {
        leading |= leads(name);
        is_origin_wide(name)
    });
    if leading {
        lead(headers, hop);
    }
}

fn lead(headers: &mut HeaderMap, hop: &Hop<'_>) {
    rewritten(headers, header::LOCATION, hop, location);
    rewritten(headers, header::CONTENT_LOCATION, hop, location);
    rewritten(headers, header::REFRESH, hop, refresh);
    rewritten(headers, header::LINK, hop, link);
    cookies(headers, hop);
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
fn framing(head: &mut Parts) -> Result<Framing, ScrubError> {
    let headers = &mut head.headers;
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).into_iter();
    if let Some(coding) = codings.next() {
        let only = codings.next().is_none() && coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        // HTTP/1.0 knows no codings: who sends one has passed on what it did not understand.
        if !only || head.version == Version::HTTP_10 {
            return Err(ScrubError::Framing);
        }
        headers.remove(header::CONTENT_LENGTH);
        return Ok(Framing::Chunked);
    }
    let mut lines = headers.get_all(header::CONTENT_LENGTH).into_iter();
    let Some(first) = lines.next() else {
        return Ok(Framing::Open);
    };
    // As nearly all are written.
    if lines.next().is_none()
        && let Some(length) = number(first.as_bytes())
    {
        return Ok(Framing::Length(length));
    }
    let mut lengths = headers
        .get_all(header::CONTENT_LENGTH)
        .into_iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(|one| number(one.trim_ascii()));
    let length = lengths.next().flatten().ok_or(ScrubError::Framing)?;
    if lengths.any(|other| other != Some(length)) {
        return Err(ScrubError::Framing);
    }
    headers.insert(header::CONTENT_LENGTH, length.into());
    Ok(Framing::Length(length))
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
    use http::Response;

    use super::*;
    use crate::{
        gateway::headers::fixture::hop,
        session::{Prefix, ServiceSpec},
    };

    fn answer(status: u16, headers: &[(&'static str, &'static str)]) -> Parts {
        let (mut head, ()) = Response::new(()).into_parts();
        head.status = StatusCode::from_u16(status).unwrap();
        for (name, value) in headers {
            head.headers.append(*name, HeaderValue::from_static(value));
        }
        head
    }

    fn check<T>(
        status: u16,
        headers: &[(&'static str, &'static str)],
        rule: impl FnOnce(&mut Parts, &Hop<'_>) -> Result<T, ScrubError>,
    ) -> Result<Vec<String>, ScrubError> {
        let mut head = answer(status, headers);
        let spec = ServiceSpec::example("x", Prefix::Strip);
        rule(&mut head, &hop(&spec))?;
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
    fn the_length_of_an_answer_is_told_or_it_is_not_sent_on() {
        const CHUNKED: (&str, &str) = ("transfer-encoding", "chunked");
        type Row<'a> = (
            &'a [(&'static str, &'static str)],
            Result<Framing, ScrubError>,
        );
        let table: [Row<'_>; 13] = [
            (&[], Ok(Framing::Open)),
            (&[("content-length", "0")], Ok(Framing::Length(0))),
            (&[("content-length", "5, 5")], Ok(Framing::Length(5))),
            (
                &[("content-length", "5"), ("content-length", "5")],
                Ok(Framing::Length(5)),
            ),
            (&[("transfer-encoding", "Chunked")], Ok(Framing::Chunked)),
            // The coding is what counts, and the only one that is sent on.
            (&[("content-length", "5"), CHUNKED], Ok(Framing::Chunked)),
            (&[("content-length", "5, 6")], Err(ScrubError::Framing)),
            (
                &[("content-length", "5"), ("content-length", "6")],
                Err(ScrubError::Framing),
            ),
            (&[("content-length", "+5")], Err(ScrubError::Framing)),
            (&[("content-length", "")], Err(ScrubError::Framing)),
            (&[("transfer-encoding", "gzip")], Err(ScrubError::Framing)),
            (
                &[("transfer-encoding", "gzip, chunked")],
                Err(ScrubError::Framing),
            ),
            (&[CHUNKED, CHUNKED], Err(ScrubError::Framing)),
        ];
        let spec = ServiceSpec::example("x", Prefix::Strip);
        for (headers, expected) in table {
            let mut head = answer(200, headers);
            let found = scrub(&mut head, &hop(&spec));
            assert_eq!(found, expected, "{headers:?}");
            let lengths = head.headers.get_all("content-length").iter().count();
            let one = matches!(found, Ok(Framing::Length(_)));
            assert!(found.is_err() || lengths == usize::from(one), "{headers:?}");
        }
        let mut old = answer(200, &[CHUNKED]);
        old.version = Version::HTTP_10;
        assert_eq!(scrub(&mut old, &hop(&spec)), Err(ScrubError::Framing));
        assert_eq!(check(101, &[], scrub), Err(ScrubError::Unasked));
    }

    #[test]
    fn a_switch_to_a_websocket_needs_the_proof_of_its_key() {
        // The example of RFC 6455 section 1.3.
        let offer = Offer {
            key: b"dGhlIHNhbXBsZSBub25jZQ==".to_vec(),
            lines: [
                vec![
                    HeaderValue::from_static("vite-hmr, a"),
                    HeaderValue::from_static("b"),
                ],
                vec![HeaderValue::from_static("permessage-deflate; x, y")],
            ],
        };
        let accept = ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let good = [
            ("upgrade", "WebSocket"),
            ("connection", "Upgrade"),
            accept,
            ("sec-websocket-protocol", "vite-hmr"),
        ];
        let lines = check(101, &good, |head, hop| switched(head, hop, &offer)).unwrap();
        assert!(
            lines.contains(&"sec-websocket-protocol: vite-hmr".to_owned()),
            "{lines:?}"
        );
        assert!(
            lines.contains(&"upgrade: websocket".to_owned()),
            "{lines:?}"
        );
        let to = ("upgrade", "websocket");
        for chosen in [
            &[][..],
            &[("sec-websocket-protocol", "b")],
            &[("sec-websocket-extensions", "Permessage-Deflate; z=1, y")],
        ] {
            let good = [&[to, accept], chosen].concat();
            let lines = check(101, &good, |head, hop| switched(head, hop, &offer));
            assert!(lines.is_ok(), "{chosen:?}");
        }
        for bad in [
            &[("upgrade", "h2c"), accept][..],
            &[("upgrade", "websocket")],
            &[("upgrade", "websocket"), ("sec-websocket-accept", "x")],
            &[to, accept, ("sec-websocket-protocol", "c")],
            &[to, accept, ("sec-websocket-protocol", "A")],
            &[to, accept, ("sec-websocket-protocol", "a, b")],
            &[to, accept, ("sec-websocket-protocol", "")],
            &[
                to,
                accept,
                ("sec-websocket-protocol", "a"),
                ("sec-websocket-protocol", "b"),
            ],
            &[to, accept, ("sec-websocket-extensions", "z")],
            &[to, accept, ("sec-websocket-extensions", "y, x")],
        ] {
            assert_eq!(
                check(101, bad, |head, hop| switched(head, hop, &offer)),
                Err(ScrubError::Handshake),
                "{bad:?}"
            );
        }
    }
}
