//! Malformed, ambiguous and half-finished requests. Each has one exact outcome, and its service never sees a second
//! request in it: every row smuggles one.

use super::*;

/// What a service received, request by request; the last of a connection may be a part of one.
type Received = Arc<Mutex<Vec<String>>>;
type Rows = Vec<(String, &'static str)>;

/// A service that reads as literally as it can and answers everything with `ok`.
async fn literal() -> (SocketAddr, Received) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let received = Received::default();
    let all = Arc::clone(&received);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&all)));
        }
    });
    (address, received)
}

async fn serve(mut stream: TcpStream, all: Received) {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some(end) = whole(&text) {
            all.lock().unwrap().push(text[..end].to_owned());
            bytes.drain(..end);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            if stream.write_all(answer).await.is_err() {
                return;
            }
        } else if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
            if !bytes.is_empty() {
                all.lock().unwrap().push(text);
            }
            return;
        }
    }
}

/// Where the first request ends, if all of it is there.
fn whole(text: &str) -> Option<usize> {
    let body = text.find("\r\n\r\n")? + 4;
    let head = text[..body].to_ascii_lowercase();
    let field = |name: &str| {
        let at = head.find(&format!("\r\n{name}: "))? + name.len() + 4;
        head[at..].split("\r\n").next()
    };
    if field("transfer-encoding").is_some() {
        let end = text[body..].find("0\r\n\r\n")?;
        return Some(body + end + 5);
    }
    let length: usize = field("content-length").map_or(Some(0), |length| length.parse().ok())?;
    (text.len() >= body + length).then_some(body + length)
}

/// Rows that differ in one place, `*`, of a head; `|` is the end of a line.
fn each(rows: &mut Rows, head: &str, outcome: &'static str, places: &[&str]) {
    rows.extend(
        places
            .iter()
            .map(|place| (head.replace('*', place), outcome)),
    );
}

const CODED: &str = "POST AT HTTP/1.1|Host: HOST|Connection: close|*||5|AAAAA|0||";
const FIELD: &str = "GET AT HTTP/1.1|Host: HOST|Connection: close|*||";
const PATH: &str = "GET AT/* HTTP/1.1|Host: HOST|Connection: close||";
const SOCKET: &str =
    "GET AT HTTP/1.1|Host: HOST|Connection: upgrade|Upgrade: websocket|Sec-WebSocket-*||";

#[rustfmt::skip]
fn targets() -> Rows {
    let mut rows = Rows::new();
    each(&mut rows, PATH, "400 invalid_path", &[
        "..", ".", "a/../b", "a/./b", "%2e", "%2e%2e", "%2E.", ".%2e", "%252e", "%252e%252e", "%252E.", "..?x",
        "a\\b", "\\..\\", "%5c", "%5C", "%00", "%0d%0a", "%0a", "%0D", "%1f", "%7f", "%09", "%", "%2", "%zz", "%2g",
        "%+1", "%-1", "é", "a%", "%u0041",
    ]);
    each(&mut rows, PATH, "400 invalid_head", &["a b", "a\tb", "a\0b", "\x7f", "a|b"]);
    each(&mut rows, PATH, "200", &["a//b", "//", "%2F", "a%2fb", "...", ".a", "a;b=c", "%20", "?a=..", "?%00", "@x:1"]);
    each(&mut rows, "GET * HTTP/1.1|Host: HOST|Connection: close||", "400 invalid_target", &[
        "http://HOSTAT", "https://evil.test/", "http://evil.testAT", "ws://HOSTAT", "http://u@HOSTAT",
    ]);
    each(&mut rows, "GET * HTTP/1.1|Host: HOST|Connection: close||", "400 invalid_target", &["ID", "HOST"]);
    each(&mut rows, "* HTTP/1.1|Host: HOST|Connection: close||", "404 not_found", &["OPTIONS *", "GET /"]);
    each(&mut rows, "* AT HTTP/1.1|Host: HOST|Connection: close||", "405 method_not_served", &[
        "get", "Get", "pOST", "TRACE", "TRACK", "x",
    ]);
    rows.push(("CONNECT HOST HTTP/1.1|Host: HOST|Connection: close||".into(), "405 method_not_served"));
    each(&mut rows, "*", "400 invalid_head", &[
        "GET|Host: HOST||", "GET AT|Host: HOST||", "GET AT HTTP/1.2|Host: HOST||", "GET AT HTTP/3.0|Host: HOST||",
        "GET AT HTTP/1.1 |Host: HOST||", "GET  AT HTTP/1.1|Host: HOST||", "GET AT  HTTP/1.1|Host: HOST||",
        "GET AT http/1.1|Host: HOST||", "GET AT HTTP/11|Host: HOST||", " GET AT HTTP/1.1|Host: HOST||",
        "G(T AT HTTP/1.1|Host: HOST||", "GET\tAT HTTP/1.1|Host: HOST||", "\0||", "\x16\x03\x01||", "é||",
        "GET AT HTTP/0.9|Host: HOST||", "GET AT HTTP/1.|Host: HOST||", "GET AT HTTP/1.1.1|Host: HOST||",
        "GET AT FTP/1.1|Host: HOST||",
    ]);
    rows.push((PATH.replace('*', &"a".repeat(9000)), "414 target_too_long"));
    rows.push((PATH.replace('*', &format!("?{}", "a".repeat(9000))), "414 target_too_long"));
    // More than a whole head may be: not looked at.
    rows.push((PATH.replace('*', &"a".repeat(70_000)), "431 head_too_long"));
    rows
}

#[rustfmt::skip]
fn fields() -> Rows {
    let mut rows = Rows::new();
    each(&mut rows, "GET AT HTTP/1.1|Connection: close|*||", "400 invalid_host", &[
        "X: y", "Host:", "Host: ", "Host: HOST|Host: HOST", "Host: HOST|hOST: evil.test", "Host: u@HOST", "Host: HOST/",
        "Host: HOST?x", "Host: HOST, HOST", "Host: HOST HOST", "Host: http://HOST", "Host: localhost:http",
        "Host: localhost:99999", "Host: localhost:-1", "Host: [::1", "Host: ::1", "Host: :80", "Host: é",
    ]);
    each(&mut rows, "GET AT HTTP/1.1|Connection: close|*||", "421 host_not_served", &[
        "Host: evil.test", "Host: evil.test:80", "Host: localhost.evil.test", "Host: 10.0.0.1", "Host: [::2]:80",
        "Host: localhost.",
    ]);
    each(&mut rows, FIELD, "400 invalid_head", &[
        " folded", "\tfolded", "X: a| folded", "X : a", "X\t: a", ": a", "no colon", "X: a\0b", "X: a\x7fb",
        "X: a\x01b", "X: a\rb", "X(: a", "X\0: a", "é: a", "\"X\": a", "X Y: a", "{}: a",
    ]);
    each(&mut rows, FIELD, "200", &[
        "X: é", "X:a", "X:  a  ", "X:", "X_Y: a", "Content_Length: 5", "Transfer_Encoding: chunked",
        "Connection: host", "Connection: content-length, x-forwarded-for", "Connection: ,,", "Connection: (",
        "Upgrade: h2c|HTTP2-Settings: AAMAAABkAAQAAP__", "Trailer: X", "TE: trailers", "X-Forwarded-Host: evil.test",
        "X-Forwarded-For: 1.1.1.1", "Forwarded: host=evil.test", "X-Original-URL: /smuggled", "Proxy-Connection: close",
        "Via: 1.1 session-gateway, 1.1 session-gateway", "Keep-Alive: timeout=9", "Expect: 100-continue",
    ]);
    each(&mut rows, FIELD, "417 unknown_expectation", &[
        "Expect: tea", "Expect: ", "Expect: 100-continue, tea", "Expect: 100-continue|Expect: tea", "Expect: 100",
    ]);
    each(&mut rows, FIELD, "508 loop_detected", &[
        "Via: 1.1 session-gateway, 1.1 session-gateway, 1.1 session-gateway",
        "CDN-Loop: session-gateway|CDN-Loop: session-gateway|CDN-Loop: session-gateway",
    ]);
    each(&mut rows, FIELD, "403 cross_site", &[
        "Origin: http://evil.test", "Origin: null", "Origin: http://HOST.evil.test", "Origin: http://evil.test@HOST",
        "Origin: http://HOST|Origin: http://evil.test", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: x",
    ]);
    rows.push((FIELD.replace('*', "X: y|".repeat(120).trim_end_matches('|')), "431 too_many_fields"));
    rows.push((FIELD.replace('*', &format!("X: {}", "y".repeat(400_000))), "431 head_too_long"));
    each(&mut rows, SOCKET, "400 invalid_handshake", &[
        "Version: 13", "Version: 13|Sec-WebSocket-Key: short", "Version: 13|Sec-WebSocket-Key:",
        "Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==|Content-Length: 5",
        "Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==|Transfer-Encoding: chunked",
        "Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=!",
    ]);
    each(&mut rows, SOCKET, "426 socket_version", &[
        "Key: dGhlIHNhbXBsZSBub25jZQ==", "Version: 8|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Version: 013",
    ]);
    rows
}

#[rustfmt::skip]
fn lengths() -> Rows {
    let mut rows = Rows::new();
    each(&mut rows, CODED, "501 unknown_coding", &[
        "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: identity|Transfer-Encoding: chunked", "Transfer-Encoding: chunked|Transfer-Encoding: chunked",
        "Transfer-Encoding: , chunked", "Transfer-Encoding: gzip|Content-Length: 5|Transfer-Encoding: chunked",
    ]);
    each(&mut rows, CODED, "400 invalid_head", &[
        "Transfer-Encoding: xchunked", "Transfer-Encoding: \"chunked\"", "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \x0bchunked", "Transfer-Encoding : chunked", "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: identity", "Transfer-Encoding:", "Transfer-Encoding: chunked,", "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunke", " Transfer-Encoding: chunked", "Content-Length: +5", "Content-Length: -5",
        "Content-Length: 0x5", "Content-Length: 5, 5", "Content-Length: 5,6", "Content-Length: 5 5",
        "Content-Length: 5|Content-Length: 6", "Content-Length: 18446744073709551615|Content-Length: 5",
        "Content-Length: 99999999999999999999", "Content-Length: five",
        "Content-Length: 5.0", "Content-Length:", "Content-Length: 5;", "Content-Length : 5", "Content-Length: 1e1",
        "Content-Length: '5'",
    ]);
    // What both sides read alike is served: the coding wins over the length (RFC 9112 section 6.3), and ends it.
    each(&mut rows, CODED, "200", &[
        "Transfer-Encoding: chunked", "Transfer-Encoding: CHUNKED", "transfer-encoding:chunked",
        "Transfer-Encoding: chunked|Content-Length: 3", "Content-Length: 3|Transfer-Encoding: chunked",
        "Content-Length: 5|Content-Length: 5", "Content-Length: 0005", "Content-Length: 0", "Content-Length: 5",
    ]);
    rows.push((CODED.replace("1.1", "1.0").replace('*', "Transfer-Encoding: chunked"), "400 invalid_head"));
    rows
}

/// Sends every row, with a second request behind it, and looks at what the service received.
async fn survive(rows: &Rows, end: bool, within: impl Fn(&str, usize) -> bool) {
    let (service, received) = literal().await;
    let (gateway, id) = running(service).await;
    let (id, host) = (id.to_string(), gateway.address.to_string());
    let mut wrong = Vec::new();
    for (at, (row, expected)) in rows.iter().enumerate() {
        let second = if end {
            ""
        } else {
            "GET /ID/preview/smuggled HTTP/1.1|Host: HOST||"
        };
        let bytes = format!("{row}{second}")
            .replace('|', "\r\n")
            .replace("AT", &format!("/ID/preview/row{at}-"))
            .replace("ID", &id)
            .replace("HOST", &host);
        let found = outcome(&talk(gateway.address, bytes.as_bytes(), end).await);
        if found != *expected {
            wrong.push(format!(
                "{:.300}: {found}, expected {expected}",
                row.escape_debug().to_string()
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        rows.len(),
        wrong.join("\n")
    );
    // A good request comes last: what the service received before it is all there is.
    let reply = gateway
        .send("GET", &format!("/{id}/preview/last"), &[])
        .await;
    assert_eq!(reply.text(), "ok");
    let received = received.lock().unwrap();
    for (at, (row, expected)) in rows.iter().enumerate() {
        let name = format!("/row{at}-");
        let count = received.iter().filter(|one| one.contains(&name)).count();
        assert!(
            within(expected, count),
            "{row} reached the service {count} times"
        );
    }
    let smuggled = received.iter().find(|one| one.contains("/smuggled HTTP"));
    assert_eq!(smuggled, None);
}

#[tokio::test]
async fn what_is_malformed_or_ambiguous_never_reaches_a_service() {
    let rows = [targets(), fields(), lengths()].concat();
    assert!(rows.len() >= 200, "{} rows", rows.len());
    survive(&rows, false, |outcome, count| {
        count == usize::from(outcome == "200")
    })
    .await;
}

#[rustfmt::skip]
fn broken_off() -> Rows {
    let mut rows = Rows::new();
    each(&mut rows, "*", "closed", &[
        "G", "GET", "GET ", "GET AT", "GET AT HTTP/1.1", "GET AT HTTP/1.1|", "GET AT HTTP/1.1|Host: HOST",
        "GET AT HTTP/1.1|Host: HOST|", "GET AT HTTP/1.1|Host: HOST|X: ", "|", "||",
    ]);
    each(&mut rows, "POST AT HTTP/1.1|Host: HOST|*", "400 invalid_body", &[
        "Content-Length: 5||", "Content-Length: 5||AAAA", "Content-Length: 5|Expect: 100-continue||A",
        "Transfer-Encoding: chunked||", "Transfer-Encoding: chunked||5", "Transfer-Encoding: chunked||5|",
        "Transfer-Encoding: chunked||5|AAAA", "Transfer-Encoding: chunked||5|AAAAA|",
        "Transfer-Encoding: chunked||5|AAAAA|0|", "Transfer-Encoding: chunked||0|X: y|",
    ]);
    rows
}

#[rustfmt::skip]
fn broken_bodies() -> Rows {
    let mut rows = Rows::new();
    each(&mut rows, "POST AT HTTP/1.1|Host: HOST|Connection: close|Transfer-Encoding: chunked||*", "400 invalid_body", &[
        "0x5|AAAAA|0||", "-5|AAAAA|0||", "+5|AAAAA|0||", "5|AAAAAA|0||", "5|AAAAAxx0||", "g|AAAAA|0||",
        "fffffffffffffffff|A|0||", "5;a=\nb|AAAAA|0||", "5\nAAAAA|0||", "|5|AAAAA|0||", " 5|AAAAA|0||",
        "5|AAAAA|x||", "5|AAAAA\n0||",
    ]);
    rows
}

/// Each is answered by the gateway itself, before it has read the body.
#[rustfmt::skip]
fn unread() -> Rows {
    let mut rows = Rows::new();
    for body in [
        "Content-Length: 100000||GET /ID/preview/smuggled HTTP/1.1|Host: HOST||",
        "Transfer-Encoding: chunked||1000|GET /ID/preview/smuggled HTTP/1.1|Host: HOST||",
    ] {
        let row = |head: &str| format!("POST {head}{body}");
        rows.extend([
            (row("/nothing HTTP/1.1|Host: HOST|"), "404 not_found"),
            (row("/ID/ HTTP/1.1|Host: HOST|"), "405 method_not_allowed"),
            (row("/ID/chat HTTP/1.1|Host: HOST|"), "308"),
            (row("/ID/-/start HTTP/1.1|Host: HOST|"), "202"),
            (row("/ID/preview/ HTTP/1.1|Host: evil.test|"), "421 host_not_served"),
            (row("/ID/preview/ HTTP/1.1|Host: HOST|Origin: http://evil.test|"), "403 cross_site"),
        ]);
    }
    rows
}

/// Where a body is not read, its connection ends with the answer, which says so: nothing in the body is a request.
#[tokio::test]
async fn the_rest_of_a_body_that_is_not_read_is_no_request() {
    survive(&unread(), false, |_, count| count == 0).await;
    let (gateway, _) = running(literal().await.0).await;
    let head = format!("POST /nothing HTTP/1.1\r\nHost: {}\r\n", gateway.address);
    let bytes = format!("{head}Content-Length: 9\r\n\r\nAAAA");
    let answer = talk(gateway.address, bytes.as_bytes(), false).await;
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
}

/// A request of which the end never comes is never taken for a whole one.
#[tokio::test]
async fn what_breaks_off_is_never_a_whole_request_for_a_service() {
    survive(&broken_off(), true, |_, count| count <= 1).await;
}

/// The service has the head already when the body turns out to be none: the client is told, and the service cut off.
#[tokio::test]
async fn a_body_that_is_none_is_the_clients_fault() {
    survive(&broken_bodies(), false, |_, count| count <= 1).await;
}
