//! Paths: nothing panics, and what a path addresses here it addresses for a reader who decodes it and follows its dots.

#![no_main]

use std::sync::LazyLock;

use fuzz::{ID, services};
use http::{HeaderValue, Request, Uri, header};
use libfuzzer_sys::fuzz_target;
use session_gateway::{
    gateway::fuzz::{Way, sent_on},
    session::{Prefix, Route, Services},
};

static SERVICES: LazyLock<Services> = LazyLock::new(services);

fuzz_target!(|target: &str| {
    look(target);
    look(&format!("/{ID}{target}"));
});

fn look(target: &str) {
    let _ = Route::parse(&SERVICES, target);
    let Ok(uri) = Uri::try_from(target) else {
        return;
    };
    let path = uri.path().to_owned();
    let query = uri
        .query()
        .map_or(String::new(), |query| format!("?{query}"));
    let Ok(Route::Service { id, service, rest }) = Route::parse(&SERVICES, &path) else {
        return;
    };
    let prefix = &path[..path.len() - rest.len()];
    let spec = SERVICES.spec(service);
    assert_eq!(prefix, format!("/{id}{}", spec.path));
    let (mut head, ()) = Request::get(uri)
        .body(())
        .expect("it was parsed")
        .into_parts();
    head.headers
        .insert(header::HOST, HeaderValue::from_static("gw.test"));
    let way = Way {
        spec,
        prefix,
        secure: false,
        trusted: false,
    };
    if sent_on(&mut head, way).is_none() {
        return;
    }
    let session = id.to_string();
    // However often it is decoded.
    let mut read = path.clone().into_bytes();
    for _ in 0..3 {
        let segments = resolved(&read);
        let expected = [session.as_bytes(), &spec.path.as_bytes()[1..]];
        assert!(
            segments.starts_with(&expected),
            "{path} leads to {segments:?}"
        );
        read = decoded(&read);
    }
    let sent = head.uri.to_string();
    let expected = match spec.prefix {
        Prefix::Keep => format!("{path}{query}"),
        Prefix::Strip => format!("/{}{query}", rest.trim_start_matches('/')),
    };
    assert_eq!(sent, expected);
    assert!(
        sent.starts_with('/') && (spec.prefix == Prefix::Keep || !sent.starts_with("//")),
        "{sent}"
    );
}

/// Its segments, as a lenient reader has them: a backslash is a slash, what follows a semicolon is no part of a name,
/// and controls are nothing.
fn resolved(path: &[u8]) -> Vec<&[u8]> {
    let mut segments = Vec::new();
    for segment in path.split(|byte| matches!(byte, b'/' | b'\\')) {
        match segment
            .split(|byte| matches!(byte, b';' | b'\0'))
            .next()
            .expect("there is a first")
        {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    segments
}

/// A slash that is escaped stays so: it is a part of a name, which the service alone reads (`/@scope%2Fname`, or a
/// whole relative path as one segment).
fn decoded(path: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut at = 0;
    while at < path.len() {
        let digits = path
            .get(at + 1..at + 3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if path[at] == b'%' && byte != b'/' => {
                bytes.push(byte);
                at += 3;
            }
            _ => {
                bytes.push(path[at]);
                at += 1;
            }
        }
    }
    bytes
}
