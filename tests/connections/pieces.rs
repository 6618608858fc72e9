//! Requests of HTTP/1.1 that come at once, or byte by byte, and those of HTTP/1.0.

use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::io::AsyncRead;

use super::*;

/// A service that answers with what it was asked; `stream` without saying how long that is.
async fn service() -> Service {
    Service::new(|request| async move {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let path = head.uri.path().rsplit('/').next().unwrap_or_default();
        let said = format!("{} {path} {}", head.method, body.escape_ascii());
        if path == "stream" {
            let pieces = said.into_bytes().into_iter();
            let frames: Vec<_> = pieces
                .map(|byte| Ok(Frame::data(Bytes::from(vec![byte]))))
                .collect();
            return http::Response::new(BodyExt::boxed(StreamBody::new(
                futures_util::stream::iter(frames),
            )));
        }
        text(said)
    })
    .await
}

/// All that comes until the gateway closes, without what differs from one run to the next.
async fn rest(mut stream: impl AsyncRead + Unpin) -> String {
    let mut answer = String::new();
    let read = timeout(DEADLINE, stream.read_to_string(&mut answer)).await;
    read.expect("it is closed in time").unwrap();
    let lines = answer.split_inclusive("\r\n");
    lines.filter(|line| !line.starts_with("date: ")).collect()
}

/// However requests are cut into pieces, and however many of them come at once: each is answered, in order.
#[tokio::test]
async fn requests_in_pieces_and_in_one_piece_get_the_same_answers() {
    let gateway = Gateway::with(service().await.address, &[]);
    let id = gateway.runs().await;
    let (host, at) = (gateway.address, format!("/{id}/chat"));
    let asks = |method: &str, path: &str, rest: &str| {
        format!("{method} {at}/{path} HTTP/1.1\r\nhost: {host}\r\n{rest}")
    };
    let requests = [
        asks("GET", "first", "\r\n"),
        asks("POST", "length", "content-length: 4\r\n\r\nform"),
        asks(
            "POST",
            "chunks",
            "transfer-encoding: chunked\r\n\r\n2\r\nfo\r\n2;x\r\nrm\r\n0\r\nx: y\r\n\r\n",
        ),
        asks("HEAD", "head", "\r\n"),
        asks("GET", "stream", "\r\n"),
        asks("PUT", "empty", "content-length: 0\r\n\r\n"),
        // Which nobody has to skip, and all do (RFC 9112 section 2.2).
        format!("\r\n{}", asks("GET", "last", "connection: close\r\n\r\n")),
        asks("GET", "never", "\r\n"),
    ]
    .concat();
    let bodies = [
        "GET first ",
        "POST length form",
        "POST chunks form",
        "",
        "GET stream ",
        "PUT empty ",
        "GET last ",
    ];
    let mut before = None;
    for size in [requests.len(), 1, 7, 1000] {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in requests.as_bytes().chunks(size) {
            // After the last answer the gateway takes no more.
            let _ = stream.write_all(piece).await;
        }
        let answers = rest(stream).await;
        let found: Vec<_> = answers.split("HTTP/1.1 200 OK\r\n").skip(1).collect();
        let decoded = found.iter().map(|answer| {
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
            if head.contains("transfer-encoding: chunked") {
                let pieces = body.split("\r\n").skip(1).step_by(2);
                return pieces.collect::<String>();
            }
            body.to_owned()
        });
        assert_eq!(decoded.collect::<Vec<_>>(), bodies, "by {size}: {answers}");
        // Chunks are what came at once, which may differ.
        let heads: Vec<_> = found
            .iter()
            .map(|one| one.split("\r\n\r\n").next())
            .collect();
        let heads = format!("{heads:?}");
        assert_eq!(before.get_or_insert_with(|| heads.clone()), &heads);
        assert!(answers.ends_with("GET last "), "{answers}");
    }
}

/// A client of HTTP/1.0 knows no chunks, and keeps its connection only if it says so (RFC 9112 appendix C.2.2).
#[tokio::test]
async fn an_old_client_is_answered_as_it_can_read() {
    let gateway = Gateway::with(service().await.address, &[]);
    let id = gateway.runs().await;
    let host = gateway.address;
    let ask = |path: &str, fields: &str| {
        format!("GET /{id}/chat/{path} HTTP/1.0\r\nhost: {host}\r\n{fields}\r\n")
    };
    let keep = "connection: keep-alive\r\n";
    let both = [ask("kept", keep), ask("stream", keep)].concat();
    for (asks, expected) in [
        (ask("one", ""), "200 OK|connection: close|GET one "),
        (ask("stream", ""), "200 OK|connection: close|GET stream "),
        (
            both,
            "200 OK|connection: keep-alive|GET kept |200 OK|connection: close|GET stream ",
        ),
    ] {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(asks.as_bytes()).await.unwrap();
        let answer = rest(stream).await;
        let answer = answer.replace("HTTP/1.1 ", "\r\n");
        let told = |line: &&str| {
            let field = line.split_once(": ").map_or("", |(name, _)| name);
            !line.is_empty() && (field.is_empty() || field == "connection")
        };
        let lines: Vec<_> = answer.split("\r\n").filter(told).collect();
        assert_eq!(lines.join("|"), expected, "{asks}");
    }
}
