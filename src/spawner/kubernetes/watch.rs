//! Learning of pods: one watch over all of them, and beside it the events of those that wait ([`events`]).
//!
//! A watch that ends goes on from where it was; only one that is too old to go on begins with a new list. Nothing
//! here is on the way of a request.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{
    WatchStreamExt,
    utils::Backoff,
    watcher::{self, watcher},
};
use tokio::{sync::Notify, time::timeout};
use tracing::{debug, info, warn};

use super::{
    Cluster,
    book::{Book, Word},
    client::words,
    events,
    names::{PROFILE, UUID},
    objects::label,
    record::user,
    status::{View, view},
};
use crate::{
    activator::{Facts, InstanceUid},
    session::{Reason, SessionId},
};

/// How long one watch lasts, in seconds: a connection that died without a word is noticed five seconds after.
const WATCH: u32 = 60;
/// Pods in one page of a list: a page of large pods takes half a megabyte.
const PAGE: u32 = 100;
/// First and longest pause before a watch that failed begins again: an API server that comes back is noticed at once.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// The code of a watch that is too old to go on (410 Gone).
const EXPIRED: u16 = 410;
/// What is known of pods, shared by the watch and by those who make and delete them.
#[derive(Default)]
pub(super) struct Pods {
    book: Mutex<Book>,
    changed: Notify,
}

impl Pods {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a change, and tells the table what follows from it, in the order in which changes come.
    fn change<W>(&self, facts: &Facts, change: impl FnOnce(&mut Book) -> W)
    where
        W: IntoIterator<Item = Word>,
    {
        // Told before the next one can be taken in: otherwise the table might hear of a pod after its end.
        let mut book = self.book();
        tell(facts, change(&mut book));
        drop(book);
        self.changed.notify_waiters();
    }

    /// A pod was seen, of a session of this user.
    fn learn(&self, facts: &Facts, view: View, user: Option<&str>) {
        let id = view.id;
        self.change(facts, |book| book.learn(view));
        if let Some(user) = user {
            facts.owner(id, user);
        }
    }

    /// An event says why a pod waits.
    pub(super) fn heard(&self, facts: &Facts, uid: InstanceUid, reason: Reason) {
        self.change(facts, |book| book.heard(uid, reason));
    }

    /// The pods that wait.
    pub(super) fn waiting(&self) -> Vec<View> {
        self.book().waiting()
    }

    /// A pod was asked to end.
    pub(super) fn ends(&self, facts: &Facts, uid: InstanceUid) {
        self.change(facts, |book| book.ends(uid));
    }

    /// Whether a chart's release keeps the session's pod.
    pub(super) fn is_helms(&self, id: SessionId) -> bool {
        self.book().is_helms(id)
    }

    /// Waits until the watch has shown this pod, or that it is gone; returns whether it did in time.
    pub(super) async fn until(&self, uid: InstanceUid, is_there: bool, limit: Duration) -> bool {
        let shown = async {
            loop {
                let changed = self.changed.notified();
                let known = self.book().knows(uid);
                if known == is_there {
                    return;
                }
                changed.await;
            }
        };
        timeout(limit, shown).await.is_ok()
    }
}

/// The pauses of the watch: how many failures there were in a row.
#[derive(Debug, Clone, Default)]
struct Pauses(Arc<AtomicU32>);

impl Pauses {
    /// Something was learned: the next pause is the first one again.
    fn end(&self) {
        self.0.store(0, Relaxed);
    }
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let (first, last) = PAUSES;
        let failures = self.0.fetch_add(1, Relaxed);
        Some(first.saturating_mul(1 << failures.min(10)).min(last))
    }
}

impl Backoff for Pauses {
    /// Does nothing: it is called when a list begins, too, and one that fails would be begun again at once for ever.
    fn reset(&mut self) {}
}

/// Watches until the process ends.
pub(super) async fn run(cluster: &Cluster, facts: &Facts) {
    tokio::join!(pods(cluster, facts), events::run(cluster, facts));
}

async fn pods(cluster: &Cluster, facts: &Facts) {
    let template = &cluster.config.namespace;
    let pods = if template.is_shared() {
        cluster.api.within::<Pod>(&template.0)
    } else {
        cluster.api.everywhere::<Pod>()
    };
    let config = watcher::Config::default()
        .labels(UUID)
        .timeout(WATCH)
        .page_size(PAGE);
    let pauses = Pauses::default();
    let mut stream = watcher(pods, config).backoff(pauses.clone()).boxed();
    let read = |pod: &Pod| seen(cluster, pod);
    let mut failing = false;
    while let Some(event) = stream.next().await {
        use watcher::Event::{Apply, Delete, InitDone};
        if matches!(event, Ok(Apply(_) | Delete(_) | InitDone)) {
            pauses.end();
            if failing {
                info!("pods are watched again");
            }
            failing = false;
        }
        let pods = &cluster.pods;
        match event {
            Err(watcher::Error::WatchError(status)) if status.code == EXPIRED => {
                debug!("the watch is too old to go on: pods are listed anew");
            }
            Err(error) => {
                if !failing {
                    let error = told(&error);
                    warn!(
                        error,
                        "pods cannot be watched: sessions stay as they were last seen, until the API server answers"
                    );
                }
                failing = true;
            }
            Ok(watcher::Event::Init) => pods.book().begin(),
            Ok(watcher::Event::InitApply(pod) | Apply(pod)) => {
                if let Some(view) = read(&pod) {
                    pods.learn(facts, view, user(&pod.metadata));
                }
            }
            Ok(Delete(pod)) => {
                if let Some(view) = read(&pod) {
                    pods.change(facts, |book| book.forget(view.uid));
                }
            }
            Ok(InitDone) => {
                pods.change(facts, Book::end);
                facts.synced();
                info!("pods are listed and watched");
            }
        }
    }
}

/// What is seen of a pod, with its profile.
fn seen(cluster: &Cluster, pod: &Pod) -> Option<View> {
    let view = view(pod, &cluster.config.namespace, &cluster.services)?;
    let profile = label(&pod.metadata, PROFILE).and_then(|name| cluster.config.shared_name(name));
    Some(View { profile, ..view })
}

/// What a failed watch says, with the API server's own words.
fn told(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => words(error),
        watcher::Error::WatchError(status) => status.message.clone(),
        watcher::Error::NoResourceVersion => error.to_string(),
    }
}

fn tell(facts: &Facts, words: impl IntoIterator<Item = Word>) {
    for word in words {
        match word {
            Word::Saw(id, observed) => facts.saw(id, observed),
            Word::Pending(id, uid, progress) => facts.pending(id, uid, progress),
            Word::Announced(id, uid, stop) => facts.announced(id, uid, stop),
            Word::Ending(id, uid) => facts.ending(id, uid),
            Word::Gone(id, uid) => facts.gone(id, uid),
            Word::Lost(id, reason) => facts.lost(id, reason),
        }
    }
}
