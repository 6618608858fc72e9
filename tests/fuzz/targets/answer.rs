//! Answers of services: their bodies are those that hyper's client reads, or none, in whatever pieces they come.

#![no_main]

use std::{cell::RefCell, sync::LazyLock};

use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use libfuzzer_sys::{Corpus, fuzz_target};
use session_gateway::{
    gateway::fuzz::{Way, answered},
    session::Services,
};
use tokio::{
    io::{AsyncWriteExt, duplex, split},
    runtime::{Builder, Runtime},
};

static SERVICES: LazyLock<Services> = LazyLock::new(fuzz::services);

thread_local! {
    static RUNTIME: RefCell<Runtime> = RefCell::new(Builder::new_current_thread().build().expect("it has no driver"));
}

// How many sizes there are, the sizes of the pieces, which are used again and again, then the bytes themselves.
fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Some((&count, rest)) = bytes.split_first() else {
        return Corpus::Reject;
    };
    let Some((sizes, bytes)) = rest.split_at_checked(usize::from(count % 8) + 1) else {
        return Corpus::Reject;
    };
    let (service, _) = SERVICES.iter().next().expect("there are some");
    let way = Way {
        spec: SERVICES.spec(service),
        prefix: "/x",
        secure: false,
        trusted: false,
    };
    let found = answered([bytes].into_iter(), way);
    let mut left = bytes;
    let pieces = sizes.iter().cycle().map_while(|size| {
        let piece;
        (piece, left) = left.split_at(left.len().min(usize::from(*size) + 1));
        (!piece.is_empty()).then_some(piece)
    });
    let in_pieces = answered(pieces, way);
    // What came of a body before it turned out to be broken depends on the pieces.
    assert_eq!(
        found.as_ref().map(|answer| (answer.status, answer.left)),
        in_pieces
            .as_ref()
            .map(|answer| (answer.status, answer.left))
    );
    let Some(answer) = found.filter(|answer| answer.left.is_some()) else {
        return Corpus::Keep;
    };
    assert_eq!(
        Some(&answer.body),
        in_pieces.as_ref().map(|other| &other.body)
    );
    // It may be stricter, with what follows a body too; never different.
    if let Some((status, body)) = RUNTIME.with_borrow(|runtime| runtime.block_on(peer(bytes))) {
        assert_eq!((answer.status, answer.body), (status, body));
    }
    Corpus::Keep
});

/// The same by hyper; `None` if it is no whole answer.
async fn peer(bytes: &[u8]) -> Option<(u16, Vec<u8>)> {
    let (near, far) = duplex(64 * 1024);
    let (mut sender, connection) = http1::handshake(TokioIo::new(near)).await.ok()?;
    let request = Request::new(Empty::<Bytes>::new());
    let exchange = async {
        let answer = sender.send_request(request).await.ok()?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.ok()?;
        Some((status, body.to_bytes().into()))
    };
    let (_reader, mut writer) = split(far);
    let write = async {
        let _ = writer.write_all(bytes).await;
        let _ = writer.shutdown().await;
    };
    let drive = async {
        let _ = connection.await;
    };
    let ((), (), answer) = tokio::join!(write, drive, exchange);
    answer
}
