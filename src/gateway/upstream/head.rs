//! Heads on the way to a service and back (RFC 9112 sections 2 to 5), pure. What they say is not judged here, but by
//! the header rules.

use std::{convert::Infallible, mem::MaybeUninit};

use bytes::Bytes;
use http::{Response, StatusCode, Version, request, response, uri::PathAndQuery};
use httparse::{ParserConfig, Status};
use hyper::ext::ReasonPhrase;

use crate::gateway::http1::{FIELDS, has_option, read_fields, write_field};

/// What may come before the body of an answer: its head, and answers before the answer, of which there may be any
/// number (RFC 9110 section 15.2).
const LONGEST: usize = 64 * 1024;
/// Room for the heads of nearly all requests.
const ROOM: usize = 1024;

/// Why what a service wrote is not the head of an answer.
#[derive(Debug, thiserror::Error)]
pub(in crate::gateway) enum HeadError {
    /// It is malformed, or has too many fields.
    #[error("its head is malformed: {0}")]
    Parse(#[from] httparse::Error),
    /// A status below 100; `httparse` takes any three digits.
    #[error("it has no status")]
    Status,
    /// More came before a body than may.
    #[error("a head without an end")]
    Endless,
}

/// The head of an answer.
pub(in crate::gateway) struct Head {
    /// What it says.
    pub parts: response::Parts,
    /// Whether the connection may carry the next request (RFC 9112 section 9.3).
    pub keeps: bool,
}

/// What bytes of a service begin with.
enum Parsed {
    /// The head of an answer, so long.
    Head(Head, usize),
    /// An answer before the answer, so long.
    Interim(usize),
    /// The beginning of one.
    Part,
}

/// Looks for the head of an answer in what comes of a service.
pub(in crate::gateway) struct Finder {
    /// What may still come before the body.
    room: usize,
}

impl Finder {
    pub(in crate::gateway) fn new() -> Self {
        Self { room: LONGEST }
    }

    /// Whether no answer before the answer was found.
    pub(super) fn is_new(&self) -> bool {
        self.room == LONGEST
    }

    /// The head, and where what follows it begins; or where it will begin itself, once more has come.
    ///
    /// # Errors
    /// If what came is no answer, or has no end.
    pub(in crate::gateway) fn find(
        &mut self,
        bytes: &[u8],
    ) -> Result<(Option<Head>, usize), HeadError> {
        let mut at = 0;
        let (head, length) = loop {
            match parse(&bytes[at..])? {
                Parsed::Head(head, length) => break (Some(head), length),
                Parsed::Part => break (None, bytes.len() - at),
                Parsed::Interim(length) => {
                    at += length;
                    self.room = self.room.saturating_sub(length);
                }
            }
        };
        if length > self.room {
            return Err(HeadError::Endless);
        }
        let at = if head.is_some() { at + length } else { at };
        Ok((head, at))
    }
}

/// The bytes of a request's head.
pub(super) fn encode(head: &request::Parts) -> Vec<u8> {
    let target = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let mut bytes = Vec::with_capacity(ROOM);
    for part in [head.method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        bytes.extend_from_slice(part.as_bytes());
    }
    for (name, value) in &head.headers {
        write_field(&mut bytes, name.as_str(), value.as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// Reads a head, as strictly as `httparse` does without being told otherwise: no folded lines, no space before a colon,
/// no bare CR.
///
/// # Errors
/// If what came can begin no head.
fn parse(bytes: &[u8]) -> Result<Parsed, HeadError> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let mut read = httparse::Response::new(&mut []);
    let config = ParserConfig::default();
    let status = config.parse_response_with_uninit_headers(&mut read, bytes, &mut fields)?;
    let Status::Complete(length) = status else {
        return Ok(Parsed::Part);
    };
    let (Some(minor), Some(code), Some(reason)) = (read.version, read.code, read.reason) else {
        return Err(HeadError::Status);
    };
    let status = StatusCode::from_u16(code).map_err(|_| HeadError::Status)?;
    if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Parsed::Interim(length));
    }
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = status;
    parts.version = if minor == 0 {
        Version::HTTP_10
    } else {
        Version::HTTP_11
    };
    if !reason.is_empty()
        && status.canonical_reason() != Some(reason)
        && let Ok(reason) = ReasonPhrase::try_from(reason.as_bytes())
    {
        parts.extensions.insert(reason);
    }
    let copy = Bytes::copy_from_slice(&bytes[..length]);
    let Ok(headers) = read_fields((bytes, &copy), read.headers, |_, _| Ok::<_, Infallible>(()));
    parts.headers = headers;
    let keeps = match minor {
        0 => has_option(&parts.headers, "keep-alive"),
        _ => !has_option(&parts.headers, "close"),
    };
    Ok(Parsed::Head(Head { parts, keeps }, length))
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};

    use super::*;

    #[test]
    fn the_head_of_a_request_is_written_line_by_line() {
        let request = Request::builder()
            .method("POST")
            .uri("/a%20b?c=d&e")
            .header("host", "gw.test")
            .header("x-many", "1")
            .header("x-many", HeaderValue::from_bytes(b"2\t\xff").unwrap())
            .header("x-empty", "");
        let (head, ()) = request.body(()).unwrap().into_parts();
        let expected = b"POST /a%20b?c=d&e HTTP/1.1\r\nhost: gw.test\r\nx-many: 1\r\nx-many: 2\t\xff\r\nx-empty: \r\n\r\n";
        assert_eq!(
            encode(&head).escape_ascii().to_string(),
            expected.escape_ascii().to_string()
        );
    }

    /// What bytes are, in words.
    fn read(bytes: &str) -> String {
        match parse(bytes.as_bytes()) {
            Err(_) => "none".to_owned(),
            Ok(Parsed::Part) => "part".to_owned(),
            Ok(Parsed::Interim(length)) => format!("interim, {} left", bytes.len() - length),
            Ok(Parsed::Head(Head { parts, keeps }, length)) => {
                let fields: Vec<_> = parts
                    .headers
                    .iter()
                    .map(|(name, value)| format!("{name}={}", value.as_bytes().escape_ascii()))
                    .collect();
                let reason = parts
                    .extensions
                    .get::<ReasonPhrase>()
                    .map_or(String::new(), |reason| {
                        format!(" ({})", reason.as_bytes().escape_ascii())
                    });
                let end = if keeps { "keeps" } else { "ends" };
                format!(
                    "{:?} {}{reason} [{}] {end}, {} left",
                    parts.version,
                    parts.status.as_u16(),
                    fields.join(" "),
                    bytes.len() - length
                )
            }
        }
    }

    #[test]
    fn the_head_of_an_answer_is_read_or_refused() {
        for (bytes, expected) in [
            (
                "HTTP/1.1 200 OK\r\nA: b\r\na:  c \r\nd:\r\n\r\nrest",
                "HTTP/1.1 200 [a=b a=c d=] keeps, 4 left",
            ),
            ("HTTP/1.1 200\r\n\r\n", "HTTP/1.1 200 [] keeps, 0 left"),
            (
                "HTTP/1.1 404 Nothing here\r\n\r\n",
                "HTTP/1.1 404 (Nothing here) [] keeps, 0 left",
            ),
            ("HTTP/1.1 999 \r\n\r\n", "HTTP/1.1 999 [] keeps, 0 left"),
            (
                "HTTP/1.1 200 OK\r\nconnection: a, Close\r\n\r\n",
                "HTTP/1.1 200 [connection=a, Close] ends, 0 left",
            ),
            ("HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.0 200 [] ends, 0 left"),
            (
                "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n\r\n",
                "HTTP/1.0 200 [connection=Keep-Alive] keeps, 0 left",
            ),
            (
                "HTTP/1.1 101 Switching Protocols\r\n\r\nx",
                "HTTP/1.1 101 [] keeps, 1 left",
            ),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP", "interim, 4 left"),
            (
                "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n",
                "interim, 0 left",
            ),
            ("HTTP/1.1 200 OK\r\nA: b\r\n", "part"),
            ("HTT", "part"),
            ("", "part"),
            ("HTTP/1.1 099 No\r\n\r\n", "none"),
            ("HTTP/2.0 200 OK\r\n\r\n", "none"),
            ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "none"),
            ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "none"),
            ("HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n", "none"),
            ("GET / HTTP/1.1\r\n\r\n", "none"),
        ] {
            assert_eq!(read(bytes), expected, "{bytes:?}");
        }
        let fields = |count| format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(count));
        assert!(read(&fields(FIELDS)).starts_with("HTTP/1.1 200"));
        assert_eq!(read(&fields(FIELDS + 1)), "none");
    }
}
