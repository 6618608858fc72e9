//! Many small frames on a connection of HTTP/2, which are an attack to a peer that counts them against its window.

use std::io;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::{
    body::Frame,
    client::conn::http2::{Builder, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use session_gateway::session::SessionId;
use tokio::{net::TcpStream, time::timeout};

use crate::support::{DEADLINE, Gateway, Service};

const FRAMES: usize = 20_000;
/// Of the client, for it counts as well: what it may get ahead on a stream, and on all of a connection.
const WINDOWS: (u32, u32) = (1 << 20, 8 << 20);

type Body = BoxBody<Bytes, io::Error>;

async fn connect(gateway: &Gateway) -> SendRequest<Body> {
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (sender, connection) = Builder::new(TokioExecutor::new())
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

/// A frame of the body, shorter than what frames cost their reader.
fn event(number: usize) -> Bytes {
    format!("data: {number}\n\n").into()
}

fn events(count: usize) -> Body {
    let frames = (0..count).map(|number| Ok(Frame::data(event(number))));
    StreamBody::new(stream::iter(frames)).boxed()
}

/// An upload of small frames comes back as it was, as small, and its connection serves the next request.
#[tokio::test]
async fn many_small_frames_both_ways_leave_the_connection_alive() {
    let service = Service::new(|request| async move {
        Response::new(request.into_body().map_err(io::Error::other).boxed())
    })
    .await;
    let gateway = Gateway::with(service.address, &[]);
    let uri = format!("http://{}/{}/chat/", gateway.address, SessionId::random());
    let mut sender = connect(&gateway).await;
    for count in [FRAMES, 1] {
        let request = Request::post(&uri).body(events(count)).unwrap();
        let answer = timeout(DEADLINE, sender.send_request(request)).await;
        let answer = answer.expect("in time").expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        let body = timeout(DEADLINE, answer.into_body().collect()).await;
        let body = body.expect("in time").expect("whole").to_bytes();
        let expected: Vec<u8> = (0..count).flat_map(event).collect();
        assert!(
            body == expected,
            "{} bytes of {}",
            body.len(),
            expected.len()
        );
    }
}
