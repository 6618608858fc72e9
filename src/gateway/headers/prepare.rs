//! What is sent on to the service.

use std::net::SocketAddr;

use http::{HeaderValue, Method, Uri, Version, header, request::Parts, uri::PathAndQuery};

use super::{
    CDN_LOOP, Names, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PREFIX, X_FORWARDED_PROTO,
    drop_hop_by_hop,
    forwarded::{self, Public},
};
use crate::{
    gateway::Peer,
    session::{HostHeader, OriginHeader, Prefix, ServiceSpec},
};

/// One request's way from its client to its service: what the header rules need to know of both ends.
#[derive(Debug, Clone)]
pub(in crate::gateway) struct Hop<'a> {
    /// The service.
    pub spec: &'a ServiceSpec,
    /// The public path of the service: `/<uuid>/<service>`.
    pub prefix: &'a str,
    /// The gateway's address, as the client sees it.
    pub public: &'a Public,
    /// The other end of the client's connection.
    pub peer: &'a Peer,
    /// The service's address.
    pub upstream: SocketAddr,
}

impl Hop<'_> {
    /// The `Host` that the service sees.
    pub(super) fn upstream_host(&self) -> HeaderValue {
        match self.spec.host {
            HostHeader::Public => self.public.host_value(),
            HostHeader::Localhost => {
                value(["localhost:", &self.upstream.port().to_string()].concat())
            }
        }
    }
}

/// Makes the head that the service gets of the one that came, which has these names. `upgrade`: it is the handshake of
/// a websocket.
pub(in crate::gateway) fn prepare(head: &mut Parts, hop: &Hop<'_>, names: Names, upgrade: bool) {
    if hop.spec.prefix == Prefix::Strip {
        head.uri = stripped(&head.uri, hop.prefix);
    }
    let via = if head.version == Version::HTTP_2 {
        forwarded::VIA_HTTP2
    } else {
        forwarded::VIA
    };
    head.version = Version::HTTP_11;
    let headers = &mut head.headers;
    let path = forwarded::path(headers, hop.peer);
    if names.has(Names::DROPPED) {
        drop_hop_by_hop(headers, is_claim);
    }
    let host = hop.upstream_host();
    if upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        if hop.spec.origin == OriginHeader::Rewrite && headers.contains_key(header::ORIGIN) {
            let origin = [b"http://", host.as_bytes()].concat();
            headers.insert(header::ORIGIN, value(origin));
        }
    }
    headers.insert(header::HOST, host);
    headers.insert(X_FORWARDED_FOR, path);
    headers.insert(X_FORWARDED_HOST, hop.public.host_value());
    let scheme = if hop.public.secure { "https" } else { "http" };
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    if hop.spec.prefix == Prefix::Strip {
        headers.insert(X_FORWARDED_PREFIX, value(hop.prefix));
    }
    // Not merged: another hop's line stays as it is (RFC 9110 section 7.6.3, RFC 8586 section 2).
    headers.append(header::VIA, HeaderValue::from_static(via));
    headers.append(CDN_LOOP, HeaderValue::from_static(forwarded::NAME));
}

/// Says how long the body is, if that is known: anew from what was parsed, never as it came (RFC 9112 section 6.2).
pub(in crate::gateway) fn frame(head: &mut Parts, length: Option<u64>) {
    let headers = &mut head.headers;
    match length {
        // A service may wait for a body where none is said to come (RFC 9110 section 8.6).
        Some(0) if !headers.contains_key(header::CONTENT_LENGTH) && !anticipates(&head.method) => {}
        Some(length) => {
            headers.insert(header::CONTENT_LENGTH, length.into());
        }
        // Said outright, or a GET would lose its body.
        None => {
            headers.remove(header::CONTENT_LENGTH);
            headers.insert(
                header::TRANSFER_ENCODING,
                HeaderValue::from_static("chunked"),
            );
        }
    }
}

/// Whether requests of this method have bodies.
fn anticipates(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// The target without the prefix. It begins with exactly one slash: two are an authority to many parsers.
fn stripped(uri: &Uri, prefix: &str) -> Uri {
    let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let rest = target
        .strip_prefix(prefix)
        .unwrap_or(target)
        .trim_start_matches('/');
    let rest = format!("/{rest}");
    Uri::try_from(rest).expect("the tail of a target that was parsed is a target")
}

/// Whether only a proxy says this of a request: what was believed is written anew. `Forwarded` with it, which
/// code-server misreads. Names with an underscore too, which many servers read as the same name with a hyphen
/// (CVE-2025-64484): they are dropped and not refused, since old clients send harmless ones. And what is answered by
/// this hop.
pub(super) fn is_claim(name: &str) -> bool {
    let known = match name.strip_prefix("x-") {
        Some(rest) => {
            matches!(rest, "real-ip" | "original-url" | "rewrite-url")
                || ["forwarded-", "envoy-", "gateway-"]
                    .iter()
                    .any(|prefix| rest.starts_with(prefix))
        }
        None => matches!(name, "expect" | "forwarded" | "http2-settings"),
    };
    // Not `contains`, which looks at one byte at a time.
    known || name.bytes().fold(false, |any, byte| any | (byte == b'_'))
}

fn value<T: TryInto<HeaderValue>>(content: T) -> HeaderValue {
    let value = content.try_into().ok();
    value.expect("a host, a path or an address that was parsed is visible ASCII")
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::gateway::headers::fixture::hop;

    fn spec(prefix: Prefix, host: HostHeader) -> ServiceSpec {
        ServiceSpec {
            host,
            origin: OriginHeader::Rewrite,
            ..ServiceSpec::example("x", prefix)
        }
    }

    fn prepared(
        spec: &ServiceSpec,
        target: &str,
        headers: &[(&str, &str)],
        upgrade: bool,
    ) -> Parts {
        let mut request = Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        let names = Names::of(&head.headers);
        prepare(&mut head, &hop(spec), names, upgrade);
        head
    }

    fn shown(head: &Parts) -> Vec<String> {
        let mut lines: Vec<_> = head
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        lines
    }

    #[test]
    fn a_body_has_one_length_or_is_chunked() {
        const LENGTH: (&str, &str) = ("content-length", "9");
        for (method, came, length, expected) in [
            ("GET", None, Some(0), ""),
            ("GET", Some(LENGTH), Some(0), "content-length: 0"),
            ("GET", None, Some(4), "content-length: 4"),
            ("GET", None, None, "transfer-encoding: chunked"),
            ("POST", None, Some(0), "content-length: 0"),
            ("POST", Some(LENGTH), Some(4), "content-length: 4"),
            ("POST", Some(LENGTH), None, "transfer-encoding: chunked"),
        ] {
            let mut request = Request::builder().method(method).uri("/");
            if let Some((name, value)) = came {
                request = request.header(name, value).header(name, value);
            }
            let (mut head, ()) = request.body(()).unwrap().into_parts();
            frame(&mut head, length);
            assert_eq!(
                shown(&head).join(", "),
                expected,
                "{method} {came:?} {length:?}"
            );
        }
    }

    #[test]
    fn a_service_sees_who_asks_and_nothing_the_client_claims() {
        let headers = [
            ("host", "gw.test"),
            ("forwarded", "for=1.2.3.4"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-port", "1"),
            ("x_forwarded_for", "1.2.3.4"),
            ("x-real-ip", "1.2.3.4"),
            ("connection", "keep-alive, x-hop, host"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("expect", "100-continue"),
            ("cookie", "a=b"),
        ];
        let head = prepared(
            &spec(Prefix::Strip, HostHeader::Public),
            "/ID/x/a%2Fb?q=/ID/x",
            &headers,
            false,
        );
        assert_eq!(head.uri, "/a%2Fb?q=/ID/x");
        assert_eq!(
            shown(&head),
            [
                "cdn-loop: session-gateway",
                "cookie: a=b",
                "host: gw.test",
                "via: 1.1 session-gateway",
                "x-forwarded-for: 192.0.2.7",
                "x-forwarded-host: gw.test",
                "x-forwarded-prefix: /ID/x",
                "x-forwarded-proto: http",
            ]
        );
    }

    #[test]
    fn a_kept_prefix_is_passed_on_and_a_development_server_sees_localhost() {
        let spec = spec(Prefix::Keep, HostHeader::Localhost);
        let headers = [("host", "gw.test"), ("origin", "http://gw.test")];
        let head = prepared(&spec, "/ID/x//x?", &headers, true);
        assert_eq!(head.uri, "/ID/x//x?");
        assert_eq!(
            shown(&head),
            [
                "cdn-loop: session-gateway",
                "connection: upgrade",
                "host: localhost:4321",
                "origin: http://localhost:4321",
                "upgrade: websocket",
                "via: 1.1 session-gateway",
                "x-forwarded-for: 192.0.2.7",
                "x-forwarded-host: gw.test",
                "x-forwarded-proto: http",
            ]
        );
        let plain = prepared(&spec, "/ID/x/", &headers, false);
        assert_eq!(
            plain.headers[header::ORIGIN],
            "http://gw.test",
            "only a handshake's origin is rewritten"
        );
    }

    #[test]
    fn a_stripped_target_begins_with_one_slash() {
        let spec = spec(Prefix::Strip, HostHeader::Public);
        for (target, expected) in [
            ("/ID/x/", "/"),
            ("/ID/x/?a=b", "/?a=b"),
            ("/ID/x//evil.test/x", "/evil.test/x"),
            ("/ID/x/ID/x/", "/ID/x/"),
        ] {
            assert_eq!(
                prepared(&spec, target, &[], false).uri,
                expected,
                "{target}"
            );
        }
    }
}
