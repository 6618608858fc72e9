//! Requests of HTTP/1.1: they are those that hyper's server reads, or none.

#![no_main]

use std::{cell::RefCell, convert::Infallible, rc::Rc};

use http::{Request, Response, header};
use http_body_util::{BodyExt, Empty};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use session_gateway::gateway::fuzz::{Asked, asked};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex, split},
    runtime::{Builder, Runtime},
};

thread_local! {
    static RUNTIME: RefCell<Runtime> = RefCell::new(Builder::new_current_thread().build().expect("it has no driver"));
}

fuzz_target!(|bytes: &[u8]| {
    let found = asked(bytes);
    if found.is_empty() {
        return;
    }
    let read = RUNTIME.with_borrow(|runtime| runtime.block_on(peer(bytes)));
    // Either may be stricter; they never differ.
    for (ours, theirs) in found.into_iter().map(plain).zip(read) {
        assert_eq!(ours, theirs);
    }
});

/// Without what hyper leaves out: a length that is said again, or beside a coding.
fn plain(mut request: Asked) -> Asked {
    request.headers.remove(header::CONTENT_LENGTH);
    request
}

/// The same by hyper.
async fn peer(bytes: &[u8]) -> Vec<Asked> {
    let read = Rc::new(RefCell::new(Vec::new()));
    let service = service_fn(|request: Request<Incoming>| {
        let read = Rc::clone(&read);
        async move {
            let (head, body) = request.into_parts();
            if let Ok(body) = body.collect().await {
                let (method, uri, version) = (head.method, head.uri, head.version);
                read.borrow_mut().push(plain(Asked {
                    line: format!("{method} {uri} {version:?}"),
                    headers: head.headers,
                    body: body.to_bytes().into(),
                }));
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let (near, far) = duplex(64 * 1024);
    let connection = http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(near), service);
    let (mut reader, mut writer) = split(far);
    let write = async {
        let _ = writer.write_all(bytes).await;
        let _ = writer.shutdown().await;
    };
    let drain = async {
        let _ = reader.read_to_end(&mut Vec::new()).await;
    };
    let ((), _, ()) = tokio::join!(write, connection, drain);
    read.take()
}
