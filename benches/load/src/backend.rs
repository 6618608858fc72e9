//! The service behind the proxies. The end of the path says what it answers:
//!
//!   /<number>       a body of so many bytes            /ws             a websocket that echoes
//!   /down/<number>  so many bulk frames, then an echo  /up/<number>    takes so many bulk frames, then says so
//!   /sse            an event each 100 ms, with its time

use std::{
    env, fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    rc::Rc,
    time::Duration,
};

use crate::poll::{ACCEPT, FRAME, Poll, field, frame, head_end, now, would_block};

const LISTENER: usize = usize::MAX;
const EVERY: u64 = 100_000_000;

#[derive(Clone, Copy, PartialEq)]
enum Does {
    Requests,
    Echo,
    Sink(u64),
    Events,
}

struct Conn {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    /// A block that is sent again and again after `output`.
    again: u64,
    /// Bytes of a request's body that are still to come.
    body: u64,
    does: Does,
    waits_for_room: bool,
}

pub fn run(port_file: Option<&String>) {
    #[expect(clippy::disallowed_methods, reason = "a program of its own: the gateway tells its port like this")]
    let port: u16 = env::var("PORT")
        .ok()
        .and_then(|port| port.parse().ok())
        .unwrap_or(0);
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    listener.set_nonblocking(true).expect("a socket");
    if let Some(file) = port_file {
        let port = listener.local_addr().expect("bound").port();
        fs::write(file, format!("{port} {}", std::process::id())).expect("the folder is there");
    }
    let mut poll = Poll::new();
    poll.add(&listener, LISTENER);
    let block: Rc<[u8]> = frame(FRAME, false).into();
    let (mut conns, mut ready, mut buffer) =
        (Vec::<Option<Conn>>::new(), Vec::new(), vec![0; 256 * 1024]);
    let (mut free, mut events, mut next) = (Vec::new(), 0_usize, 0);
    loop {
        let limit = (events > 0).then(|| Duration::from_nanos(next.max(now()) - now()));
        poll.wait(limit, &mut ready);
        for &token in &ready {
            if token == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    accept(stream, &mut conns, &mut free, &poll);
                }
                continue;
            }
            let Some(conn) = conns[token].as_mut() else {
                continue;
            };
            let was = conn.does;
            if conn.turn(&mut buffer, &block, &poll, token).is_none() {
                events -= usize::from(conn.does == Does::Events);
                conns[token] = None;
                free.push(token);
            } else if was != Does::Events && conn.does == Does::Events {
                events += 1;
            }
        }
        if events > 0 && now() >= next {
            next = now() + EVERY;
            for (token, conn) in conns.iter_mut().enumerate() {
                if let Some(conn) = conn.as_mut().filter(|conn| conn.does == Does::Events) {
                    let event = format!("data: {}\n\n", now());
                    conn.output
                        .extend(format!("{:x}\r\n{event}\r\n", event.len()).bytes());
                    let _ = conn.flush(&block, &poll, token);
                }
            }
        }
    }
}

fn accept(stream: TcpStream, conns: &mut Vec<Option<Conn>>, free: &mut Vec<usize>, poll: &Poll) {
    stream.set_nonblocking(true).expect("a socket");
    let _ = stream.set_nodelay(true);
    let token = free.pop().unwrap_or_else(|| {
        conns.push(None);
        conns.len() - 1
    });
    poll.add(&stream, token);
    conns[token] = Some(Conn {
        stream,
        input: Vec::new(),
        output: Vec::new(),
        sent: 0,
        again: 0,
        body: 0,
        does: Does::Requests,
        waits_for_room: false,
    });
}

impl Conn {
    /// Reads what is there and answers it. `None`: this connection has ended.
    fn turn(&mut self, buffer: &mut [u8], block: &[u8], poll: &Poll, token: usize) -> Option<()> {
        match self.stream.read(buffer) {
            Ok(0) => return None,
            Ok(count) => self.take(&buffer[..count])?,
            Err(error) if would_block(&error) => {}
            Err(_) => return None,
        }
        self.flush(block, poll, token)
    }

    fn take(&mut self, mut bytes: &[u8]) -> Option<()> {
        if let Does::Sink(left) = &mut self.does {
            *left = left.saturating_sub(bytes.len() as u64);
            if *left == 0 {
                self.output.extend(frame(1, false));
                self.does = Does::Echo;
            }
            return Some(());
        }
        let body = self.body.min(bytes.len() as u64);
        self.body -= body;
        bytes = &bytes[body as usize..];
        if body > 0 && self.body == 0 {
            self.answer(128);
        }
        self.input.extend_from_slice(bytes);
        match self.does {
            Does::Requests => self.requests(),
            Does::Echo => self.echo(),
            Does::Sink(_) | Does::Events => Some(()),
        }
    }

    fn requests(&mut self) -> Option<()> {
        while let Some(end) = head_end(&self.input) {
            let head: Vec<u8> = self.input.drain(..end).collect();
            let path = std::str::from_utf8(&head).ok()?.split(' ').nth(1)?;
            let path = path.split('?').next()?;
            let mut words = path.rsplit('/');
            let (last, before) = (words.next()?, words.next()?);
            let number = last.parse::<u64>().unwrap_or(128);
            if field(&head, "upgrade").is_some() {
                self.output.extend(
                    format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                             Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n").bytes());
                let wire = frame(FRAME, true).len() as u64;
                self.does = if before == "up" {
                    Does::Sink(number * wire)
                } else {
                    Does::Echo
                };
                self.again = if before == "down" { number } else { 0 };
                return Some(());
            }
            if last == "sse" {
                self.output.extend(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\
                                     Transfer-Encoding: chunked\r\n\r\n");
                self.does = Does::Events;
                return Some(());
            }
            if last == "headers" {
                self.reflect(&head);
                continue;
            }
            self.body = field(&head, "content-length")
                .and_then(|length| length.parse().ok())
                .unwrap_or(0);
            let there = self.body.min(self.input.len() as u64);
            self.input.drain(..there as usize);
            self.body -= there;
            if self.body > 0 {
                return Some(());
            }
            self.answer(number);
        }
        Some(())
    }

    /// Answers with the request's own head, for the look at each proxy before it is timed.
    fn reflect(&mut self, head: &[u8]) {
        self.output
            .extend(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", head.len()).bytes());
        self.output.extend(head);
    }

    fn answer(&mut self, length: u64) {
        self.output.extend(
            format!("HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: text/plain\r\n\
                     Cache-Control: no-cache\r\nETag: \"0123456789abcdef\"\r\nVary: Accept-Encoding\r\n\
                     Content-Length: {length}\r\n\r\n").bytes());
        self.output
            .resize(self.output.len() + length as usize, b'x');
    }

    /// Short frames back, without their masks (which are zeros).
    fn echo(&mut self) -> Option<()> {
        loop {
            let Some(&[_, length]) = self.input.first_chunk() else {
                return Some(());
            };
            let length = usize::from(length & 0x7f);
            if length > 125 {
                return None;
            }
            if self.input.len() < 6 + length {
                return Some(());
            }
            self.output.extend([self.input[0], length as u8]);
            self.output.extend(&self.input[6..6 + length]);
            self.input.drain(..6 + length);
        }
    }

    fn flush(&mut self, block: &[u8], poll: &Poll, token: usize) -> Option<()> {
        loop {
            if self.sent == self.output.len() {
                self.output.clear();
                self.sent = 0;
                if self.again == 0 {
                    break;
                }
                self.again -= 1;
                self.output.extend_from_slice(block);
            }
            match self.stream.write(&self.output[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if would_block(&error) => break,
                Err(_) => return None,
            }
        }
        let waits = !self.output.is_empty();
        if waits != self.waits_for_room {
            poll.change(&self.stream, token, waits);
            self.waits_for_room = waits;
        }
        Some(())
    }
}
