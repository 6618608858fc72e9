//! A client of server-sent events on HTTP/2: all streams on one connection, as the tabs of one browser are.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::{client::Asked, times::Times};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Kinds of frames and their flags (RFC 9113 section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:status 200`, `:method GET` and `:scheme http`, by their numbers in the table of HPACK (RFC 7541 appendix A).
const OK: u8 = 0x88;
const GET: u8 = 0x82;
const HTTP: u8 = 0x86;

/// Takes events until there were enough of them.
pub fn run(asked: &Asked) {
    let mut stream = TcpStream::connect(&asked.to).expect("the proxy listens");
    let patience = Some(Duration::from_secs(10));
    stream.set_read_timeout(patience).expect("a socket");
    let mut times = Times::begin();
    let mut output = PREFACE.to_vec();
    output.extend(frame(SETTINGS, 0, 0, &[]));
    for number in 0..asked.connections as u32 {
        output.extend(frame(
            HEADERS,
            END_STREAM | END_HEADERS,
            2 * number + 1,
            &fields(asked),
        ));
    }
    let mut open = 0;
    while times.done() < asked.count {
        stream.write_all(&output).expect("little is sent");
        output.clear();
        let mut head = [0; 9];
        stream.read_exact(&mut head).expect("a frame");
        let [a, b, c, kind, flags, id @ ..] = head;
        let (length, id) = (u32::from_be_bytes([0, a, b, c]), u32::from_be_bytes(id));
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).expect("all of a frame");
        match kind {
            DATA => {
                times.events(&payload);
                // The end of a stream may be a frame without bytes, and an increment is none.
                for id in [0, id].into_iter().filter(|_| length > 0) {
                    output.extend(frame(WINDOW, 0, id, &length.to_be_bytes()));
                }
            }
            HEADERS => {
                assert_eq!(payload[0], OK, "answered otherwise: {payload:?}");
                open += 1;
            }
            SETTINGS | PING if flags & ACK == 0 => {
                let echo = if kind == PING { &payload[..] } else { &[] };
                output.extend(frame(kind, ACK, 0, echo));
            }
            RESET | GOAWAY => panic!("ended by the proxy: {kind} {payload:?}"),
            _ => {}
        }
    }
    assert_eq!(open, asked.connections, "streams that were answered");
    times.report();
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    let mut frame = length.to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The request, its strings as they are (RFC 7541 section 6.2.2).
fn fields(asked: &Asked) -> Vec<u8> {
    const AUTHORITY: u8 = 1;
    const PATH: u8 = 4;
    let mut fields = vec![GET, HTTP];
    for (name, value) in [(AUTHORITY, &asked.to), (PATH, &asked.path)] {
        assert!(value.len() < 127, "its length is one byte");
        fields.extend([name, value.len() as u8]);
        fields.extend(value.bytes());
    }
    fields
}
