//! The client: keeps a number of connections busy, or a rate, and measures from the moment each request was meant to be
//! sent. Every answer is looked at; anything unexpected ends the run with a message.

use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::{
    poll::{FRAME, KEY, Poll, field, frame, head_end, now, would_block},
    times::Times,
};

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Http,
    Ws,
    Down,
    Up,
    Idle,
    Sse,
}

/// What the command line asks for.
pub struct Asked {
    kind: Kind,
    pub to: String,
    pub path: String,
    /// Of HTTP/2 the streams of the one connection.
    pub connections: usize,
    /// Requests or messages in all; of bulk rows the frames of each connection, of events the events.
    pub count: u64,
    /// Requests per second; 0: as many as are answered.
    rate: u64,
    /// Handshakes at a time.
    at_once: usize,
}

impl Asked {
    pub fn parse(words: &[String]) -> Self {
        let of = |key: &str, default: &str| {
            let found = words
                .iter()
                .filter_map(|word| word.split_once('='))
                .find(|(name, _)| *name == key);
            found.map_or(default.to_owned(), |(_, value)| value.to_owned())
        };
        let number = |key: &str, default: &str| of(key, default).parse::<u64>().expect("a number");
        let kind = match of("kind", "http").as_str() {
            "http" => Kind::Http,
            "ws" => Kind::Ws,
            "down" => Kind::Down,
            "up" => Kind::Up,
            "idle" => Kind::Idle,
            "sse" => Kind::Sse,
            other => panic!("no kind {other}"),
        };
        Self {
            kind,
            to: of("to", ""),
            path: of("path", "/"),
            connections: number("connections", "1") as usize,
            count: number("count", "1"),
            rate: number("rate", "0"),
            at_once: number("at_once", "64") as usize,
        }
    }

    /// About 600 bytes, as a browser sends.
    pub fn request(&self) -> Vec<u8> {
        let upgrade = match self.kind {
            Kind::Http | Kind::Sse => String::new(),
            _ => format!(
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                          Sec-WebSocket-Key: {KEY}\r\n"
            ),
        };
        format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, \
             like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
             Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;\
             q=0.8\r\nAccept-Language: en-GB,en;q=0.9\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nCookie: \
             session=0123456789abcdef0123456789abcdef; theme=dark; other=0123456789abcdef0123456789abcdef01234567\r\n\
             Sec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n{upgrade}\r\n",
            self.path, self.to
        ).into_bytes()
    }
}

struct Conn {
    stream: TcpStream,
    output: Vec<u8>,
    sent: usize,
    head: Vec<u8>,
    /// Bytes of the answer that are still to come; `None` while its head is.
    left: Option<u64>,
    since: u64,
    /// Frames that are still to be sent.
    again: u64,
    is_open: bool,
}

struct Load<'a> {
    asked: &'a Asked,
    poll: Poll,
    conns: Vec<Conn>,
    request: Vec<u8>,
    message: Vec<u8>,
    started: u64,
    issued: u64,
    opened: usize,
    idle: VecDeque<usize>,
    times: Times,
}

pub fn run(asked: &Asked) {
    let message = if asked.kind == Kind::Ws {
        frame(64, true)
    } else {
        frame(FRAME, true)
    };
    let mut load = Load {
        asked,
        poll: Poll::new(),
        conns: Vec::new(),
        request: asked.request(),
        message,
        started: 0,
        issued: 0,
        opened: 0,
        idle: VecDeque::new(),
        times: Times::begin(),
    };
    load.open();
    load.drive();
    load.times.report();
    if asked.kind == Kind::Idle {
        // Held until whoever started us has measured.
        let _ = std::io::stdin().read(&mut [0]);
    }
}

impl Load<'_> {
    /// Connects as many as may be in their handshake.
    fn open(&mut self) {
        let is_plain = self.asked.kind == Kind::Http;
        while self.conns.len() < self.asked.connections
            && (is_plain || self.conns.len() - self.opened < self.asked.at_once)
        {
            let stream = TcpStream::connect(&self.asked.to).expect("the proxy listens");
            stream.set_nonblocking(true).expect("a socket");
            let _ = stream.set_nodelay(true);
            let token = self.conns.len();
            self.poll.add(&stream, token);
            self.conns.push(Conn {
                stream,
                output: Vec::new(),
                sent: 0,
                head: Vec::new(),
                left: None,
                since: now(),
                again: 0,
                is_open: false,
            });
            match self.asked.kind {
                Kind::Http => self.idle.push_back(token),
                _ => self.send_request(token),
            }
        }
        if is_plain {
            self.started = now();
            self.times.begin_again();
        }
    }

    fn is_over(&self) -> bool {
        match self.asked.kind {
            Kind::Down | Kind::Up => self.times.done() == self.asked.connections as u64,
            Kind::Idle => self.opened == self.asked.connections,
            _ => self.times.done() >= self.asked.count,
        }
    }

    fn drive(&mut self) {
        let (mut ready, mut buffer) = (Vec::new(), vec![0; 256 * 1024]);
        while !self.is_over() {
            let limit = if self.asked.kind == Kind::Http {
                self.issue()
            } else {
                None
            };
            self.poll
                .wait(Some(limit.unwrap_or(Duration::from_secs(10))), &mut ready);
            assert!(
                !ready.is_empty() || limit.is_some(),
                "nothing came for ten seconds; {} done",
                self.times.done()
            );
            for token in ready.drain(..) {
                self.turn(token, &mut buffer);
            }
        }
    }

    /// Sends what is due, where a connection is free. Returns when the next one is due.
    fn issue(&mut self) -> Option<Duration> {
        loop {
            if self.issued == self.asked.count || self.idle.is_empty() {
                return None;
            }
            let due = match self.asked.rate {
                0 => now(),
                rate => self.started + self.issued * 1_000_000_000 / rate,
            };
            let time = now();
            if due > time {
                return Some(Duration::from_nanos(due - time));
            }
            let token = self.idle.pop_front().expect("looked at above");
            self.conns[token].since = due;
            self.issued += 1;
            self.send_request(token);
        }
    }

    fn send_request(&mut self, token: usize) {
        let conn = &mut self.conns[token];
        conn.left = None;
        conn.output.extend_from_slice(&self.request);
        self.flush(token);
    }

    fn send_message(&mut self, token: usize) {
        let conn = &mut self.conns[token];
        conn.since = now();
        conn.left = Some(66);
        conn.output.extend_from_slice(&self.message);
        self.issued += 1;
        self.flush(token);
    }

    fn flush(&mut self, token: usize) {
        let conn = &mut self.conns[token];
        loop {
            if conn.sent == conn.output.len() {
                conn.output.clear();
                conn.sent = 0;
                if conn.again == 0 {
                    break;
                }
                conn.again -= 1;
                conn.output.extend_from_slice(&self.message);
            }
            match conn.stream.write(&conn.output[conn.sent..]) {
                Ok(count) => conn.sent += count,
                Err(error) if would_block(&error) => break,
                Err(error) => panic!("sending: {error}"),
            }
        }
        if self.asked.kind == Kind::Up {
            self.poll
                .change(&conn.stream, token, !conn.output.is_empty());
        } else {
            assert!(conn.output.is_empty(), "a send buffer is full");
        }
    }

    fn turn(&mut self, token: usize, buffer: &mut [u8]) {
        if self.asked.kind == Kind::Up {
            self.flush(token);
        }
        let count = match self.conns[token].stream.read(buffer) {
            Ok(0) => panic!("closed by the proxy after {} answers", self.times.done()),
            Ok(count) => count,
            Err(error) if would_block(&error) => return,
            Err(error) => panic!("reading: {error}"),
        };
        let mut bytes = &buffer[..count];
        let conn = &mut self.conns[token];
        if conn.left.is_none() {
            let from = conn.head.len();
            conn.head.extend_from_slice(bytes);
            let Some(end) = head_end(&conn.head) else {
                return;
            };
            bytes = &bytes[end - from..];
            self.answered(token, end);
        }
        if self.asked.kind == Kind::Sse {
            return self.times.events(bytes);
        }
        let conn = &mut self.conns[token];
        let left = conn.left.unwrap_or(0);
        assert!(
            bytes.len() as u64 <= left,
            "{} bytes too many",
            bytes.len() as u64 - left
        );
        conn.left = Some(left - bytes.len() as u64);
        if conn.left == Some(0) && (self.asked.kind != Kind::Ws || !bytes.is_empty()) {
            self.complete(token);
        }
    }

    /// A head is whole: what follows it?
    fn answered(&mut self, token: usize, end: usize) {
        let wire = frame(FRAME, false).len() as u64;
        let conn = &mut self.conns[token];
        let head = &conn.head[..end];
        let wants: &[u8] = match self.asked.kind {
            Kind::Http | Kind::Sse => b"HTTP/1.1 200",
            _ => b"HTTP/1.1 101",
        };
        assert!(
            head.starts_with(wants),
            "answered {}",
            String::from_utf8_lossy(head)
        );
        let length = field(head, "content-length").and_then(|length| length.parse().ok());
        conn.head.clear();
        if !conn.is_open {
            conn.is_open = true;
            self.opened += 1;
        }
        conn.left = Some(match self.asked.kind {
            Kind::Http => length.expect("all answers of the backend have a length"),
            Kind::Sse | Kind::Idle | Kind::Ws => 0,
            Kind::Down => self.asked.count * wire,
            Kind::Up => 3,
        });
        if self.asked.kind == Kind::Up {
            conn.again = self.asked.count;
            self.flush(token);
        }
        if self.asked.kind == Kind::Ws && self.opened == self.asked.connections {
            self.times.begin_again();
            (0..self.conns.len()).for_each(|token| self.send_message(token));
        }
        if self.asked.kind != Kind::Http {
            self.open();
        }
    }

    fn complete(&mut self, token: usize) {
        if self.asked.kind == Kind::Idle {
            return;
        }
        self.times.took(self.conns[token].since);
        match self.asked.kind {
            Kind::Http => self.idle.push_back(token),
            Kind::Ws if self.issued < self.asked.count => self.send_message(token),
            _ => {}
        }
    }
}
