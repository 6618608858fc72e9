//! The one seam between proxying and what runs sessions.
//!
//! The traits are defined here, where they are used; the spawners implement them. Calls across the seam take
//! milliseconds to minutes, so boxed futures cost nothing, and no type of a spawner's own world crosses it.

use std::{error::Error, fmt, sync::Arc};

use futures_util::future::BoxFuture;
use jiff::Timestamp;

use super::{fact::Facts, instance::InstanceUid};
use crate::session::{Found, Grant, Plan, Reason, SessionId, Stage};

/// Runs sessions. Every call may be dropped, repeated, or raced by another replica.
pub trait Spawner: Send + Sync + 'static {
    /// Reports all running sessions, then `synced`, then every change; returns only what no retry mends.
    fn watch(&self, facts: Facts) -> BoxFuture<'_, SpawnError>;

    /// What a start waits for, in order.
    fn stages(&self) -> &'static [Stage];

    /// Reads the durable record of one session past the watch.
    ///
    /// # Errors
    /// If the record cannot be read.
    fn look(&self, id: SessionId) -> BoxFuture<'_, Result<Seen, SpawnError>>;

    /// Makes what is missing of the session, reporting stages and the instance as `facts`; returns when all is asked
    /// for, not when it is ready. Of a session that runs, it starts again the services that failed. A start is recorded
    /// as a use.
    ///
    /// # Errors
    /// If something could not be made. What was made stays, and the next call goes on from there.
    fn ensure<'a>(
        &'a self,
        id: SessionId,
        plan: &'a Plan,
        facts: &'a Facts,
    ) -> BoxFuture<'a, Result<(), SpawnError>>;

    /// Records when the session was last used. Does nothing for a session without a record.
    ///
    /// # Errors
    /// If the record cannot be written.
    fn stamp(&self, id: SessionId, used: Timestamp) -> BoxFuture<'_, Result<(), SpawnError>>;

    /// Records the session as stopped and ends its instance, keeping the workspace; returns when nothing of it runs.
    /// A session that does not run is recorded as stopped; one without a record stays absent.
    ///
    /// # Errors
    /// If the record cannot be written or the instance does not end.
    fn stop<'a>(&'a self, id: SessionId, facts: &'a Facts)
    -> BoxFuture<'a, Result<(), SpawnError>>;

    /// Tells all replicas, as `facts`, that this very instance will be stopped at `stop` unless it is used before. Does
    /// nothing if that is announced already, if it is not the one that runs, or if it is not ours to stop.
    ///
    /// # Errors
    /// If it could not be announced.
    fn announce<'a>(
        &'a self,
        instance: Named,
        stop: Timestamp,
        facts: &'a Facts,
    ) -> BoxFuture<'a, Result<(), SpawnError>>;

    /// Takes back that this very instance will be stopped, and records that it was used at `used`. Returns whether it
    /// goes on, which the caller tells the table; if not, it is being ended or gone, and `facts` says so.
    ///
    /// # Errors
    /// If it could not be taken back: then it may be stopped.
    fn keep<'a>(
        &'a self,
        instance: Named,
        used: Timestamp,
        facts: &'a Facts,
    ) -> BoxFuture<'a, Result<bool, SpawnError>>;

    /// Stops exactly this instance as [`stop`](Self::stop) does. With `stop`, only if that is still announced for this
    /// time: if anything has changed since, it is not. Returns whether it was stopped by this call.
    ///
    /// # Errors
    /// If the record cannot be written or the instance does not end.
    fn expire<'a>(
        &'a self,
        instance: Named,
        stop: Option<Timestamp>,
        facts: &'a Facts,
    ) -> BoxFuture<'a, Result<bool, SpawnError>>;

    /// Removes the session and all that is kept of it, its workspace too; what runs of it is ended. A session that is
    /// not there is no error. With `unused`, only what does not run, has not been used since then, and is not
    /// protected: a start that comes first is a use, and one that comes later finds it removed. Returns whether
    /// anything was removed; it may take some time yet until it is gone.
    ///
    /// # Errors
    /// If it is not ours to remove, or cannot be removed. What was begun is gone on with by the next call, or start.
    fn delete<'a>(
        &'a self,
        id: SessionId,
        unused: Option<Timestamp>,
        facts: &'a Facts,
    ) -> BoxFuture<'a, Result<bool, SpawnError>>;

    /// The gateway ends: ends what cannot outlive it, and returns when that is done. Records stay as they are, so that
    /// the next gateway finds such sessions vanished. Sessions that need no gateway to run go on.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// One incarnation of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// The session.
    pub id: SessionId,
    /// Which incarnation of it.
    pub uid: InstanceUid,
}

/// Reads for people, never for the request line.
pub trait Inspect: Send + Sync + 'static {
    /// All recorded sessions after `after`, by id, at most `limit`.
    ///
    /// # Errors
    /// If the records cannot be listed.
    fn list(
        &self,
        after: Option<SessionId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Listed>, SpawnError>>;

    /// One recorded session.
    ///
    /// # Errors
    /// If the record cannot be read.
    fn find(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Listed>, SpawnError>>;

    /// Whether somebody protects a session from being removed for want of use.
    ///
    /// # Errors
    /// If that cannot be read.
    fn is_protected<'a>(&'a self, listed: &'a Listed) -> BoxFuture<'a, Result<bool, SpawnError>> {
        Box::pin(std::future::ready(Ok(listed.is_kept)))
    }

    /// The last lines each service of a session wrote, in the order of the configuration; empty where none did.
    ///
    /// # Errors
    /// If they cannot be read.
    fn tail(&self, id: SessionId) -> BoxFuture<'_, Result<Vec<String>, SpawnError>>;

    /// Whether all services of a session write to one output, which [`tail`](Self::tail) has at the first of them.
    fn has_one_output(&self) -> bool {
        false
    }
}

/// Decides what a new session is made from, before anything is written.
pub trait Resolver: Send + Sync + 'static {
    /// The plan of the session, for a sender with this grant.
    ///
    /// # Errors
    /// If there is no such project, or the answer cannot be had.
    fn plan(&self, id: SessionId, grant: Grant) -> BoxFuture<'_, Result<Plan, SpawnError>>;

    /// The error of a session that there cannot be, since there is no such project. `None` where that is not known.
    fn absence(&self, _id: SessionId) -> BoxFuture<'_, Option<SpawnError>> {
        Box::pin(std::future::ready(None))
    }
}

/// What was read of a session's durable record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What the record says.
    pub found: Found,
    /// When the session was last used, if that was recorded.
    pub used: Option<Timestamp>,
}

/// One session in a list for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The session.
    pub id: SessionId,
    /// What its record says.
    pub seen: Seen,
    /// When its record was made.
    pub made: Option<Timestamp>,
    /// Whether its record says that it is kept, used or not.
    pub is_kept: bool,
    /// What it is made from.
    pub plan: Plan,
}

/// Why a spawner could not do what was asked. Cheap to clone: every waiter of a start gets one.
#[derive(Debug, Clone)]
pub struct SpawnError {
    /// What people and programs are told.
    pub reason: Arc<Reason>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// The plan of every session when nothing chooses another: the defaults of the configuration.
pub struct DefaultPlan(pub Plan);

impl Resolver for DefaultPlan {
    fn plan(&self, _: SessionId, _: Grant) -> BoxFuture<'_, Result<Plan, SpawnError>> {
        Box::pin(async { Ok(self.0.clone()) })
    }
}

impl SpawnError {
    /// An error that is all said by its reason.
    #[must_use]
    pub fn new(reason: Reason) -> Self {
        Self {
            reason: Arc::new(reason),
            source: None,
        }
    }

    /// An error with what caused it.
    #[must_use]
    pub fn because(reason: Reason, source: impl Error + Send + Sync + 'static) -> Self {
        Self {
            reason: Arc::new(reason),
            source: Some(Arc::new(source)),
        }
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl Error for SpawnError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
