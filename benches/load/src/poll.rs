//! What both ends share: epoll, the clock, and the frames of the websocket rows.

use std::{io, os::fd::OwnedFd, time::Duration};

use rustix::{
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
    time::{ClockId, clock_gettime},
};

/// Bytes of one bulk frame's payload.
pub const FRAME: usize = 64 * 1024;
/// The key and the accept of RFC 6455's own example, so that neither end computes a digest.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub struct Poll {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Poll {
    pub fn new() -> Self {
        Self {
            epoll: epoll::create(CreateFlags::CLOEXEC).expect("epoll"),
            events: Vec::with_capacity(1024),
        }
    }

    pub fn add(&self, source: impl std::os::fd::AsFd, token: usize) {
        epoll::add(
            &self.epoll,
            source,
            EventData::new_u64(token as u64),
            EventFlags::IN,
        )
        .expect("a new socket");
    }

    /// Whether to hear of room in the send buffer as well.
    pub fn change(&self, source: impl std::os::fd::AsFd, token: usize, writes: bool) {
        let flags = if writes {
            EventFlags::IN | EventFlags::OUT
        } else {
            EventFlags::IN
        };
        epoll::modify(&self.epoll, source, EventData::new_u64(token as u64), flags)
            .expect("a known socket");
    }

    /// Waits, and hands out the tokens of what is ready.
    pub fn wait(&mut self, limit: Option<Duration>, ready: &mut Vec<usize>) {
        let limit = limit.map(|limit| Timespec::try_from(limit).expect("a short time"));
        self.events.clear();
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut self.events),
            limit.as_ref(),
        ) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("epoll: {error}"),
        }
        ready.clear();
        ready.extend(self.events.iter().map(|event| event.data.u64() as usize));
    }
}

/// Nanoseconds of the clock that all processes of this machine share.
pub fn now() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// CPU nanoseconds of this process.
pub fn cpu() -> u64 {
    nanoseconds(ClockId::ProcessCPUTime)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A binary frame; `masked` by zeros, as a client's has to be, which leaves the payload as it is.
pub fn frame(payload: usize, masked: bool) -> Vec<u8> {
    let mask = if masked { 0x80 } else { 0 };
    let mut frame = vec![0x82];
    if payload < 126 {
        frame.push(mask | payload as u8);
    } else {
        frame.push(mask | 127);
        frame.extend((payload as u64).to_be_bytes());
    }
    frame.extend(if masked { &[0; 4][..] } else { &[] });
    frame.resize(frame.len() + payload, b'x');
    frame
}

pub fn would_block(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Where the head of a message ends.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map(|at| at + 4)
}

/// A field's value, by its name in lower case.
pub fn field<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let head = std::str::from_utf8(head).ok()?;
    head.split("\r\n").skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
