//! Answers that come before the request is whole: 100 Continue, final ones in its place, and early ones.

use super::*;
use crate::support::{
    Way,
    kept::{streamed, whole},
    service::{Bare, head},
};

const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
const STOP: &[u8] = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 4\r\n\r\nstop";

fn expecting(gateway: &Gateway, path: &str, more: &str) -> String {
    let host = gateway.address;
    format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\nexpect: 100-continue\r\ncontent-length: 4\r\n{more}\r\n"
    )
}

/// Nothing has come so far.
fn is_silent(client: &TcpStream) -> bool {
    let read = client.try_read(&mut [0; 1]);
    matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// RFC 9110 section 10.1.1: the body is asked for once there is somebody to take it, and not before.
#[tokio::test]
async fn a_body_is_asked_for_when_its_service_is_there() {
    let (service, address) = Bare::new().await;
    let gateway = Gateway::with(address, &[]);
    gateway.sessions.gate(false);
    let id = SessionId::random();
    let path = format!("/{id}/chat/");
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    let asks = expecting(&gateway, &path, "");
    client.write_all(asks.as_bytes()).await.unwrap();
    gateway.until_held(id, 1).await;
    assert!(is_silent(&client), "its session is not there yet");
    gateway.sessions.gate(true);
    let ((mut upstream, asked), begin) = tokio::join!(service.asked(), head(&mut client));
    assert!(!asked.contains("expect"), "{asked}");
    assert!(asked.contains("content-length: 4\r\n"), "{asked}");
    assert_eq!(begin, CONTINUE);
    client.write_all(b"body").await.unwrap();
    let mut body = [0; 4];
    upstream.read_exact(&mut body).await.unwrap();
    assert_eq!(&body, b"body");
    let done = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone";
    upstream.write_all(done).await.unwrap();
    let answer = head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    client.read_exact(&mut body).await.unwrap();
    assert_eq!(&body, b"done");
    // Both connections carry the next request.
    client.write_all(asks.as_bytes()).await.unwrap();
    let (asked, begin) = tokio::join!(head(&mut upstream), head(&mut client));
    assert!(asked.starts_with("POST "), "{asked}");
    assert_eq!(begin, CONTINUE);
}

/// Who is refused is not asked for the body; and since nobody knows whether it comes, nothing after it is a request.
#[tokio::test]
async fn a_body_that_is_refused_is_not_asked_for() {
    let service = Service::echo().await;
    let (gateway, id) = running(&service).await;
    let (chat, nothing) = (format!("/{id}/chat/"), format!("/{id}/nothing"));
    for (path, more, status) in [
        (&*chat, "origin: http://evil.test\r\n", 403),
        (&nothing, "", 404),
        (&chat, "expect: tea\r\n", 417),
    ] {
        for second in [
            "",
            "GET /smuggled HTTP/1.1\r\nhost: HOST\r\nconnection: close\r\n\r\n",
        ] {
            let second = second.replace("HOST", &gateway.address.to_string());
            let asks = expecting(&gateway, path, more) + &second;
            let answer = raw(gateway.address, asks.as_bytes()).await;
            let begin = format!("HTTP/1.1 {status} ");
            assert!(answer.starts_with(&begin), "{answer}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        }
    }
}

/// On HTTP/2 a body needs no leave: it comes, with the expectation or without.
#[tokio::test]
async fn an_expectation_on_http2_is_met_and_kept_from_the_service() {
    let service = Service::new(|request| async move {
        assert!(!request.headers().contains_key("expect"));
        let body = request.into_body().collect().await.unwrap();
        text(body.to_bytes())
    })
    .await;
    let (gateway, id) = running(&service).await;
    let mut kept = Way::Http2.plain(gateway.address).await.unwrap();
    let request = kept
        .ask("POST", &format!("/{id}/chat/"))
        .header("expect", "100-continue")
        .body(whole("body"));
    let answer = kept.send(request.unwrap()).await.unwrap().into_body();
    assert_eq!(answer.collect().await.unwrap().to_bytes(), "body");
}

/// The answer reaches a client that still sends; little of the rest is read, and none of it is a request.
#[tokio::test]
async fn an_early_answer_reaches_a_client_that_still_sends() {
    let (service, address) = Bare::new().await;
    let gateway = Gateway::with(address, &[]);
    let path = format!("/{}/chat/", gateway.runs().await);
    for way in [Way::Http1, Way::Http2] {
        let mut kept = way.plain(gateway.address).await.unwrap();
        let (chunks, body) = mpsc::channel(1);
        let request = kept.ask("POST", &path).body(streamed(body)).unwrap();
        let sends = tokio::spawn(async move {
            let chunk = Bytes::from(vec![b'x'; CHUNK]);
            let mut sent = 0;
            while chunks.send(Ok(chunk.clone())).await.is_ok() {
                sent += CHUNK;
            }
            sent
        });
        let (answer, mut upstream) = tokio::join!(kept.send(request), async {
            let (mut upstream, _) = service.asked().await;
            upstream.read_exact(&mut [0; 3 * CHUNK]).await.unwrap();
            upstream.write_all(STOP).await.unwrap();
            upstream
        });
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 413);
        let body = timeout(DEADLINE, answer.into_body().collect()).await;
        assert_eq!(body.unwrap().unwrap().to_bytes(), "stop");
        let sent = timeout(DEADLINE, sends).await.expect("it stops").unwrap();
        assert!(sent < 32 << 20, "{sent} bytes were taken for nothing");
        // The service is not given the rest: its connection is closed, and no end of the body made up.
        let mut rest = Vec::new();
        let end = timeout(DEADLINE, upstream.read_to_end(&mut rest)).await;
        let _ = end.expect("it is closed");
        assert!(!rest.ends_with(b"\r\n0\r\n\r\n"));
        if way.is_http2() {
            let (reply, ()) = tokio::join!(kept.get(&path), async {
                let (mut upstream, _) = service.asked().await;
                upstream.write_all(STOP).await.unwrap();
            });
            assert_eq!(reply.unwrap().text(), "stop");
        } else {
            assert!(kept.get(&path).await.is_err(), "its connection is closed");
        }
    }
}

/// A client that looks for the answer only when all is sent finds it, and no reset (RFC 9112 section 9.6).
#[tokio::test]
async fn an_early_answer_is_not_lost_on_a_client_that_sends_first() {
    let (service, address) = Bare::new().await;
    let gateway = Gateway::with(address, &[]);
    let chat = format!("/{}/chat/", gateway.runs().await);
    let (host, length) = (gateway.address, 64 * CHUNK);
    for path in [&*chat, "/nothing"] {
        let mut client = TcpStream::connect(gateway.address).await.unwrap();
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        let (expected, upstream) = if path == chat {
            let (mut upstream, _) = service.asked().await;
            upstream.write_all(STOP).await.unwrap();
            ("HTTP/1.1 413 ", Some(upstream))
        } else {
            ("HTTP/1.1 404 ", None)
        };
        // It has been answered before it goes on.
        timeout(DEADLINE, client.readable()).await.unwrap().unwrap();
        for _ in 0..length / CHUNK {
            client.write_all(&[b'x'; CHUNK]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut answer = String::new();
        let end = timeout(DEADLINE, client.read_to_string(&mut answer)).await;
        end.expect("it is closed").expect("and not reset");
        assert!(answer.starts_with(expected), "{answer}");
        drop(upstream);
    }
}

/// Trailers end here, whichever way they go (RFC 9110 section 6.5.1).
#[tokio::test]
async fn trailers_are_not_passed_on() {
    let (service, address) = Bare::new().await;
    let gateway = Gateway::with(address, &[]);
    let path = format!("/{}/chat/", gateway.runs().await);
    for way in [Way::Http1, Way::Http2] {
        let mut kept = way.plain(gateway.address).await.unwrap();
        let trailers = [
            ("x-evil", "1"),
            ("content-length", "9"),
            ("host", "evil.test"),
        ];
        let frames = [
            Frame::data(Bytes::from("body")),
            Frame::trailers(
                trailers
                    .iter()
                    .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                    .collect::<http::HeaderMap>(),
            ),
        ];
        let body = StreamBody::new(stream::iter(frames.map(Ok::<_, io::Error>)));
        let request = kept
            .ask("POST", &path)
            .header("te", "trailers")
            .header("trailer", "x-evil")
            .body(BodyExt::boxed(body));
        let (answer, ()) = tokio::join!(kept.send(request.unwrap()), async {
            let (mut upstream, asked) = service.asked().await;
            assert!(
                !asked.contains("evil") && !asked.contains("trailer"),
                "{asked}"
            );
            let mut body = [0; 14];
            upstream.read_exact(&mut body).await.unwrap();
            assert_eq!(&body, b"4\r\nbody\r\n0\r\n\r\n", "{}", body.escape_ascii());
            let answer =
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-evil\r\n\r\n\
                           4\r\ndone\r\n0\r\nx-evil: 1\r\nset-cookie: a=b\r\n\r\n";
            upstream.write_all(answer).await.unwrap();
        });
        let answer = answer.unwrap();
        assert!(!answer.headers().contains_key("trailer"));
        let body = timeout(DEADLINE, answer.into_body().collect()).await;
        let body = body.unwrap().unwrap();
        assert_eq!(body.trailers(), None);
        assert_eq!(body.to_bytes(), "done");
    }
}
