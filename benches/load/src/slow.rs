//! Neighbours that read or write a little at a time, until they are killed.
//!
//! The readers begin by reading nothing, until every buffer on their way is full: only once nothing moves any more is it
//! said, and do all begin to be slow, each in its turn, so that there is never a crowd of them.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use rustix::{
    io::ioctl_fionread,
    net::{AddressFamily, SocketType, connect, socket, sockopt},
};

/// So often each of them moves its little.
const PAUSE: Duration = Duration::from_millis(100);
const LITTLE: usize = 1024;
/// Bytes of each body: more than what the buffers on the way take.
const BODY: usize = 4 << 20;
/// What a reader's own end takes. Otherwise the kernel would take megabytes, and no proxy would have to wait.
const TAKEN: usize = 64 * 1024;
/// So long nothing moves before it is said that nothing does.
const SETTLED: u32 = 10;

struct Neighbour {
    stream: TcpStream,
    reads: bool,
}

pub fn run(words: &[String]) {
    let [address, path, count] = words else {
        panic!("slow ADDRESS PATH COUNT")
    };
    let address: SocketAddr = address.parse().expect("an address");
    let count: usize = count.parse().expect("a number");
    let mut all: Vec<_> = (0..2 * count)
        .map(|number| Neighbour::new(address, path, number % 2 == 0))
        .collect();
    let (mut settled, mut last) = (0, 0);
    while last == 0 || settled < SETTLED {
        thread::sleep(PAUSE);
        let waiting: u64 = all.iter().map(Neighbour::waiting).sum();
        settled = if waiting == last { settled + 1 } else { 0 };
        last = waiting;
    }
    println!("{{\"waiting\": {last}}}");
    let pause = PAUSE / u32::try_from(all.len()).expect("not so many");
    loop {
        for neighbour in &mut all {
            neighbour.trickle();
            thread::sleep(pause);
        }
    }
}

impl Neighbour {
    fn new(address: SocketAddr, path: &str, reads: bool) -> Self {
        let family = AddressFamily::INET;
        let socket = socket(family, SocketType::STREAM, None).expect("a socket");
        sockopt::set_socket_recv_buffer_size(&socket, TAKEN).expect("a size");
        connect(&socket, &address).expect("the proxy listens");
        let mut stream = TcpStream::from(socket);
        let request = if reads {
            format!("GET {path}/{BODY} HTTP/1.1\r\nHost: localhost\r\n\r\n")
        } else {
            format!("POST {path}/128 HTTP/1.1\r\nHost: localhost\r\nContent-Length: {BODY}\r\n\r\n")
        };
        stream.write_all(request.as_bytes()).expect("a short head");
        stream.set_nonblocking(true).expect("a socket");
        Self { stream, reads }
    }

    /// Bytes that have come and are not read.
    fn waiting(&self) -> u64 {
        ioctl_fionread(&self.stream).expect("a socket")
    }

    fn trickle(&mut self) {
        let _ = if self.reads {
            self.stream.read(&mut [0; LITTLE])
        } else {
            self.stream.write(&[b'x'; LITTLE])
        };
    }
}
