//! Connections of clients: TLS, HTTP/2, the PROXY protocol, and what ends them.

mod end;

use std::{net::SocketAddr, path::Path, sync::Arc};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};
use session_gateway::session::SessionId;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Message,
        protocol::{Role, frame::coding::CloseCode},
    },
};

use crate::support::{DEADLINE, Gateway, Service, raw, service::text};

/// Writes a new pair for a name, over the one that was there; returns the certificate.
fn certificate(folder: &Path, name: &str) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    std::fs::write(
        folder.join(format!("{name}.key")),
        made.signing_key.serialize_pem(),
    )
    .unwrap();
    let pem = made.cert.pem();
    std::fs::write(folder.join(format!("{name}.crt")), &pem).unwrap();
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn settings(folder: &Path, name: &str, key: &str) -> [String; 2] {
    let file = |end| folder.join(format!("{name}.{end}")).display().to_string();
    [
        format!("tls.certificates.{key}.certificate={}", file("crt")),
        format!("tls.certificates.{key}.key={}", file("key")),
    ]
}

type Versions<'a> = &'a [&'static rustls::SupportedProtocolVersion];

fn client(
    trusted: &CertificateDer<'static>,
    versions: Versions<'_>,
    alpn: &[&str],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|one| one.as_bytes().to_vec()).collect();
    config
}

async fn connect(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    name: &'static str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let connector = TlsConnector::from(Arc::clone(config));
    connector
        .connect(ServerName::try_from(name).unwrap(), stream)
        .await
}

/// A request over HTTP/2; the text of its answer.
async fn over_http2<I>(io: I, request: Request<Full<Bytes>>) -> String
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io))
        .await
        .unwrap();
    tokio::spawn(connection);
    let answer = timeout(DEADLINE, sender.send_request(request))
        .await
        .unwrap();
    let body = answer.unwrap().into_body().collect().await.unwrap();
    String::from_utf8(body.to_bytes().into()).unwrap()
}

fn get(uri: String) -> http::request::Builder {
    Request::get(uri)
}

fn strs(settings: &[String]) -> Vec<&str> {
    settings.iter().map(String::as_str).collect()
}

#[tokio::test]
async fn tls_serves_both_versions_of_http_with_the_certificate_of_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let first = certificate(folder.path(), "localhost");
    let other = certificate(folder.path(), "a.localhost");
    let service = Service::echo().await;
    let files = [
        settings(folder.path(), "localhost", "a"),
        settings(folder.path(), "a.localhost", "b"),
    ]
    .concat();
    let gateway = Gateway::with(service.address, &strs(&files));
    let id = SessionId::random();
    for (name, trusted) in [("localhost", &first), ("a.localhost", &other)] {
        for versions in [&[&TLS12][..], &[&TLS13][..]] {
            let config = Arc::new(client(trusted, versions, &["h2"]));
            let stream = connect(gateway.address, &config, name).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            let request = get(format!("https://{name}/{id}/preview/x"));
            let answer = over_http2(stream, request.body(Full::default()).unwrap()).await;
            assert!(answer.ends_with("/x"), "{answer}");
        }
    }
    let config = Arc::new(client(&first, &[&TLS13], &["http/1.1"]));
    let mut stream = connect(gateway.address, &config, "localhost")
        .await
        .unwrap();
    let head =
        format!("GET /{id}/preview/x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_changed_certificate_is_taken_up_and_a_broken_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path(), "localhost");
    let service = Service::echo().await;
    let mut files = settings(folder.path(), "localhost", "a").to_vec();
    files.push("tls.reload=10ms".to_owned());
    let gateway = Gateway::with(service.address, &strs(&files));
    let new = certificate(folder.path(), "localhost");
    let config = Arc::new(client(&new, &[&TLS13], &["http/1.1"]));
    let taken_up = async {
        while connect(gateway.address, &config, "localhost")
            .await
            .is_err()
        {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, taken_up).await.expect("it is taken up");
    std::fs::write(folder.path().join("localhost.key"), "no key").unwrap();
    for _ in 0..20 {
        connect(gateway.address, &config, "localhost")
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn http2_by_prior_knowledge_reaches_the_service_as_http1() {
    let service = Service::new(|request| async move {
        let cookies: Vec<_> = request.headers().get_all("cookie").iter().collect();
        text(format!("{cookies:?}"))
    })
    .await;
    let gateway = Gateway::with(service.address, &[]);
    let request = get(format!(
        "http://{}/{}/preview/",
        gateway.address,
        SessionId::random()
    ))
    .header("cookie", "a=1")
    .header("cookie", "b=2");
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let answer = over_http2(stream, request.body(Full::default()).unwrap()).await;
    assert_eq!(answer, r#"["a=1; b=2"]"#);
}

#[tokio::test]
async fn a_balancer_that_is_trusted_says_who_comes() {
    let service = Service::new(|request| async move {
        let client = request.headers()["x-forwarded-for"].to_str().unwrap();
        text(client.to_owned())
    })
    .await;
    let proxied = ["proxy_protocol=true", "trusted_proxies={127.0.0.0/8}"];
    let gateway = Gateway::with(service.address, &proxied);
    let request = format!(
        "GET /{}/preview/ HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
        SessionId::random(),
        gateway.address
    );
    let mut v2 =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x0a\0\0\x01\x10\0\x01\xbb".to_vec();
    v2.extend(request.as_bytes());
    let v1 = format!("PROXY TCP4 203.0.113.7 10.0.0.1 4096 443\r\n{request}");
    for bytes in [v1.as_bytes(), &v2] {
        let answer = raw(gateway.address, bytes).await;
        assert!(answer.ends_with("203.0.113.7"), "{answer}");
    }
}

#[tokio::test]
async fn a_balancer_that_is_not_trusted_is_not_served() {
    let service = Service::echo().await;
    let proxied = ["proxy_protocol=true", "trusted_proxies={10.0.0.0/8}"];
    let gateway = Gateway::with(service.address, &proxied);
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    // A reset or an end, as the bytes arrive before or after the close.
    let read = timeout(DEADLINE, stream.read(&mut [0; 16])).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)));
}

#[tokio::test]
async fn clients_that_are_silent_or_trickle_are_closed() {
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &["timeouts.handshake=100ms"]);
    for begin in [
        &b""[..],
        b"PRI * HT",
        b"GET / HT",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(begin).await.unwrap();
        let closed = timeout(DEADLINE, stream.read_to_end(&mut Vec::new())).await;
        closed.expect("it is closed").ok();
    }
}

/// A connection whose request was answered, if it was not closed instead.
async fn asks(address: SocketAddr) -> Option<TcpStream> {
    let head = format!("GET /nothing HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(head.as_bytes()).await.ok()?;
    let read = timeout(DEADLINE, stream.read_u8()).await.expect("in time");
    read.ok().map(|_| stream)
}

/// Ends with the first connection that is served.
async fn until_served(address: SocketAddr) {
    let again = async { while asks(address).await.is_none() {} };
    timeout(DEADLINE, again).await.expect("its place is free");
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_until_others_end() {
    let service = Service::websocket_echo().await;
    for limit in ["limits.connections=1", "limits.connections_per_client=1"] {
        let gateway = Gateway::with(service, &[limit, "workers=1"]);
        let address = gateway.address;
        let first = asks(address).await.expect("one may come");
        assert!(asks(address).await.is_none(), "{limit}");
        drop(first);
        until_served(address).await;
        // A websocket is one as long as it is open.
        let socket = async {
            loop {
                let stream = TcpStream::connect(address).await.unwrap();
                let url = format!("ws://{address}/{}/chat/", SessionId::random());
                if let Ok((socket, _)) = client_async(url, stream).await {
                    return socket;
                }
            }
        };
        let mut socket = timeout(DEADLINE, socket).await.expect("in time");
        assert!(asks(address).await.is_none(), "{limit}");
        let message = Message::text("still there");
        socket.send(message.clone()).await.unwrap();
        let echo = timeout(DEADLINE, socket.next()).await.unwrap();
        assert_eq!(echo.unwrap().unwrap(), message);
        drop(socket);
        until_served(address).await;
    }
}

/// A websocket over a stream of HTTP/2 (RFC 8441), told so that its service sees an ordinary handshake, and ended by a
/// Close as any other.
#[tokio::test]
async fn websockets_come_over_http2_too() {
    let service = Service::websocket_echo().await;
    let gateway = Gateway::with(service, &["shutdown.websockets=100ms"]);
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let connect = |protocol: &'static str| {
        Request::connect(format!(
            "http://{}/{}/chat/",
            gateway.address,
            SessionId::random()
        ))
        .extension(hyper::ext::Protocol::from_static(protocol))
        .header("sec-websocket-version", "13")
        .body(Full::<Bytes>::default())
        .unwrap()
    };
    // The settings of the gateway say that it may be asked for; until they are here it may not.
    let warm = get(format!("http://{}/nothing", gateway.address));
    let answer = sender
        .send_request(warm.body(Full::default()).unwrap())
        .await;
    assert_eq!(answer.unwrap().status(), 404);
    let refused = timeout(DEADLINE, sender.send_request(connect("other"))).await;
    assert!(!refused.unwrap().unwrap().status().is_success());
    let answer = timeout(DEADLINE, sender.send_request(connect("websocket"))).await;
    let answer = answer.unwrap().unwrap();
    assert_eq!(answer.status(), 200, "{:?}", answer.headers());
    assert!(!answer.headers().contains_key("sec-websocket-accept"));
    let upgraded = timeout(DEADLINE, hyper::upgrade::on(answer)).await;
    let io = TokioIo::new(upgraded.unwrap().unwrap());
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Client, None).await;
    for size in [1, 70_000, 1 << 20] {
        let message = Message::binary(vec![7; size]);
        socket.send(message.clone()).await.unwrap();
        let echo = timeout(DEADLINE, socket.next()).await.unwrap();
        assert_eq!(echo.unwrap().unwrap(), message);
    }
    let stopped = tokio::task::spawn_blocking(move || gateway.stop());
    match timeout(DEADLINE, socket.next()).await.unwrap() {
        Some(Ok(Message::Close(Some(close)))) => assert_eq!(close.code, CloseCode::Restart),
        other => panic!("no Close came, but {other:?}"),
    }
    stopped.await.unwrap();
}
