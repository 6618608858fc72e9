//! Clients that take and send a little at a time, until they are killed.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

/// So often each of them moves its little.
const PAUSE: Duration = Duration::from_millis(100);

pub fn run(words: &[String]) {
    let [address, path, count] = words else {
        panic!("slow ADDRESS PATH COUNT")
    };
    let connect = |request: String| {
        let mut stream = TcpStream::connect(address).expect("the proxy listens");
        stream.write_all(request.as_bytes()).expect("a short head");
        stream.set_nonblocking(true).expect("a socket");
        stream
    };
    let count: usize = count.parse().expect("a number");
    let head = |method: &str, rest: &str| {
        format!("{method} {path}/1048576 HTTP/1.1\r\nHost: localhost\r\n{rest}\r\n")
    };
    let mut readers: Vec<_> = (0..count).map(|_| connect(head("GET", ""))).collect();
    let mut writers: Vec<_> = (0..count)
        .map(|_| connect(head("POST", "Content-Length: 1048576\r\n")))
        .collect();
    println!("open");
    loop {
        for reader in &mut readers {
            let _ = reader.read(&mut [0; 1024]);
        }
        for writer in &mut writers {
            let _ = writer.write(&[b'x'; 1024]);
        }
        thread::sleep(PAUSE);
    }
}
