//! What holds of the header rules whatever comes: nothing panics, nothing of one hop passes, and what is sent on means
//! to another parser what it means here.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use proptest::prelude::*;

use super::*;
use crate::{
    gateway::Peer,
    session::{HostHeader, OriginHeader, Prefix, ServiceSpec},
};

static SPECS: LazyLock<[ServiceSpec; 2]> = LazyLock::new(|| {
    [
        (Prefix::Strip, HostHeader::Public, OriginHeader::Pass),
        (Prefix::Keep, HostHeader::Localhost, OriginHeader::Rewrite),
    ]
    .map(|(prefix, host, origin)| ServiceSpec {
        host,
        origin,
        ..ServiceSpec::example("x", prefix)
    })
});

fn hop<'a>(public: &'a Public, kept: bool, peer: &'a Peer) -> Hop<'a> {
    Hop {
        public,
        peer,
        ..fixture::hop(&SPECS[usize::from(kept)])
    }
}

/// Names that the rules know, and others.
fn name() -> impl Strategy<Value = String> {
    let known = "connection|keep-alive|te|trailer|transfer-encoding|upgrade|proxy-authorization|expect|via|cdn-loop\
                 |x-forwarded-(for|host|proto|x)|forwarded|origin|cookie|set-cookie|location|link|refresh\
                 |service-worker-allowed|content-(length|location)|sec-websocket-(key|version|accept)";
    prop_oneof![known, "[a-z][a-z0-9_-]{0,12}"]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let known = "websocket|chunked|100-continue|13|(https?:)?//(localhost:4321|gw.test|evil)/?|/[a-z/.]{0,9}\
                 |a=b; Path=/x; Secure|</x>; rel=y, <|5; url=/a|for=1.1.1.1;host=\"x\"|close, [a-z-]{1,9}|dev.test:1";
    prop_oneof![
        known.prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..20)
    ]
}

fn lines() -> impl Strategy<Value = HeaderMap> {
    prop::collection::vec((name(), value()), 0..10).prop_map(|lines| {
        let valid = |(name, value): (String, Vec<u8>)| {
            Some((
                HeaderName::try_from(name).ok()?,
                HeaderValue::try_from(value).ok()?,
            ))
        };
        lines.into_iter().filter_map(valid).collect()
    })
}

/// All that must not pass, in either direction.
fn is_of_one_hop(name: &HeaderName) -> bool {
    let names = [
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "proxy-authorization",
        "expect",
        "forwarded",
    ];
    names.contains(&name.as_str())
}

proptest! {
    #[test]
    fn what_is_sent_on_means_the_same_to_another_parser(
        method in "GET|POST|DELETE|PATCH|[A-Z]{1,9}",
        path in "/[!-~]{0,30}",
        lines in lines(),
        (kept, secure, trusted) in any::<(bool, bool, bool)>(),
    ) {
        let request = Request::builder().method(method.as_str()).uri(format!("/ID/x{path}"));
        let Ok(request) = request.body(()) else { return Ok(()) };
        let (mut head, ()) = request.into_parts();
        head.headers = lines;
        head.headers.append(header::HOST, HeaderValue::from_static("gw.test"));
        let peer = Peer::new([192, 0, 2, 7].into(), secure, trusted);
        let Ok(admitted) = admit(&head, &peer, 8192) else { return Ok(()) };
        prepare(&mut head, &hop(&admitted.public, kept, &peer), admitted.names, admitted.upgrade.is_some());

        let mut written = format!("{} {} HTTP/1.1\r\n", head.method, head.uri).into_bytes();
        for (name, value) in &head.headers {
            prop_assert!(!is_of_one_hop(name), "{} passed", name);
            written.extend_from_slice(name.as_str().as_bytes());
            written.extend_from_slice(b": ");
            written.extend_from_slice(value.as_bytes());
            written.extend_from_slice(b"\r\n");
        }
        written.extend_from_slice(b"\r\n");
        let mut fields = [httparse::EMPTY_HEADER; 100];
        let mut read = httparse::Request::new(&mut fields);
        prop_assert_eq!(read.parse(&written), Ok(httparse::Status::Complete(written.len())));
        prop_assert_eq!(read.method, Some(head.method.as_str()));
        let target = head.uri.to_string();
        prop_assert_eq!(read.path, Some(target.as_str()));
        prop_assert_eq!(read.headers.len(), head.headers.len());
        for (read, (name, value)) in read.headers.iter().zip(&head.headers) {
            prop_assert_eq!(read.name, name.as_str());
            prop_assert_eq!(read.value.trim_ascii(), value.as_bytes().trim_ascii());
        }
        prop_assert_eq!(head.headers.get_all(header::HOST).iter().count(), 1);
    }

    #[test]
    fn what_is_sent_back_is_of_no_other_hop_and_of_one_length(
        status in 200_u16..600,
        lines in lines(),
        (kept, secure) in any::<(bool, bool)>(),
    ) {
        let (mut head, ()) = Response::builder().status(status).body(()).unwrap().into_parts();
        head.headers = lines;
        let public = fixture::public(secure);
        if scrub(&mut head, &hop(&public, kept, &fixture::PEER)).is_err() {
            return Ok(());
        }
        for name in ["connection", "upgrade", "keep-alive", "te", "trailer", "transfer-encoding"] {
            prop_assert!(!head.headers.contains_key(name), "{} passed", name);
        }
        prop_assert!(head.headers.get_all(header::CONTENT_LENGTH).iter().count() <= 1);
        for cookie in head.headers.get_all(header::SET_COOKIE) {
            prop_assert!(cookie.to_str().unwrap().contains("; Path=/ID/x"));
        }
    }
}
