//! What is sent on to the service.

use std::net::SocketAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, Uri, Version, header, request::Parts, uri::PathAndQuery,
};

use super::{
    CDN_LOOP, FORWARDED, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PREFIX, X_FORWARDED_PROTO,
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
    pub peer: Peer,
    /// The service's address.
    pub upstream: SocketAddr,
}

impl Hop<'_> {
    /// The `Host` that the service sees.
    pub(super) fn upstream_host(&self) -> String {
        match self.spec.host {
            HostHeader::Public => self.public.host.clone(),
            HostHeader::Localhost => format!("localhost:{}", self.upstream.port()),
        }
    }
}

/// Makes the head that the service gets of the one that came. `upgrade`: it is the handshake of a websocket.
pub(in crate::gateway) fn prepare(head: &mut Parts, hop: &Hop<'_>, upgrade: bool) {
    if hop.spec.prefix == Prefix::Strip {
        head.uri = stripped(&head.uri, hop.prefix);
    }
    head.version = Version::HTTP_11;
    let headers = &mut head.headers;
    drop_hop_by_hop(headers);
    let path = forwarded::path(headers, hop.peer);
    drop_claims(headers);
    let host = hop.upstream_host();
    if upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        if hop.spec.origin == OriginHeader::Rewrite && headers.contains_key(header::ORIGIN) {
            insert(headers, header::ORIGIN, &format!("http://{host}"));
        }
    }
    insert(headers, header::HOST, &host);
    insert(headers, X_FORWARDED_FOR, &path);
    insert(headers, X_FORWARDED_HOST, &hop.public.host);
    let scheme = if hop.public.secure { "https" } else { "http" };
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    if hop.spec.prefix == Prefix::Strip {
        insert(headers, X_FORWARDED_PREFIX, hop.prefix);
    }
    // Not merged: another hop's line stays as it is (RFC 9110 section 7.6.3, RFC 8586 section 2).
    headers.append(header::VIA, HeaderValue::from_static(forwarded::VIA));
    headers.append(CDN_LOOP, HeaderValue::from_static(forwarded::NAME));
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

/// Takes off what only a proxy says of a request: what was believed is written anew. `Forwarded` with it, which
/// code-server misreads. Names with an underscore too, which many servers read as the same name with a hyphen
/// (CVE-2025-64484): they are dropped and not refused, since old clients send harmless ones. And what is answered by
/// this hop.
fn drop_claims(headers: &mut HeaderMap) {
    let claims: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_claim(name.as_str()))
        .cloned()
        .collect();
    for name in claims {
        headers.remove(name);
    }
    headers.remove(FORWARDED);
    headers.remove(header::EXPECT);
}

fn is_claim(name: &str) -> bool {
    name.contains('_')
        || ["x-forwarded-", "x-envoy-", "x-gateway-"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        || matches!(
            name,
            "x-real-ip" | "x-original-url" | "x-rewrite-url" | "http2-settings"
        )
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    let value = HeaderValue::try_from(value)
        .expect("a host, a path or an address that was parsed is visible ASCII");
    headers.insert(name, value);
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    static PUBLIC: std::sync::LazyLock<Public> = std::sync::LazyLock::new(|| Public {
        host: "gw.test:8000".into(),
        secure: false,
    });

    fn spec(prefix: Prefix, host: HostHeader) -> ServiceSpec {
        ServiceSpec {
            name: "vscode".into(),
            port: 8080,
            path: "/vscode".into(),
            prefix,
            host,
            origin: OriginHeader::Rewrite,
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
        let hop = Hop {
            spec,
            prefix: "/ID/vscode",
            public: &PUBLIC,
            peer: crate::gateway::Peer {
                address: [192, 0, 2, 7].into(),
                secure: false,
                trusted: false,
            },
            upstream: SocketAddr::from(([127, 0, 0, 1], 4321)),
        };
        prepare(&mut head, &hop, upgrade);
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
    fn a_service_sees_who_asks_and_nothing_the_client_claims() {
        let headers = [
            ("host", "gw.test:8000"),
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
            "/ID/vscode/a%2Fb?q=/ID/vscode",
            &headers,
            false,
        );
        assert_eq!(head.uri, "/a%2Fb?q=/ID/vscode");
        assert_eq!(
            shown(&head),
            [
                "cdn-loop: session-gateway",
                "cookie: a=b",
                "host: gw.test:8000",
                "via: 1.1 session-gateway",
                "x-forwarded-for: 192.0.2.7",
                "x-forwarded-host: gw.test:8000",
                "x-forwarded-prefix: /ID/vscode",
                "x-forwarded-proto: http",
            ]
        );
    }

    #[test]
    fn a_kept_prefix_is_passed_on_and_a_development_server_sees_localhost() {
        let spec = spec(Prefix::Keep, HostHeader::Localhost);
        let headers = [("host", "gw.test:8000"), ("origin", "http://gw.test:8000")];
        let head = prepared(&spec, "/ID/vscode//x?", &headers, true);
        assert_eq!(head.uri, "/ID/vscode//x?");
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
                "x-forwarded-host: gw.test:8000",
                "x-forwarded-proto: http",
            ]
        );
        let plain = prepared(&spec, "/ID/vscode/", &headers, false);
        assert_eq!(
            plain.headers[header::ORIGIN],
            "http://gw.test:8000",
            "only a handshake's origin is rewritten"
        );
    }

    #[test]
    fn a_stripped_target_begins_with_one_slash() {
        let spec = spec(Prefix::Strip, HostHeader::Public);
        for (target, expected) in [
            ("/ID/vscode/", "/"),
            ("/ID/vscode/?a=b", "/?a=b"),
            ("/ID/vscode//evil.test/x", "/evil.test/x"),
            ("/ID/vscode/ID/vscode/", "/ID/vscode/"),
        ] {
            assert_eq!(
                prepared(&spec, target, &[], false).uri,
                expected,
                "{target}"
            );
        }
    }
}
