//! Answers of a hostile service. Each becomes a 502 or a broken stream, or is made harmless; the client's connection
//! survives where the answer was whole, and nobody else gets a byte of it.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::Barrier;

use super::*;
use crate::support::service::head;

/// What the service writes, `|` for the end of a line, and what the client gets; a `~` keeps the connection open, and a
/// `!` resets it.
type Row = (&'static str, &'static str);

/// A service that writes row N when asked for `/N-`, and `good` otherwise, to two at once where asked for `/both-`.
struct Hostile {
    rows: &'static [Row],
    both: Barrier,
    /// Connections on which it was asked for anything.
    connections: AtomicUsize,
}

impl Hostile {
    async fn new(rows: &'static [Row]) -> (Arc<Self>, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let hostile = Arc::new(Self {
            rows,
            both: Barrier::new(2),
            connections: AtomicUsize::new(0),
        });
        let own = Arc::clone(&hostile);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let own = Arc::clone(&own);
                tokio::spawn(async move {
                    let mut first = true;
                    while own.answer(&mut stream, &mut first).await.is_some() {}
                });
            }
        });
        (hostile, address)
    }

    /// Answers one request; `None` if the connection ends.
    async fn answer(&self, stream: &mut TcpStream, first: &mut bool) -> Option<()> {
        let head = head(stream).await;
        if head.is_empty() {
            return None;
        }
        self.connections
            .fetch_add(usize::from(std::mem::take(first)), Relaxed);
        if head.contains("/both-") {
            self.both.wait().await;
        }
        answer(stream, &head, self.rows).await
    }
}

async fn answer(stream: &mut TcpStream, head: &str, rows: &[Row]) -> Option<()> {
    let row = head
        .split("/row")
        .nth(1)
        .and_then(|rest| rest.split('-').next()?.parse().ok());
    let Some(row) = row.map(|row: usize| rows[row].0) else {
        return stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood")
            .await
            .ok();
    };
    let (says, open) = row
        .strip_prefix(['~', '!'])
        .map_or((row, false), |says| (says, row.starts_with('~')));
    stream
        .write_all(says.replace('|', "\r\n").as_bytes())
        .await
        .ok()?;
    if open {
        return Some(());
    }
    if row.starts_with('!') {
        stream.set_zero_linger().ok()?;
        return None;
    }
    stream.shutdown().await.ok()?;
    // Read to the end, or what was written may be lost by a reset.
    while stream.read_u8().await.is_ok() {}
    None
}

const INVALID: &str = "502 upstream_invalid, alive";
const BROKE: &str = "502 upstream_broke, alive";

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // Heads that are none.
    ("", BROKE), ("|", BROKE), ("||", BROKE), ("H", BROKE), ("HTTP/1.1", BROKE), ("HTTP/1.1 200", BROKE),
    ("HTTP/1.1 200 OK|", BROKE), ("HTTP/1.1 200 OK|content-length: 5", BROKE), ("garbage||", BROKE),
    ("<html>hello</html>", BROKE), ("HTTP/0.9 200 OK||", BROKE), ("HTTP/1.2 200 OK||", BROKE),
    ("HTTP/2 200 OK||", BROKE), ("HTTP/1.1 99 OK||", BROKE), ("HTTP/1.1 000 OK||", BROKE), ("HTTP/1.1 20 OK||", BROKE),
    ("HTTP/1.1 2000 OK||", BROKE), ("HTTP/1.1 -20 OK||", BROKE), ("HTTP/1.1 abc OK||", BROKE),
    ("HTTP/1.1 200 O\rK||", BROKE), ("HTTP/1.1 200 OK\0||", BROKE), ("HTTP/1.1 200 OK|X: a| folded||", BROKE),
    ("HTTP/1.1 200 OK|X : a||", BROKE), ("HTTP/1.1 200 OK|: a||", BROKE), ("HTTP/1.1 200 OK|X: a\0b||", BROKE),
    ("HTTP/1.1 200 OK|X: a\rb||", BROKE), ("HTTP/1.1 200 OK|no colon||", BROKE), ("HTTP/1.1 200 OK|é: a||", BROKE),
    ("\x16\x03\x01\x02", BROKE), ("GET / HTTP/1.1|host: x||", BROKE), ("~HTTP/1.1 2x0 OK||", BROKE),
    ("HTTP/1.1 200 OK|X: a\x7fb||", BROKE), ("PRI * HTTP/2.0||SM||", BROKE), ("!HTTP/1.1 200 OK|content-le", BROKE),
    ("HTTP/1.1 103 Early Hints|link: </x>||", BROKE), ("HTTP/1.1 100 Continue||garbage||", BROKE),
    // Lengths that cannot be told.
    ("HTTP/1.1 200 OK|content-length: 4|content-length: 5||good", INVALID),
    ("HTTP/1.1 200 OK|content-length: +4||good", INVALID), ("HTTP/1.1 200 OK|content-length: -4||good", INVALID),
    ("HTTP/1.1 200 OK|content-length: 4, 5||good", INVALID), ("HTTP/1.1 200 OK|content-length: four||good", INVALID),
    ("HTTP/1.1 200 OK|content-length: 0x4||good", INVALID),
    ("HTTP/1.1 200 OK|content-length: 99999999999999999999||good", INVALID),
    ("HTTP/1.1 200 OK|transfer-encoding: gzip||good", INVALID),
    ("HTTP/1.1 200 OK|transfer-encoding: gzip, chunked||0||", INVALID),
    ("HTTP/1.1 200 OK|transfer-encoding: chunked|transfer-encoding: chunked||0||", INVALID),
    ("HTTP/1.1 200 OK|transfer-encoding: xchunked||0||", INVALID),
    ("HTTP/1.0 200 OK|transfer-encoding: chunked||0||", INVALID),
    ("HTTP/1.1 200 OK|transfer-encoding: chunked, gzip||good", INVALID),
    ("HTTP/1.1 200 OK|transfer-encoding: chunked;q=1||0||", INVALID),
    ("HTTP/1.1 200 OK|transfer-encoding: ||good", INVALID),
    ("HTTP/1.1 200 OK|content-length: ||good", INVALID), ("HTTP/1.1 200 OK|content-length: 4 4||good", INVALID),
    ("HTTP/1.1 200 OK|content-length: 4|transfer-encoding: gzip||good", INVALID),
    // Switches that were not asked for.
    ("HTTP/1.1 101 Switching Protocols|connection: upgrade|upgrade: websocket||", INVALID),
    ("~HTTP/1.1 101 Switching Protocols|connection: upgrade|upgrade: h2c||", INVALID),
    ("~HTTP/1.1 101 Switching Protocols||", INVALID),
    // Bodies that break off: the client sees a broken stream, never an end.
    ("HTTP/1.1 200 OK|content-length: 9||good", "200, cut"),
    ("HTTP/1.1 200 OK|transfer-encoding: chunked||4|good|", "200, cut"),
    ("HTTP/1.1 200 OK|transfer-encoding: chunked||4|good|0|", "200, cut"),
    ("HTTP/1.1 200 OK|transfer-encoding: chunked||9|good", "200, cut"),
    ("HTTP/1.1 200 OK|transfer-encoding: chunked||x|good|0||", "200, cut"),
    ("HTTP/1.1 200 OK|transfer-encoding: chunked||4|goodX0||", "200, cut"),
    ("HTTP/1.1 200 OK|transfer-encoding: chunked||fffffffffffffffff|good|0||", "200, cut"),
    ("~HTTP/1.1 200 OK|transfer-encoding: chunked||-4|good|0||", "200, cut"),
    ("~HTTP/1.1 200 OK|transfer-encoding: chunked||0x4|good|0||", "200, cut"),
    ("HTTP/1.1 200 OK|transfer-encoding: chunked||4\ngood|0||", "200, cut"),
    ("HTTP/1.1 200 OK|transfer-encoding: chunked||4|good||0||", "200, cut"),
    ("!HTTP/1.1 200 OK|content-length: 9||good", "200, cut"),
    ("!HTTP/1.1 200 OK|transfer-encoding: chunked||4|good|", "200, cut"), ("!HTTP/1.1 200 OK||good", "200, cut"),
    // What can be made harmless is.
    ("HTTP/1.1 200 OK|content-length: 4, 4||good", "200, alive"),
    ("HTTP/1.1 200 OK|content-length: 4|content-length: 4||good", "200, alive"),
    ("HTTP/1.1 200 OK|content-length: 9|transfer-encoding: chunked||4|good|0||", "200, alive"),
    ("HTTP/1.0 200 OK|content-length: 4||good", "200, alive"), ("HTTP/1.0 200 OK||good", "200, alive"),
    ("HTTP/1.1 200 OK||good", "200, alive"), ("HTTP/1.1 200||good", "200, alive"),
    ("HTTP/1.1 204 No Content|content-length: 4||evil", "204, alive"), ("HTTP/1.1 304 Not Modified||evil", "304, alive"),
    ("~HTTP/1.1 204 No Content|transfer-encoding: chunked||4|evil|0||", "204, alive"),
    ("HTTP/1.1 500 Oops|content-length: 0||", "500, alive"), ("HTTP/1.1 999 ?|content-length: 0||", "999, alive"),
    ("HTTP/1.1 503 Busy|content-length: 4||good", "503, alive"),
    ("HTTP/1.1 103 Early Hints|link: </x>||HTTP/1.1 200 OK|content-length: 4||good", "200, alive"),
    ("HTTP/1.1 100 Continue||HTTP/1.1 200 OK|content-length: 4||good", "200, alive"),
    ("HTTP/1.1 200 OK|connection: close, content-length|content-length: 4||good", "200, alive"),
    ("HTTP/1.1 200 OK|transfer-encoding: chunked||4|good|0|content-length: 9||", "200, alive"),
    ("~HTTP/1.1 200 OK|upgrade: h2c|keep-alive: timeout=1|content-length: 4||good", "200, alive"),
];

/// Whether an answer is not made harmless, but refused or cut.
fn is_bad(expected: &str) -> bool {
    expected.starts_with("502 ") || expected.ends_with(", cut")
}

/// Asks for every row while two connections lie idle, and behind it for what is good: after a bad answer that goes on
/// the second, which is as good as before.
async fn survive(rows: &'static [Row]) {
    let (hostile, address) = Hostile::new(rows).await;
    let gateway = Gateway::with(address, &["workers=1"]);
    let id = gateway.runs().await;
    let good = async |name: &str| {
        let path = format!("/{id}/preview/{name}");
        assert_eq!(gateway.send("GET", &path, &[]).await.text(), "good");
    };
    let mut wrong = Vec::new();
    for (at, (row, expected)) in rows.iter().enumerate() {
        tokio::join!(good("both-"), good("both-"));
        let before = hostile.connections.load(Relaxed);
        let host = format!("HTTP/1.1\r\nHost: {}\r\n", gateway.address);
        let both = format!(
            "GET /{id}/preview/row{at}- {host}\r\nGET /{id}/preview/after {host}Connection: close\r\n\r\n"
        );
        let answer = talk(gateway.address, both.as_bytes(), false).await;
        let alive = answer.ends_with("\r\n\r\ngood") && answer.matches("HTTP/1.1 ").count() == 2;
        let found = format!(
            "{}, {}",
            outcome(&answer),
            if alive { "alive" } else { "cut" }
        );
        if found != *expected || answer.contains("evil") {
            wrong.push(format!(
                "{:.300}: {found}, expected {expected}",
                row.escape_debug().to_string()
            ));
        }
        good("good").await;
        if is_bad(expected) {
            // No byte of an answer came: the request went once more.
            let again = usize::from(row.is_empty());
            let new = hostile.connections.load(Relaxed) - before;
            assert_eq!(new, again, "connections, after {row:.300}");
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        rows.len(),
        wrong.join("\n")
    );
}

#[tokio::test]
async fn an_answer_that_is_none_hurts_nobody_but_its_own_request() {
    let count = ROWS.iter().filter(|(_, expected)| is_bad(expected)).count();
    assert!(count >= 60, "{count} rows");
    survive(ROWS).await;
}

/// What comes before a body is bounded: the head, its fields, and the answers before the answer.
#[tokio::test]
async fn the_head_of_an_answer_is_bounded() {
    let head = |more: String| format!("HTTP/1.1 200 OK|content-length: 4|{more}|good");
    let early = |count| "HTTP/1.1 103 Early Hints|link: </x>||".repeat(count);
    let large = |size| head(format!("x: {}|", "y".repeat(size)));
    let rows = [
        (head("x: y|".repeat(99)), "200, alive"),
        (head("x: y|".repeat(100)), BROKE),
        (large(60_000), "200, alive"),
        (large(70_000), BROKE),
        (early(100) + &head(String::new()), "200, alive"),
        (early(20_000) + &head(String::new()), BROKE),
        (format!("~{}", early(20_000)), BROKE),
    ];
    // For as long as the service, which is until the end of the process.
    let rows = rows.map(|(row, expected)| -> Row { (row.leak(), expected) });
    survive(Box::leak(Box::new(rows))).await;
}

/// An answer behind an answer is for nobody: the next request must not get it.
#[tokio::test]
async fn a_second_answer_reaches_no_other_request() {
    const TWO: &[Row] = &[(
        "~HTTP/1.1 200 OK|content-length: 4||goodHTTP/1.1 200 OK|content-length: 5||evil!",
        "",
    )];
    let (_, address) = Hostile::new(TWO).await;
    let (gateway, id) = running(address).await;
    for _ in 0..20 {
        for path in ["row0-", "other"] {
            let reply = gateway
                .send("GET", &format!("/{id}/preview/{path}"), &[])
                .await;
            assert_eq!(reply.text(), "good");
        }
    }
}
