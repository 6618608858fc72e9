//! The events of pods that wait, since their status does not say why: a disk that cannot be mounted, a claim that is
//! not bound.
//!
//! They are watched for as long as a pod waits, and what came before that is looked for once. None waits: no call.

use std::{
    collections::HashMap,
    future::{pending, ready},
    sync::Arc,
    time::Duration,
};

use futures_util::{
    StreamExt,
    future::try_join_all,
    stream::{BoxStream, iter, select_all},
};
use k8s_openapi::{
    api::core::v1::Event,
    jiff::{SignedDuration, Timestamp},
};
use kube::{
    Error,
    api::{ListParams, WatchEvent, WatchParams},
};
use tokio::time::{Instant, interval};
use tracing::debug;

use super::{
    Cluster,
    client::words,
    names,
    status::{State, View},
};
use crate::{
    activator::{Facts, InstanceUid},
    session::{Reason, Stage},
};

/// How often it is looked which pods wait. What has waited from one look to the next is not about to run.
const TICK: Duration = Duration::from_millis(500);
/// First and longest pause before events are watched again after a watch that ended or failed.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// How long one watch lasts, in seconds.
const WATCH: u32 = 60;
/// What is said of a claim again and again is said so often at least: Kubernetes drops events of which there are too
/// many, down to this.
const REPEATED: SignedDuration = SignedDuration::from_mins(5);
/// Events in one page of a list.
const PAGE: u32 = 100;
/// The events that say why a pod waits, of the pod itself and of its claim. The rest is normal, or is said in the
/// pod's status too.
const TELLING: [&str; 6] = [
    "FailedMount",
    "FailedAttachVolume",
    "FailedMapVolume",
    "FailedCreatePodSandBox",
    "ProvisioningFailed",
    "FailedBinding",
];
/// All of them: the last one is no warning.
const WATCHED: [&str; 2] = ["type=Warning", "reason=FailedBinding"];

type News = BoxStream<'static, Result<WatchEvent<Event>, Error>>;

/// Follows the events of pods that wait until the process ends.
pub(super) async fn run(cluster: &Cluster, facts: &Facts) {
    let mut ticks = interval(TICK);
    let mut news: Option<News> = None;
    let (first, last) = PAUSES;
    let (mut pause, mut again) = (first, Instant::now());
    // Of each pod that waits, what it waited for when it was looked for what came before the watch.
    let mut known: HashMap<InstanceUid, Option<State>> = HashMap::new();
    loop {
        let heard = tokio::select! {
            _ = ticks.tick() => None,
            heard = next(&mut news) => Some(heard),
        };
        match heard {
            Some(Some(Ok(WatchEvent::Added(event) | WatchEvent::Modified(event)))) => {
                pause = first;
                take(cluster, facts, &event);
                continue;
            }
            Some(Some(Ok(WatchEvent::Deleted(_) | WatchEvent::Bookmark(_)))) => continue,
            Some(Some(Ok(WatchEvent::Error(_)) | Err(_)) | None) => {
                news = None;
                again = Instant::now() + pause;
                pause = (pause * 2).min(last);
            }
            None => {}
        }
        let waiting = cluster.pods.waiting();
        known.retain(|uid, _| waiting.iter().any(|view| view.uid == *uid));
        if known.is_empty() {
            news = None;
        } else if news.is_none() && again <= Instant::now() {
            match watch(cluster).await {
                Ok(watched) => news = Some(watched),
                Err(error) => {
                    debug!(error = words(&error), "events cannot be watched");
                    again = Instant::now() + pause;
                    pause = (pause * 2).min(last);
                }
            }
            // Also where they cannot be watched, and then now and then.
            known.values_mut().for_each(|looked| *looked = None);
        }
        for view in waiting {
            let is_new = !known.contains_key(&view.uid);
            let looked = known.entry(view.uid).or_default();
            // One that is new may be about to run. What was said of its disk counts once it waits for that.
            let is_due = looked
                .as_ref()
                .is_none_or(|at| *at != view.state && is_of_disk(&view));
            if is_new || !is_due {
                continue;
            }
            *looked = Some(view.state.clone());
            if let Some(reason) = before(cluster, &view).await {
                cluster.pods.heard(facts, view.uid, reason);
            }
        }
    }
}

/// What the watch says next, if there is one; `None` when it ends.
async fn next(news: &mut Option<News>) -> Option<Result<WatchEvent<Event>, Error>> {
    match news {
        Some(news) => news.next().await,
        None => pending().await,
    }
}

/// Watches the events that may be telling, from now on.
async fn watch(cluster: &Cluster) -> Result<News, Error> {
    let template = &cluster.config.namespace;
    let events: kube::Api<Event> = if template.is_shared() {
        cluster.api.within(&template.0)
    } else {
        cluster.api.everywhere()
    };
    // Of a list, only what time it is.
    let one = ListParams::default().limit(1);
    let now = cluster.api.call(|| events.list(&one)).await?;
    let now = now.metadata.resource_version.unwrap_or_default();
    let watched = WATCHED.map(async |which| {
        let params = WatchParams::default().fields(which).timeout(WATCH);
        let news = cluster.api.call(|| events.watch(&params, &now)).await?;
        Ok::<_, Error>(news.map(Some).chain(iter([None])).boxed())
    });
    // The end of one is the end of all.
    let all = select_all(try_join_all(watched).await?);
    let all = all.take_while(|news| ready(news.is_some()));
    Ok(all.filter_map(ready).boxed())
}

/// Takes in an event, if it says why a pod waits.
fn take(cluster: &Cluster, facts: &Facts, event: &Event) {
    let Some(reason) = told(event) else { return };
    let template = &cluster.config.namespace;
    let (name, namespace) = (&event.involved_object.name, &event.metadata.namespace);
    let waiting = cluster.pods.waiting();
    let meant = waiting.iter().find(|view| {
        let names = [names::base(view.id), names::claim(view.id)];
        names.iter().any(|one| name.as_ref() == Some(one))
            && *namespace == Some(template.of(view.id))
    });
    if let Some(view) = meant.filter(|view| is_of(event, view)) {
        cluster.pods.heard(facts, view.uid, reason);
    }
}

/// Why this pod waits, in the words of the newest event about it or its disk.
async fn before(cluster: &Cluster, view: &View) -> Option<Reason> {
    let events = cluster
        .api
        .within::<Event>(&cluster.config.namespace.of(view.id));
    let mut newest: Option<(Option<Timestamp>, Reason)> = None;
    for name in [names::base(view.id), names::claim(view.id)] {
        let about = ListParams::default()
            .fields(&format!("involvedObject.name={name}"))
            .limit(PAGE);
        let listed = cluster.api.call(|| events.list(&about)).await;
        for event in listed.map(|list| list.items).unwrap_or_default() {
            let time = time(&event);
            if let Some(reason) = told(&event)
                && is_of(&event, view)
                && newest.as_ref().is_none_or(|(old, _)| *old <= time)
            {
                newest = Some((time, reason));
            }
        }
    }
    newest.map(|(_, reason)| reason)
}

/// When it happened last.
fn time(event: &Event) -> Option<Timestamp> {
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    last.or(event.event_time.as_ref().map(|time| time.0))
}

/// Whether it is not of a pod that was there before. What keeps a claim without a disk may have been said before the
/// pod was made, which is no news then and holds still.
fn is_of(event: &Event, view: &View) -> bool {
    let is_claims = event.involved_object.name == Some(names::claim(view.id));
    let slack = if is_claims && is_of_disk(view) {
        REPEATED
    } else {
        SignedDuration::ZERO
    };
    let before = |made: Timestamp| Some(made.duration_since(time(event)?));
    let before = view.made.and_then(before);
    before.is_none_or(|before| before <= slack)
}

/// Whether a pod waits for its disk.
fn is_of_disk(view: &View) -> bool {
    view.state == State::Waits(Stage::Disk)
}

/// Why a pod waits, if an event says so.
fn told(event: &Event) -> Option<Reason> {
    let reason = event.reason.as_deref().unwrap_or_default();
    if !TELLING.contains(&reason) {
        return None;
    }
    let message = event.message.as_deref().unwrap_or_default();
    let error: Arc<str> = format!("{reason}: {message}").into();
    Some(if reason == "FailedCreatePodSandBox" {
        Reason::Container { error }
    } else {
        Reason::Storage { error }
    })
}
