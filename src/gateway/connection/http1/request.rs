//! The head of a request (RFC 9112 sections 2 to 6), pure. What it says is not judged here, but by the header rules:
//! only where the request ends has to be certain.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version, header, request::Parts};
use httparse::{ParserConfig, Status};

use crate::{
    gateway::{
        headers::Framing,
        http1::{FIELDS, Reading, is_option, read_fields},
    },
    metrics::End,
};

/// Why what a client wrote is not the head of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::gateway) enum HeadError {
    /// It is malformed.
    #[error("the head of a request is malformed: {0}")]
    Parse(#[from] httparse::Error),
    /// Its target is none.
    #[error("the target of a request is not valid")]
    Target,
    /// Its length is no number, or it has two (RFC 9112 section 6.3).
    #[error("the length of a request is not valid")]
    Length,
    /// A coding does not end in `chunked`, or is used in HTTP/1.0 (RFC 9112 section 6.1).
    #[error("the coding of a request has no end")]
    Coding,
    /// It is longer than `limits.head`.
    #[error("the head of a request is longer than {0} bytes")]
    Long(usize),
    /// It has too many fields.
    #[error("a request has more than {FIELDS} header fields")]
    Fields,
}

/// The head of a request.
pub(in crate::gateway) struct Head {
    /// What it says.
    pub parts: Parts,
    /// The body that follows it.
    pub body: Reading,
    /// Whether another request may follow (RFC 9112 section 9.3).
    pub keeps: bool,
    /// Whether its sender waits before it sends the body (RFC 9110 section 10.1.1).
    pub continues: bool,
}

/// What the fields say about where the request ends.
#[derive(Default)]
struct Ends {
    coded: bool,
    chunked: bool,
    length: Option<u64>,
    close: bool,
    keep: bool,
    continues: bool,
}

impl HeadError {
    /// How the connection is counted.
    pub(super) fn end(self) -> End {
        match self {
            Self::Parse(_) | Self::Target | Self::Length | Self::Coding => End::Malformed,
            Self::Long(_) | Self::Fields => End::Head,
        }
    }
}

/// Reads the head of a request, and says how long it is; `None` if more of it is to come. As strict as `httparse` is
/// without being told otherwise: no folded lines, no space before a colon, no bare CR.
///
/// # Errors
/// If what came can begin no head, or has no end within `longest` bytes.
pub(in crate::gateway) fn parse(
    bytes: &[u8],
    longest: usize,
) -> Result<Option<(Head, usize)>, HeadError> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let mut read = httparse::Request::new(&mut []);
    let config = ParserConfig::default();
    let length = match config.parse_request_with_uninit_headers(&mut read, bytes, &mut fields) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) if bytes.len() >= longest => return Err(HeadError::Long(longest)),
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::Fields),
        Err(error) => return Err(error.into()),
    };
    if length > longest {
        return Err(HeadError::Long(longest));
    }
    let (Some(method), Some(target), Some(minor)) = (read.method, read.path, read.version) else {
        return Err(httparse::Error::Token.into());
    };
    let copy = Bytes::copy_from_slice(&bytes[..length]);
    let from = target.as_ptr() as usize - bytes.as_ptr() as usize;
    let target = copy.slice(from..from + target.len());
    let mut ends = Ends::default();
    let headers = read_fields((bytes, &copy), read.headers, |name, value| {
        ends.see(name, value)
    })?;
    let is_new = minor > 0;
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = Method::from_bytes(method.as_bytes()).map_err(|_| httparse::Error::Token)?;
    parts.uri = Uri::from_maybe_shared(target).map_err(|_| HeadError::Target)?;
    parts.version = if is_new {
        Version::HTTP_11
    } else {
        Version::HTTP_10
    };
    parts.headers = headers;
    let head = Head {
        parts,
        body: ends.body(is_new)?,
        keeps: ends.keeps(is_new),
        continues: is_new && ends.continues,
    };
    Ok(Some((head, length)))
}

/// Whether a head may be whole, of which nothing before `from` ended one.
pub(in crate::gateway) fn may_be_whole(bytes: &[u8], from: usize) -> bool {
    let news = &bytes[from.saturating_sub(3)..];
    news.windows(2).any(|two| two == b"\n\n") || news.windows(3).any(|three| three == b"\n\r\n")
}

impl Ends {
    /// Takes a field into account.
    fn see(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), HeadError> {
        match *name {
            header::CONTENT_LENGTH => {
                let length = length(value.as_bytes()).ok_or(HeadError::Length)?;
                if self.length.is_some_and(|other| other != length) {
                    return Err(HeadError::Length);
                }
                self.length = Some(length);
            }
            header::TRANSFER_ENCODING => {
                self.coded = true;
                let last = value.as_bytes().rsplit(|byte| *byte == b',').next();
                self.chunked = last
                    .unwrap_or_default()
                    .trim_ascii()
                    .eq_ignore_ascii_case(b"chunked");
            }
            header::CONNECTION => {
                self.close |= is_option(value, "close");
                self.keep |= is_option(value, "keep-alive");
            }
            header::EXPECT => {
                self.continues = value.as_bytes().eq_ignore_ascii_case(b"100-continue");
            }
            _ => {}
        }
        Ok(())
    }

    /// The coding goes before the length (RFC 9112 section 6.3).
    fn body(&self, is_new: bool) -> Result<Reading, HeadError> {
        let framing = match (self.coded, self.length) {
            (true, _) if !self.chunked || !is_new => return Err(HeadError::Coding),
            (true, _) => Framing::Chunked,
            (false, length) => Framing::Length(length.unwrap_or(0)),
        };
        Ok(Reading::new(framing))
    }

    /// A request with a coding and a length may be one that smuggles: it is the last (RFC 9112 section 6.1).
    fn keeps(&self, is_new: bool) -> bool {
        let ambiguous = self.coded && self.length.is_some();
        !ambiguous && !self.close && (is_new || self.keep)
    }
}

/// A length: digits alone (RFC 9110 section 8.6).
fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |length, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What bytes are, in words.
    fn read(bytes: &str) -> String {
        match parse(bytes.as_bytes(), 4096) {
            Err(error) => format!("{:?}", error.end()),
            Ok(None) => "part".to_owned(),
            Ok(Some((head, length))) => {
                let parts = &head.parts;
                let fields: Vec<_> = parts
                    .headers
                    .iter()
                    .map(|(name, value)| format!("{name}={}", value.as_bytes().escape_ascii()))
                    .collect();
                format!(
                    "{} {} {:?} [{}] {:?}{}{}, {} left",
                    parts.method,
                    parts.uri,
                    parts.version,
                    fields.join(" "),
                    head.body.left(),
                    if head.keeps { "" } else { " last" },
                    if head.continues { " waits" } else { "" },
                    bytes.len() - length
                )
            }
        }
    }

    #[test]
    fn the_head_of_a_request_is_read() {
        for (bytes, expected) in [
            (
                "GET /a?b HTTP/1.1\r\nA: b\r\na:  c \r\nd:\r\n\r\nrest",
                "GET /a?b HTTP/1.1 [a=b a=c d=] Some(0), 4 left",
            ),
            (
                "\r\nGET / HTTP/1.1\r\n\r\n",
                "GET / HTTP/1.1 [] Some(0), 0 left",
            ),
            ("GET / HTTP/1.1\n\n", "GET / HTTP/1.1 [] Some(0), 0 left"),
            (
                "GET / HTTP/1.0\r\n\r\n",
                "GET / HTTP/1.0 [] Some(0) last, 0 left",
            ),
            (
                "GET / HTTP/1.0\r\nconnection: Keep-Alive\r\n\r\n",
                "GET / HTTP/1.0 [connection=Keep-Alive] Some(0), 0 left",
            ),
            (
                "GET / HTTP/1.1\r\nconnection: a, Close\r\nconnection: keep-alive\r\n\r\n",
                "GET / HTTP/1.1 [connection=a, Close connection=keep-alive] Some(0) last, 0 left",
            ),
            (
                "POST / HTTP/1.1\r\ncontent-length: 007\r\nexpect: 100-Continue\r\n\r\n",
                "POST / HTTP/1.1 [content-length=007 expect=100-Continue] Some(7) waits, 0 left",
            ),
            (
                "POST / HTTP/1.0\r\ncontent-length: 7\r\nexpect: 100-continue\r\n\r\n",
                "POST / HTTP/1.0 [content-length=7 expect=100-continue] Some(7) last, 0 left",
            ),
            (
                "POST / HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n",
                "POST / HTTP/1.1 [transfer-encoding=Chunked] None, 0 left",
            ),
            (
                "POST / HTTP/1.1\r\ncontent-length: 7\r\ntransfer-encoding: chunked\r\n\r\n",
                "POST / HTTP/1.1 [content-length=7 transfer-encoding=chunked] None last, 0 left",
            ),
            ("GET / HTTP/1.1\r\nA: b\r\n", "part"),
            ("GET", "part"),
            ("\r\n", "part"),
            ("", "part"),
        ] {
            assert_eq!(read(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn what_is_no_head_is_refused() {
        for bytes in [
            "POST / HTTP/1.1\r\ncontent-length: 7\r\ncontent-length: 8\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 18446744073709551616\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length:\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: +7\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked, gzip\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: gzip\r\n\r\n",
            "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nA : b\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
            "GET / HTTP/2.0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
        ] {
            assert_eq!(read(bytes), "Malformed", "{bytes:?}");
        }
        let fields = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
        assert!(read(&fields(FIELDS)).starts_with("GET / HTTP/1.1"));
        assert_eq!(read(&fields(FIELDS + 1)), "Head");
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(4079));
        assert_eq!((long.len(), read(&long)), (4096 + 1, "Head".to_owned()));
        assert_eq!(read(&long[..4095]), "part");
        assert_eq!(read(&long[..4096]), "Head");
    }

    #[test]
    fn a_head_that_comes_in_pieces_is_looked_at_when_it_may_be_whole() {
        for whole in [
            "GET / HTTP/1.1\r\nA: b\r\n\r\nrest",
            "GET / HTTP/1.1\n\nrest",
        ] {
            let end = whole.len() - 4;
            for (from, to) in (0..=whole.len()).flat_map(|to| (0..to).map(move |from| (from, to))) {
                let ended_before = from >= end;
                let found = may_be_whole(&whole.as_bytes()[..to], from);
                assert!(
                    found == (to >= end) || ended_before,
                    "{whole:?} {from} {to}"
                );
            }
        }
    }
}
