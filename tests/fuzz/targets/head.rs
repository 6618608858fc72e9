//! Heads, both ways: nothing panics, nothing of one hop passes, and what is sent on means to a second parser what it
//! meant to the first.

#![no_main]

use std::sync::LazyLock;

use fuzz::{fields, services, written};
use http::{HeaderMap, HeaderName, Method, Request, Response, Uri, Version, header};
use httparse::Status;
use hyper::ext::Protocol;
use libfuzzer_sys::{Corpus, fuzz_target};
use session_gateway::{
    gateway::fuzz::{Way, sent_back, sent_on},
    session::Services,
};

static SERVICES: LazyLock<Services> = LazyLock::new(services);
/// The public path; of a session whose name is short.
const PREFIXES: [&str; 2] = ["/ID/a", "/ID/ab"];
/// More than the longest input has, of 2,048 bytes; what reads heads for the gateway takes fewer.
const FIELDS: usize = 1024;

// Some bits that say what it is; a line with method and target, or with a status; lines of fields.
fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Some((&bits, text)) = bytes.split_first() else {
        return Corpus::Reject;
    };
    let Some(end) = text.iter().position(|byte| *byte == b'\n') else {
        return Corpus::Reject;
    };
    let Ok(first) = std::str::from_utf8(&text[..end]) else {
        return Corpus::Reject;
    };
    let bit = |number: u8| bits & 1 << number != 0;
    let kind = usize::from(bit(0));
    let spec = SERVICES.iter().nth(kind).expect("there are two").1;
    let way = Way {
        spec,
        prefix: PREFIXES[kind],
        secure: bit(1),
        trusted: bit(2),
    };
    let fields = fields(&text[end + 1..]);
    let outcome = if bit(3) {
        answer(first, fields, way)
    } else {
        request(first, fields, way, bit(4))
    };
    outcome.map_or(Corpus::Reject, |()| Corpus::Keep)
});

fn request(first: &str, fields: HeaderMap, way: Way<'_>, http2: bool) -> Option<()> {
    let (method, target) = first.split_once(' ')?;
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = Method::try_from(method).ok()?;
    let target = if http2 {
        format!("https://{target}")
    } else {
        target.to_owned()
    };
    head.uri = Uri::try_from(target).ok()?;
    head.headers = fields;
    if http2 {
        head.version = Version::HTTP_2;
        if head.method == Method::CONNECT {
            head.extensions.insert(Protocol::from_static("websocket"));
        }
    }
    if !head.uri.path().starts_with(way.prefix) {
        // Routed elsewhere, or nowhere.
        return None;
    }
    let came = (head.method.clone(), head.headers.clone());
    let upgrade = sent_on(&mut head, way)?;

    let (method, target) = (head.method.as_str(), head.uri.to_string());
    let bytes = written(&format!("{method} {target} HTTP/1.1"), &head.headers);
    let mut room = [httparse::EMPTY_HEADER; FIELDS];
    let mut read = httparse::Request::new(&mut room);
    assert_eq!(
        read.parse(&bytes),
        Ok(Status::Complete(bytes.len())),
        "{}",
        bytes.escape_ascii()
    );
    assert_eq!(
        (read.method, read.path),
        (Some(method), Some(target.as_str()))
    );
    assert!(same(read.headers, &head.headers));

    let switched = http2 && came.0 == Method::CONNECT;
    assert!(head.method == came.0 || switched && head.method == Method::GET);
    assert!(target.starts_with('/'));
    let count = |name: HeaderName| head.headers.get_all(name).iter().count();
    assert_eq!(count(header::HOST), 1);
    assert_eq!(
        (count(header::CONNECTION), count(header::UPGRADE)),
        (upgrade.into(), upgrade.into())
    );
    assert!(count(header::COOKIE) <= 1 || !http2);
    for name in ["for", "host", "proto"] {
        assert_eq!(
            head.headers
                .get_all(format!("x-forwarded-{name}"))
                .iter()
                .count(),
            1
        );
    }
    let names = head.headers.keys().map(HeaderName::as_str);
    for name in names {
        let claim = name.contains('_')
            || ["expect", "forwarded", "http2-settings", "x-real-ip"].contains(&name);
        assert!(!of_one_hop(name) && !claim, "{name} passed");
    }
    kept(&came.1, &head.headers, http2);
    Some(())
}

fn answer(first: &str, fields: HeaderMap, way: Way<'_>) -> Option<()> {
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = first.parse().ok()?;
    head.headers = fields;
    let came = head.headers.clone();
    sent_back(&mut head, way)?;

    let status = head.status.as_u16();
    let bytes = written(&format!("HTTP/1.1 {status} -"), &head.headers);
    let mut room = [httparse::EMPTY_HEADER; FIELDS];
    let mut read = httparse::Response::new(&mut room);
    assert_eq!(
        read.parse(&bytes),
        Ok(Status::Complete(bytes.len())),
        "{}",
        bytes.escape_ascii()
    );
    assert_eq!(read.code, Some(status));
    assert!(same(read.headers, &head.headers));

    assert_ne!(status, 101);
    assert!(head.headers.get_all(header::CONTENT_LENGTH).iter().count() <= 1);
    for name in ["connection", "upgrade"] {
        assert!(!head.headers.contains_key(name), "{name} passed");
    }
    for name in head.headers.keys() {
        assert!(!of_one_hop(name.as_str()), "{name} passed");
    }
    for cookie in head.headers.get_all(header::SET_COOKIE) {
        let cookie = cookie.to_str().expect("others are dropped");
        let paths: Vec<_> = cookie
            .split(';')
            .skip(1)
            .map(str::trim)
            .filter(|one| {
                one.get(..5)
                    .is_some_and(|name| name.eq_ignore_ascii_case("path="))
            })
            .collect();
        let [path] = paths[..] else {
            panic!("{cookie} has {} paths", paths.len())
        };
        let below = path[5..].strip_prefix(way.prefix);
        assert!(
            below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            "{cookie}"
        );
    }
    kept(&came, &head.headers, false);
    Some(())
}

/// Whether another parser reads what was written.
fn same(read: &[httparse::Header<'_>], fields: &HeaderMap) -> bool {
    read.len() == fields.len()
        && read.iter().zip(fields).all(|(read, (name, value))| {
            read.name == name.as_str() && read.value.trim_ascii() == value.as_bytes().trim_ascii()
        })
}

fn of_one_hop(name: &str) -> bool {
    [
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "proxy-authorization",
        "proxy-authenticate",
    ]
    .contains(&name)
}

/// A field that no rule is about arrives as it came, line by line, unless `Connection` names it.
fn kept(came: &HeaderMap, sent: &HeaderMap, trimmed: bool) {
    let named: Vec<_> = came
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(|name| name.trim_ascii().to_ascii_lowercase())
        .collect();
    let plain = |name: &HeaderName| {
        let name = name.as_str();
        let known = [
            "x-a",
            "accept",
            "user-agent",
            "authorization",
            "range",
            "etag",
            "vary",
            "content-type",
        ];
        known.contains(&name)
            && (name == "authorization"
                || name == "content-type"
                || !named.iter().any(|one| one == name.as_bytes()))
    };
    for name in came.keys().filter(|name| plain(name)) {
        let lines = |of: &HeaderMap| -> Vec<Vec<u8>> {
            let bytes = |value: &http::HeaderValue| {
                let bytes = value.as_bytes();
                (if trimmed { bytes.trim_ascii() } else { bytes }).to_vec()
            };
            of.get_all(name).iter().map(bytes).collect()
        };
        assert_eq!(lines(came), lines(sent), "{name}");
    }
}
