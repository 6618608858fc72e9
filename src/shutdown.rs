//! Ending in order: the stages of the end, and [`Drain`], which knows every task that is to end.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    runtime::Handle,
    sync::watch,
    task::{JoinHandle, coop::has_budget_remaining},
    time::{Instant, timeout_at},
};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug_span};

use crate::settings::Section;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShutdownConfig {
    /// How long connections are still accepted while the process is not ready (`delay`).
    pub delay: Duration,
    /// How long what runs may go on after that (`grace`).
    pub grace: Duration,
    /// Of the grace, how long streams without an end may go on (`streams`).
    pub streams: Duration,
    /// Of the grace, the time over which websockets are told to reconnect (`websockets`).
    pub websockets: Duration,
}

impl ShutdownConfig {
    /// Reads the section `shutdown`.
    #[must_use]
    pub fn read(section: &mut Section<'_>) -> Self {
        let config = Self {
            delay: section.duration("delay"),
            grace: section.duration("grace"),
            streams: section.duration("streams"),
            websockets: section.duration("websockets"),
        };
        Self {
            // Parts of the grace, which may have been set shorter than they are.
            streams: config.streams.min(config.grace),
            websockets: config.websockets.min(config.grace),
            ..config
        }
    }
}

/// How far the end of the process has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Serving.
    Serving,
    /// Serving, while the health check says no.
    Unready,
    /// Nothing new is taken; what runs is finished.
    Draining,
    /// Grace is over: whatever still runs ends now.
    Ended,
}

/// Names, tracks and ends the tasks of one runtime. Cheap to clone; the only place that spawns.
#[derive(Debug, Clone)]
pub struct Drain {
    handle: Handle,
    tasks: TaskTracker,
    stage: watch::Receiver<Stage>,
}

/// Moves all drains of the process on; kept by the composition root.
#[derive(Debug, Clone)]
pub struct Ending(Arc<watch::Sender<Stage>>);

impl Ending {
    /// The process begins to serve.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Stage::Serving)))
    }

    /// A drain for the tasks of the runtime behind `handle`.
    #[must_use]
    pub fn drain(&self, handle: Handle) -> Drain {
        Drain {
            handle,
            tasks: TaskTracker::new(),
            stage: self.0.subscribe(),
        }
    }

    /// Goes on to `stage`; never back.
    pub fn advance(&self, stage: Stage) {
        self.0.send_if_modified(|now| {
            let later = stage > *now;
            *now = stage.max(*now);
            later
        });
    }
}

impl Default for Ending {
    fn default() -> Self {
        Self::new()
    }
}

impl Drain {
    /// Runs a task on this drain's runtime. Dropping the handle does not end the task.
    ///
    /// The task is boxed: tokio is compiled once for each type of task. No request to a session that runs needs one.
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &'static str,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let task: BoxFuture<'static, T> = Box::pin(task.instrument(debug_span!("task", name)));
        self.handle.spawn(self.tasks.track_future(task))
    }

    /// Runs a task on the thread that calls, which must be a worker's runtime. No span: connections and tunnels are
    /// many and live long.
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn_local(&self, task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(self.tasks.track_future(task));
    }

    /// Runs a blocking function off the runtime's threads. It cannot be cancelled: it must be short.
    pub fn spawn_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.tasks.spawn_blocking_on(work, &self.handle)
    }

    /// How far the end of the process has come, to be awaited.
    #[must_use]
    pub fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.clone()
    }

    /// Waits until the process has come to `stage`; for ever if nothing will move it there. Asking again in vain costs
    /// next to nothing, since connections do so several times a request; it must be the same task that asks.
    pub async fn reached(&self, stage: Stage) {
        let mut now = self.stage.clone();
        while *now.borrow_and_update() < stage {
            let mut news = pin!(now.changed());
            let mut is_asked = false;
            let news = poll_fn(|cx| {
                if is_asked && matches!(self.stage.has_changed(), Ok(false)) {
                    return Poll::Pending;
                }
                // A task out of its budget is turned away before it is heard.
                is_asked = has_budget_remaining();
                news.as_mut().poll(cx)
            });
            if news.await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits for all tasks, at most until `deadline`; returns how many were left then.
    pub async fn finish(&self, deadline: Instant) -> usize {
        self.tasks.close();
        if timeout_at(deadline, self.tasks.wait()).await.is_ok() {
            0
        } else {
            self.tasks.len()
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::{LocalSet, consume_budget, yield_now};

    use super::*;

    #[tokio::test]
    async fn a_task_out_of_its_budget_hears_of_the_end_all_the_same() {
        let ending = Ending::new();
        let drain = ending.drain(Handle::current());
        let waits = async move {
            while has_budget_remaining() {
                consume_budget().await;
            }
            drain.reached(Stage::Draining).await;
        };
        // A task of its own: it is asked again only when it is woken.
        let local = LocalSet::new();
        let waits = local.spawn_local(waits);
        let ends = async {
            for _ in 0..10 {
                yield_now().await;
            }
            ending.advance(Stage::Draining);
            timeout_at(Instant::now() + Duration::from_secs(30), waits).await
        };
        let heard = local.run_until(ends).await;
        heard.expect("it is woken").expect("it ends");
    }
}
