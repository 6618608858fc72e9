//! Live: every session and what changes of them, as server-sent events, for the dashboard and for those who watch.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use axum::{
    extract::State,
    http::{HeaderName, HeaderValue},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::stream;
use serde::Serialize;
use tokio::{
    sync::{OwnedSemaphorePermit, broadcast, watch},
    time::{Instant, sleep},
};
use tracing::warn;

use super::{
    Admin,
    document::{Counts, Session},
    problem::{Problem, Refused},
};
use crate::{
    activator::{Listed, SpawnError},
    session::SessionId,
    shutdown::Stage,
};

/// Who watches at a time at most: each one is told of, and remembers, every session.
pub(super) const STREAMS: usize = 8;
/// Changes that come so close together are told at once: a start has a dozen of them.
const TOGETHER: Duration = Duration::from_millis(100);
/// How often it is looked for what changes by itself, such as a failure whose pause is over.
const AGAIN: Duration = Duration::from_secs(5);
/// How often all records are read: of what other replicas do with sessions that do not run nothing else tells.
const RECORDS: Duration = Duration::from_secs(60);
/// So many deletions may wait until a watcher has looked at them; one that comes too late reads all records.
pub(super) const DELETIONS: usize = 256;
/// How often something is sent at least, so that nobody on the way takes it for dead.
const BEAT: Duration = Duration::from_secs(15);
/// Proxies of nginx's kind keep events back unless they are told not to.
const UNBUFFERED: (HeaderName, HeaderValue) = (
    HeaderName::from_static("x-accel-buffering"),
    HeaderValue::from_static("no"),
);

/// One who watches, and what was told.
struct Watcher {
    admin: Arc<Admin>,
    changes: watch::Receiver<u64>,
    deleted: broadcast::Receiver<SessionId>,
    /// When the records are worth reading again.
    reread: Instant,
    records: HashMap<SessionId, Listed>,
    /// Those of which something was known here when it was last looked.
    live: HashSet<SessionId>,
    told: HashMap<SessionId, Session>,
    counts: Option<Counts>,
    to_tell: VecDeque<Event>,
    _place: OwnedSemaphorePermit,
}

#[derive(Serialize)]
struct Gone {
    id: String,
}

/// Tells of every session, and of each change
///
/// Events: `session`, with a session as it is now, for each one at first and for each that changes; `gone`, with the
/// `id` of one of which nothing is left; `counts`, with how many there are in each state, after all sessions of a
/// moment were told. Times alone are no change.
#[utoipa::path(
    get, path = "/api/events", operation_id = "watchSessions",
    responses(
        (status = 200, description = "Server-sent events", body = String, content_type = "text/event-stream"),
        Refused
    )
)]
pub(super) async fn events(State(admin): State<Arc<Admin>>) -> Result<Response, Problem> {
    let place = Arc::clone(&admin.watchers).try_acquire_owned();
    let place = place.map_err(|_| Problem::crowded(STREAMS))?;
    let changes = admin.activator.table().changes();
    let deleted = admin.deleted.subscribe();
    let mut watcher = Watcher {
        admin,
        changes,
        deleted,
        reread: Instant::now(),
        records: HashMap::new(),
        live: HashSet::new(),
        told: HashMap::new(),
        counts: None,
        to_tell: VecDeque::new(),
        _place: place,
    };
    let read = watcher.read().await;
    read.map_err(|error| Problem::spawner(&error))?;
    watcher.look().await;
    let events = stream::unfold(watcher, |mut watcher| async {
        let event = watcher.next().await?;
        Some((Ok::<_, Infallible>(event), watcher))
    });
    let events = Sse::new(events).keep_alive(KeepAlive::new().interval(BEAT));
    Ok(([UNBUFFERED], events).into_response())
}

impl Watcher {
    /// The next event; none at the end of the process.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.to_tell.pop_front() {
                return Some(event);
            }
            tokio::select! {
                _ = self.changes.changed() => sleep(TOGETHER).await,
                deleted = self.deleted.recv() => match deleted {
                    Ok(id) => self.leave(id).await,
                    Err(_) => self.reread = Instant::now(),
                },
                () = sleep(AGAIN) => {}
                () = self.admin.drain.reached(Stage::Draining) => return None,
            }
            if self.reread <= Instant::now()
                && let Err(error) = self.read().await
            {
                warn!(%error, "the records cannot be read for those who watch");
            }
            self.look().await;
        }
    }

    /// Reads all records. Those that are gone go.
    async fn read(&mut self) -> Result<(), SpawnError> {
        self.reread = Instant::now() + RECORDS;
        let listed = self.admin.inspect.list(None, usize::MAX).await?;
        self.records = listed.into_iter().map(|one| (one.id, one)).collect();
        let is_left = |id: &&SessionId| !self.records.contains_key(id) && !self.live.contains(id);
        let left: Vec<SessionId> = self.told.keys().filter(is_left).copied().collect();
        for id in left {
            self.forget(id);
        }
        Ok(())
    }

    /// Looks at all sessions, and keeps what is new to be told.
    async fn look(&mut self) {
        // First: what changes meanwhile is looked for again.
        self.changes.mark_unchanged();
        let sessions = self.admin.activator.table().sessions();
        let live: HashSet<SessionId> = sessions.into_iter().map(|(id, _)| id).collect();
        let left: Vec<SessionId> = self.live.difference(&live).copied().collect();
        for id in left {
            self.leave(id).await;
        }
        let resting = self.records.keys().filter(|id| !live.contains(id));
        let all: Vec<SessionId> = resting.chain(&live).copied().collect();
        for id in all {
            let session = self.session(id).await;
            self.tell(id, session);
        }
        self.live = live;
        let counts = self.count();
        if self.counts.as_ref() != Some(&counts) {
            self.push("counts", &counts);
            self.counts = Some(counts);
        }
    }

    /// A session of which something is known here, or was read.
    async fn session(&mut self, id: SessionId) -> Session {
        let known = self.admin.of_record(id, self.records.get(&id).cloned());
        if self.records.contains_key(&id)
            || !self.told.get(&id).is_none_or(|told| known.differs(told))
        {
            return known;
        }
        // Its record is made during its start.
        match self.admin.inspect.find(id).await {
            Ok(Some(listed)) => drop(self.records.insert(id, listed)),
            Ok(None) => {}
            Err(error) => {
                warn!(session = %id, %error, "its record cannot be read for those who watch")
            }
        }
        self.admin.of_record(id, self.records.get(&id).cloned())
    }

    /// Nothing of it runs or is started any more: its record says what has become of it.
    async fn leave(&mut self, id: SessionId) {
        match self.admin.inspect.find(id).await {
            Ok(Some(listed)) => {
                self.records.insert(id, listed.clone());
                let session = self.admin.of_record(id, Some(listed));
                self.tell(id, session);
            }
            Ok(None) => self.forget(id),
            Err(error) => {
                warn!(session = %id, %error, "its record cannot be read for those who watch");
            }
        }
    }

    fn forget(&mut self, id: SessionId) {
        self.records.remove(&id);
        if self.told.remove(&id).is_some() {
            self.push("gone", &Gone { id: id.to_string() });
        }
    }

    fn tell(&mut self, id: SessionId, session: Session) {
        if self.told.get(&id).is_none_or(|told| session.differs(told)) {
            self.push("session", &session);
            self.told.insert(id, session);
        }
    }

    fn count(&self) -> Counts {
        let mut states: BTreeMap<&'static str, usize> = BTreeMap::new();
        let mut queued = 0;
        for session in self.told.values() {
            *states.entry(session.state).or_default() += 1;
            queued += usize::from(session.is_queued());
        }
        Counts { states, queued }
    }

    fn push(&mut self, name: &str, document: &impl Serialize) {
        let event = Event::default().event(name).json_data(document);
        self.to_tell
            .push_back(event.expect("a document of ours is JSON"));
    }
}
