//! What a connection is doing: from this follows when it is closed though nobody asked for it.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use hyper::rt::Executor;
use tokio::{
    task::coop::has_budget_remaining,
    time::{Instant, Sleep, sleep, sleep_until},
};

use super::{super::headers::is_event_stream, LAST_CALL};
use crate::{
    gateway::body::{Body, BodyError},
    metrics::{Cut, WorkerMeters},
    shutdown::{Drain, Stage},
};

/// While the process drains: between two looks at what is left of a connection.
const AGAIN: Duration = Duration::from_millis(50);

/// What one connection is doing. Of its worker alone.
pub(super) struct Activity {
    /// Whether a whole head has come.
    asked: Cell<bool>,
    /// Requests that are not answered to the end: streams of HTTP/2, or one at most.
    streams: Cell<usize>,
    /// Since when none is.
    since: Cell<Instant>,
    /// Answers without an end that are under way.
    endless: Cell<usize>,
}

/// The body of an answer over HTTP/2, counted while it is under way if it has no end.
pub(super) struct Answer {
    body: Body,
    _endless: Option<Endless>,
}

/// An answer without an end, while it is under way.
#[must_use]
pub(super) struct Endless(Rc<Activity>);

/// Runs the streams of HTTP/2 by [`Drain`], counts them, and cuts those whose client takes nothing for too long: it
/// can hold up one of them by its window, while the connection lives.
#[derive(Clone)]
pub(super) struct Streams {
    pub activity: Rc<Activity>,
    /// How long is too long.
    pub longest: Duration,
    pub meters: Arc<WorkerMeters>,
    pub drain: Drain,
}

/// What a body was asked for while its stream ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Nothing.
    Nothing,
    /// More, which is not there or does not exist.
    More,
    /// A part, which it gave. It is asked again once the client has room.
    Part,
}

thread_local! {
    /// Between a stream and the body in it, while the one runs the other: hyper lets nothing else through.
    static ASKED: Cell<Asked> = const { Cell::new(Asked::Nothing) };
}

/// One request, while it lives.
#[must_use]
pub(super) struct Stream(Rc<Activity>);

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

    /// Counts a request until its guard is dropped.
    pub(super) fn open(self: &Rc<Self>) -> Stream {
        self.streams.set(self.streams.get() + 1);
        Stream(Rc::clone(self))
    }

    /// Whether a whole head has come.
    pub(super) fn has_asked(&self) -> bool {
        self.asked.get()
    }

    /// Counts an answer until its guard is dropped, if its head says that it has no end.
    pub(super) fn endless(self: &Rc<Self>, head: &HeaderMap) -> Option<Endless> {
        is_event_stream(head).then(|| {
            self.endless.set(self.endless.get() + 1);
            Endless(Rc::clone(self))
        })
    }

    /// Counts an answer until its body is dropped.
    pub(super) fn answered(self: &Rc<Self>, answer: Response<Body>) -> Response<Answer> {
        let endless = self.endless(answer.headers());
        answer.map(|body| Answer {
            body,
            _endless: endless,
        })
    }

    /// Waits until the first head is overdue: for ever, if it came.
    pub(super) async fn overdue(&self, deadline: Instant) {
        let mut late = pin!(sleep_until(deadline));
        // Not looked at once a head has come: the connection is polled several times a request.
        poll_fn(|cx| {
            if self.asked.get() {
                Poll::Pending
            } else {
                late.as_mut().poll(cx)
            }
        })
        .await;
    }

    /// Waits until there was no request for so long.
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
            rings(end).await;
        }
    }

    /// While the process drains: waits until all that is left are answers without an end, and they had their time; or
    /// until a connection that was dialled ahead has not asked for anything by the last call.
    pub(super) async fn outlived(&self, drain: &Drain, time: Duration) {
        drain.reached(Stage::Draining).await;
        // Boxed, or every idle connection would keep room for its end.
        let outlived = Box::pin(async {
            let end = Instant::now() + time;
            if !self.asked.get() {
                sleep(LAST_CALL).await;
                if !self.asked.get() {
                    return;
                }
            }
            sleep_until(end).await;
            while self.endless.get() == 0 || self.endless.get() < self.streams.get() {
                sleep(AGAIN).await;
            }
        });
        tokio::select! {
            () = drain.reached(Stage::Ended) => {}
            () = outlived => {}
        }
    }
}

/// Waits until then. Asking again in vain costs next to nothing; it must be the same task that asks.
async fn rings(when: Instant) {
    let mut alarm = pin!(sleep_until(when));
    let mut is_set = false;
    poll_fn(|cx| {
        if is_set && !alarm.is_elapsed() {
            return Poll::Pending;
        }
        // A task out of its budget is turned away before it is heard.
        is_set = has_budget_remaining();
        alarm.as_mut().poll(cx)
    })
    .await;
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = Pin::new(&mut self.get_mut().body).poll_frame(cx);
        let gave = matches!(frame, Poll::Ready(Some(Ok(_))));
        ASKED.set(if gave { Asked::Part } else { Asked::More });
        frame
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
        let open = self.activity.open();
        let (longest, meters) = (self.longest, Arc::clone(&self.meters));
        self.drain.spawn_local(async move {
            let _open = open;
            if !taken(stream, longest).await {
                meters.cut(Cut::Client);
            }
        });
    }
}

/// Runs a stream to its end. False if its client has taken nothing of the answer for so long.
async fn taken(stream: impl Future<Output = ()>, longest: Duration) -> bool {
    let mut stream = pin!(stream);
    let (mut since, mut late) = (None, None::<Pin<Box<Sleep>>>);
    poll_fn(|cx| {
        ASKED.set(Asked::Nothing);
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        match ASKED.get() {
            Asked::Nothing => {}
            Asked::More => since = None,
            Asked::Part => since = Some(Instant::now()),
        }
        let Some(since) = since else {
            return Poll::Pending;
        };
        let end = since + longest;
        let late = late.get_or_insert_with(|| Box::pin(sleep_until(end)));
        while late.as_mut().poll(cx).is_ready() {
            // It was that of an earlier part.
            if late.deadline() < end {
                late.as_mut().reset(end);
                continue;
            }
            return Poll::Ready(false);
        }
        Poll::Pending
    })
    .await
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
        self.0.since.set(Instant::now());
    }
}
