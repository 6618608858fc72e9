//! What a connection is doing: from this follows when it is closed though nobody asked for it.

use std::{
    cell::Cell,
    future::{Future, pending},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Response, header};
use http_body::{Frame, SizeHint};
use hyper::rt::Executor;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    gateway::body::{Body, BodyError},
    shutdown::{Drain, Stage},
};

/// What one connection is doing. Of its worker alone.
pub(super) struct Activity {
    /// Whether a whole head has come.
    asked: Cell<bool>,
    /// Streams of HTTP/2 that are open.
    streams: Cell<usize>,
    /// Since when none is.
    since: Cell<Instant>,
    /// Answers without an end that are under way.
    endless: Cell<usize>,
}

/// The body of an answer, counted while it is under way if it has no end.
pub(super) struct Answer {
    body: Body,
    _endless: Option<Endless>,
}

struct Endless(Rc<Activity>);

/// Runs the streams of HTTP/2 by [`Drain`] and counts them.
#[derive(Clone)]
pub(super) struct Streams(pub Rc<Activity>, pub Drain);

struct Stream(Rc<Activity>);

impl Activity {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            asked: Cell::new(false),
            streams: Cell::new(0),
            since: Cell::new(Instant::now()),
            endless: Cell::new(0),
        })
    }

    pub(super) fn asked(&self) {
        self.asked.set(true);
    }

    /// Counts an answer until its body is dropped.
    pub(super) fn answered(self: &Rc<Self>, answer: Response<Body>) -> Response<Answer> {
        let endless = is_endless(answer.headers()).then(|| {
            self.endless.set(self.endless.get() + 1);
            Endless(Rc::clone(self))
        });
        answer.map(|body| Answer {
            body,
            _endless: endless,
        })
    }

    /// Waits until the first head is overdue: for ever, if it came.
    pub(super) async fn overdue(&self, deadline: Instant) {
        sleep_until(deadline).await;
        if self.asked.get() {
            pending::<()>().await;
        }
    }

    /// Waits until there was no stream for so long. HTTP/2 alone: hyper knows by itself when HTTP/1.1 is idle.
    pub(super) async fn idle(&self, longest: Duration) {
        loop {
            let busy = self.streams.get() > 0;
            let since = if busy {
                Instant::now()
            } else {
                self.since.get()
            };
            let end = since + longest;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }

    /// While the process drains: waits until all that is left are answers without an end, and they had their time.
    pub(super) async fn outlived(&self, drain: &Drain, time: Duration) {
        drain.reached(Stage::Draining).await;
        tokio::select! {
            () = drain.reached(Stage::Ended) => return,
            () = sleep(time) => {}
        }
        if self.endless.get() == 0 || self.endless.get() < self.streams.get() {
            drain.reached(Stage::Ended).await;
        }
    }
}

/// Whether an answer goes on until somebody leaves: it cannot be waited for.
fn is_endless(headers: &HeaderMap) -> bool {
    const STREAM: &[u8] = b"text/event-stream";
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.as_bytes().get(..STREAM.len()));
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case(STREAM))
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.0.endless.set(self.0.endless.get() - 1);
    }
}

impl<F: Future<Output = ()> + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let open = Stream(Rc::clone(&self.0));
        open.0.streams.set(open.0.streams.get() + 1);
        self.1.spawn_local(async move {
            let _open = open;
            stream.await;
        });
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
        self.0.since.set(Instant::now());
    }
}
