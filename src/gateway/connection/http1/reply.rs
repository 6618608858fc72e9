//! An answer on its way to a client: its head, and its body as it comes.

use std::{
    cell::{Cell, RefCell},
    io::{self, IoSlice, Write as _},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use http::{HeaderName, Method, StatusCode, Version, header, request, response::Parts};
use http_body::Body as _;
use hyper::ext::ReasonPhrase;
use jiff::fmt::rfc2822;
use tokio::io::AsyncWrite;

use super::wire::Wire;
use crate::{
    gateway::{
        body::{Body, BodyError},
        http1::{has_option, write_field},
    },
    session::clock,
};

/// So much of a body is copied behind what goes before it, for less than a call with several parts costs.
const LITTLE: usize = 4 * 1024;
/// Pieces of a body are gathered up to so much.
const GATHERED: usize = 16 * 1024;
/// Room for the heads of nearly all answers.
const ROOM: usize = 2 * 1024;

/// What of a request decides how it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    /// For a head alone.
    head: bool,
    /// In HTTP/1.0.
    old: bool,
    /// Whether another request may follow.
    pub keeps: bool,
}

/// How the client is told where a body ends (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    /// There is none.
    None,
    /// By its length.
    Length(u64),
    /// By the last chunk.
    Chunked,
    /// By the end of the connection.
    Open,
}

/// What goes out.
pub(super) struct Reply {
    /// The head, pieces of the body, and what the coding puts before the next one.
    before: Vec<u8>,
    /// How much of that is written.
    written: usize,
    /// A larger piece.
    data: Bytes,
    /// What the coding puts behind it.
    after: &'static [u8],
    coding: Coding,
    /// Whether more of the body is to come.
    is_open: bool,
    /// How it broke off: the client is to get what came before.
    broken: Option<BodyError>,
    /// Whether another request may follow.
    pub keeps: bool,
}

/// Why an answer is not sent to its end.
#[derive(Debug, thiserror::Error)]
pub(in crate::gateway::connection) enum ReplyError {
    /// The socket failed.
    #[error(transparent)]
    Socket(#[from] io::Error),
    /// The answer broke off itself.
    #[error(transparent)]
    Body(#[from] BodyError),
}

thread_local! {
    /// Room for a head, for whoever writes next.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// The date of this second.
    static DATE: RefCell<(i64, String)> = const { RefCell::new((0, String::new())) };
}

impl Asked {
    /// Nothing that can be told.
    pub(super) const UNKNOWN: Self = Self {
        head: false,
        old: false,
        keeps: false,
    };

    pub(super) fn by(head: &request::Parts, keeps: bool) -> Self {
        Self {
            head: head.method == Method::HEAD,
            old: head.version == Version::HTTP_10,
            keeps,
        }
    }
}

impl Reply {
    /// An answer of which nothing is sent yet, behind what has to go `first`.
    pub(super) fn new(first: &[u8], head: &Parts, body: &Body, asked: Asked) -> Self {
        let length = body.size_hint().exact();
        let coding = Coding::of(head.status, length, asked);
        let open = coding == Coding::Open || head.status == StatusCode::SWITCHING_PROTOCOLS;
        let keeps = asked.keeps && !open && !has_option(&head.headers, "close");
        let mut before = SPARE.take();
        before.reserve(ROOM);
        before.extend_from_slice(first);
        encode(&mut before, head, coding, Asked { keeps, ..asked });
        Self {
            before,
            written: 0,
            data: Bytes::new(),
            after: &[],
            coding,
            is_open: !matches!(coding, Coding::None | Coding::Length(0)),
            broken: None,
            keeps,
        }
    }

    /// Writes what there is. Ready once all is written.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Body,
        wire: &RefCell<Wire>,
    ) -> Poll<Result<(), ReplyError>> {
        loop {
            let more = self.gather(cx, body);
            if self.is_written() {
                // An encrypted connection keeps what could not go out at once.
                ready!(wire.borrow_mut().socket()?.poll_flush(cx))?;
                if self.is_open {
                    ready!(more);
                    continue;
                }
                let broken = self.broken.take();
                return Poll::Ready(broken.map_or(Ok(()), |error| Err(error.into())));
            }
            ready!(self.poll_write(cx, wire.borrow_mut().socket()?))?;
        }
    }

    fn is_written(&self) -> bool {
        self.written == self.before.len() && self.data.is_empty() && self.after.is_empty()
    }

    /// Takes more of the body, as long as there is room for it; pending if there is room and nothing to take.
    fn gather(&mut self, cx: &mut Context<'_>, body: &mut Body) -> Poll<()> {
        if self.written == self.before.len() {
            self.before.clear();
            self.written = 0;
        }
        while self.is_open && self.data.is_empty() && self.before.len() < GATHERED {
            match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.put(data);
                    }
                }
                Some(Err(error)) => {
                    self.broken = Some(error);
                    self.is_open = false;
                }
                None => self.end(),
            }
        }
        Poll::Ready(())
    }

    /// A piece of the body goes out next.
    fn put(&mut self, mut data: Bytes) {
        match &mut self.coding {
            Coding::Length(left) => {
                // More than it said would be taken for the next answer.
                data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= data.len() as u64;
                self.is_open = *left > 0;
            }
            // It would be the last one.
            Coding::Chunked if data.is_empty() => return,
            Coding::Chunked => {
                // To a vector nothing fails.
                let _ = write!(self.before, "{:x}\r\n", data.len());
                self.after = b"\r\n";
            }
            Coding::None | Coding::Open => {}
        }
        if data.len() <= LITTLE {
            self.before.extend_from_slice(&data);
            self.before.extend_from_slice(self.after);
            self.after = &[];
        } else {
            self.data = data;
        }
    }

    /// The body has ended.
    fn end(&mut self) {
        self.is_open = false;
        match self.coding {
            Coding::Length(_) => self.broken = Some(BodyError::Short),
            Coding::Chunked => self.before.extend_from_slice(b"0\r\n\r\n"),
            Coding::None | Coding::Open => {}
        }
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        to: Pin<&mut impl AsyncWrite>,
    ) -> Poll<io::Result<()>> {
        let before = &self.before[self.written..];
        let count = if self.data.is_empty() && self.after.is_empty() {
            ready!(to.poll_write(cx, before))?
        } else {
            let parts = [before, &self.data, self.after].map(IoSlice::new);
            ready!(to.poll_write_vectored(cx, &parts))?
        };
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let of_before = count.min(before.len());
        self.written += of_before;
        let of_data = (count - of_before).min(self.data.len());
        self.data.advance(of_data);
        self.after = &self.after[count - of_before - of_data..];
        Poll::Ready(Ok(()))
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        let mut before = std::mem::take(&mut self.before);
        before.clear();
        // At the end of the thread there is no place for it any more.
        let _ = SPARE.try_with(|spare| spare.set(before));
    }
}

impl Coding {
    /// What a body of this length, if it is known, is sent with.
    fn of(status: StatusCode, length: Option<u64>, asked: Asked) -> Self {
        let without = status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        match length {
            _ if asked.head || without => Self::None,
            Some(length) => Self::Length(length),
            None if asked.old => Self::Open,
            None => Self::Chunked,
        }
    }
}

/// Appends the bytes of a head. What says where the body ends is written anew.
fn encode(into: &mut Vec<u8>, head: &Parts, coding: Coding, asked: Asked) {
    into.extend_from_slice(b"HTTP/1.1 ");
    into.extend_from_slice(head.status.as_str().as_bytes());
    into.push(b' ');
    let reason = head.extensions.get::<ReasonPhrase>();
    let canonical = || {
        head.status
            .canonical_reason()
            .unwrap_or_default()
            .as_bytes()
    };
    into.extend_from_slice(reason.map_or_else(canonical, ReasonPhrase::as_bytes));
    into.extend_from_slice(b"\r\n");
    // Of an answer without its body it says how long that would be.
    let drops_length = coding != Coding::None;
    let (mut dated, mut says) = (false, false);
    for (name, value) in &head.headers {
        match *name {
            header::CONTENT_LENGTH if drops_length => continue,
            header::TRANSFER_ENCODING => continue,
            header::CONNECTION => says = true,
            header::DATE => dated = true,
            _ => {}
        }
        write_field(into, name.as_str(), value.as_bytes());
    }
    match coding {
        Coding::Length(length) => {
            // To a vector nothing fails.
            let _ = write!(into, "{}: {length}\r\n", header::CONTENT_LENGTH);
        }
        Coding::Chunked => field(into, header::TRANSFER_ENCODING, "chunked"),
        Coding::None | Coding::Open => {}
    }
    match asked {
        _ if says => {}
        Asked { keeps: false, .. } => field(into, header::CONNECTION, "close"),
        Asked { old: true, .. } => field(into, header::CONNECTION, "keep-alive"),
        Asked { .. } => {}
    }
    if !dated {
        date(|date| field(into, header::DATE, date));
    }
    into.extend_from_slice(b"\r\n");
}

fn field(into: &mut Vec<u8>, name: HeaderName, value: &str) {
    write_field(into, name.as_str(), value.as_bytes());
}

/// The date (RFC 9110 section 6.6.1), written once a second.
fn date(to: impl FnOnce(&str)) {
    let now = clock::now();
    DATE.with_borrow_mut(|(second, text)| {
        if *second != now.as_second() {
            let printer = rfc2822::DateTimePrinter::new();
            *text = printer
                .timestamp_to_rfc9110_string(&now)
                .unwrap_or_default();
            *second = now.as_second();
        }
        to(text);
    });
}

#[cfg(test)]
mod tests {
    use http::Response;
    use tokio::sync::mpsc;

    use super::*;

    /// What goes out of an answer without a body, and whether another request may follow.
    fn written(head: http::response::Builder, body: &Body, asked: Asked) -> (String, bool) {
        let (head, ()) = head
            .header("date", "then")
            .body(())
            .expect("a head")
            .into_parts();
        let reply = Reply::new(b"", &head, body, asked);
        let text = String::from_utf8(reply.before.clone()).expect("text");
        let text = text.replace("date: then\r\n", "");
        (text.replace("\r\n", "|"), reply.keeps)
    }

    #[rustfmt::skip]
    #[test]
    fn a_head_says_where_the_body_ends_and_whether_the_connection_does() {
        let new = Asked { head: false, old: false, keeps: true };
        let (head, old, last) = (Asked { head: true, ..new }, Asked { old: true, ..new }, Asked { keeps: false, ..new });
        let status = |code: u16| Response::builder().status(code);
        let (ok, claims) = (|| status(200), || status(200).header("content-length", "9").header("x", "y"));
        let (_tell, told) = mpsc::channel(1);
        let (own, none, told) = (Body::own("good"), Body::Bodyless, Body::Told(told));
        for (answer, body, asked, expected, keeps) in [
            (ok(), &own, new, "200 OK|content-length: 4||", true),
            (claims(), &own, new, "200 OK|x: y|content-length: 4||", true),
            (ok(), &none, new, "200 OK|content-length: 0||", true),
            (ok(), &told, new, "200 OK|transfer-encoding: chunked||", true),
            (claims(), &told, new, "200 OK|x: y|transfer-encoding: chunked||", true),
            (ok().header("transfer-encoding", "gzip"), &own, new, "200 OK|content-length: 4||", true),
            (claims(), &none, head, "200 OK|content-length: 9|x: y||", true),
            (ok(), &told, head, "200 OK||", true),
            (status(304).header("etag", "e"), &none, new, "304 Not Modified|etag: e||", true),
            (status(204), &own, new, "204 No Content||", true),
            (status(999), &none, new, "999 |content-length: 0||", true),
            (ok(), &own, last, "200 OK|content-length: 4|connection: close||", false),
            (ok().header("connection", "close"), &own, new, "200 OK|connection: close|content-length: 4||", false),
            (ok(), &own, old, "200 OK|content-length: 4|connection: keep-alive||", true),
            (ok(), &told, old, "200 OK|connection: close||", false),
            (status(101).header("connection", "upgrade"), &none, new,
                "101 Switching Protocols|connection: upgrade||", false),
        ] {
            let (text, kept) = written(answer, body, asked);
            assert_eq!((text.as_str(), kept), (&*format!("HTTP/1.1 {expected}"), keeps));
        }
    }

    #[test]
    fn the_date_is_that_of_the_second() {
        date(|text| assert!(text.len() == 29 && text.ends_with(" GMT"), "{text}"));
    }
}
