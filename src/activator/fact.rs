//! What can be observed of a session, and the handle by which observers tell it.

use std::{net::SocketAddr, sync::Arc};

use jiff::Timestamp;
use tracing::warn;

use super::{instance::InstanceUid, table::Table};
use crate::session::{Reason, Service, SessionId, Stage};

/// One thing that was observed.
#[derive(Debug, Clone)]
pub enum Fact {
    /// An instance runs.
    Saw(SessionId, Observed),
    /// An incarnation is there and does not run, or does not run any more.
    Pending(SessionId, InstanceUid, Progress),
    /// That very instance is being ended.
    Ending(SessionId, InstanceUid),
    /// That very instance is gone. A late word of an old one changes nothing.
    Gone(SessionId, InstanceUid),
    /// What ran it ended for good, for this reason, and nothing else runs it.
    Lost(SessionId, Arc<Reason>),
    /// This replica begins a start.
    Begun(SessionId),
    /// The session belongs to this user.
    Owner(SessionId, Arc<str>),
    /// The start under way waits for this now.
    Stage(SessionId, Stage),
    /// The start under way is at this position in the queue, from 1.
    Position(SessionId, usize),
    /// The start under way ended well: all was asked for.
    Done(SessionId),
    /// The start under way failed.
    Failed(SessionId, Arc<Reason>),
    /// A person wants to try again: no failure keeps the next start waiting.
    Forgiven(SessionId),
    /// The service accepts connections.
    Open(SessionId, InstanceUid, Service),
    /// The service refused a connection.
    Closed(SessionId, InstanceUid, Service),
    /// The service has not accepted a connection for too long. It is probed further.
    Late(SessionId, InstanceUid, Service, Arc<Reason>),
    /// The service is gone, while the instance goes on.
    Broke(SessionId, InstanceUid, Service, Arc<Reason>),
    /// The service has been started again.
    Mended(SessionId, InstanceUid, Service),
    /// That very instance will be stopped at this time, or will not be any more.
    Announced(SessionId, InstanceUid, Option<Timestamp>),
    /// It will not be stopped at this time any more. Of a stop announced since, that says nothing.
    TakenBack(SessionId, InstanceUid, Timestamp),
    /// That very instance has run for so long that it will be stopped at this time, used or not.
    Aged(SessionId, InstanceUid, Timestamp),
}

/// An instance that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Which one.
    pub uid: InstanceUid,
    /// Where its services listen, by [`Service::index`].
    pub addresses: Vec<SocketAddr>,
    /// The profile it is made by, if the configuration has one of that name. All share the configuration's own name:
    /// there may be a hundred thousand instances.
    pub profile: Option<Arc<str>>,
    /// When it was made, if it may be stopped because of its age.
    pub made: Option<Timestamp>,
}

/// Where an incarnation stands that does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It waits for this, as it should.
    Waits(Stage),
    /// Something keeps it from running, which may pass by itself.
    Stuck(Arc<Reason>),
    /// It is being ended.
    Ends,
}

/// A handle on the table for those who observe.
#[derive(Debug, Clone)]
pub struct Facts(Arc<Table>);

impl Fact {
    pub(super) fn session(&self) -> SessionId {
        match self {
            Self::Saw(id, ..)
            | Self::Pending(id, ..)
            | Self::Ending(id, ..)
            | Self::Gone(id, ..)
            | Self::Lost(id, ..)
            | Self::Begun(id)
            | Self::Owner(id, ..)
            | Self::Stage(id, ..)
            | Self::Position(id, ..)
            | Self::Done(id)
            | Self::Failed(id, ..)
            | Self::Forgiven(id)
            | Self::Open(id, ..)
            | Self::Closed(id, ..)
            | Self::Late(id, ..)
            | Self::Broke(id, ..)
            | Self::Mended(id, ..)
            | Self::Announced(id, ..)
            | Self::TakenBack(id, ..)
            | Self::Aged(id, ..) => *id,
        }
    }

    /// Whether a session of which nothing is known gets a slot by it: by something that runs, did, or is made to.
    pub(super) fn may_be_first(&self) -> bool {
        matches!(
            self,
            Self::Saw(..) | Self::Pending(..) | Self::Lost(..) | Self::Begun(_)
        )
    }
}

impl Observed {
    /// One that is made by no profile of the configuration, and that does not grow old.
    #[must_use]
    pub fn new(uid: InstanceUid, addresses: Vec<SocketAddr>) -> Self {
        Self {
            uid,
            addresses,
            profile: None,
            made: None,
        }
    }
}

impl Facts {
    /// A handle on this table.
    #[must_use]
    pub fn new(table: Arc<Table>) -> Self {
        Self(table)
    }

    /// An instance runs.
    pub fn saw(&self, id: SessionId, observed: Observed) {
        self.0.apply(Fact::Saw(id, observed));
    }

    /// An incarnation is there and does not run, or does not run any more.
    pub fn pending(&self, id: SessionId, uid: InstanceUid, progress: Progress) {
        if let Progress::Stuck(reason) = &progress {
            // What keeps it is told in changing words, again and again.
            let slot = self.0.slot(id);
            if slot.stuck(uid).map(Reason::code) != Some(reason.code()) {
                let (code, detail) = (reason.code(), reason.detail());
                warn!(session = %id, code, %reason, detail, "session does not run");
            }
        }
        self.0.apply(Fact::Pending(id, uid, progress));
    }

    /// That very instance is being ended: its tunnels and bodies end, and nothing new is sent to it.
    pub fn ending(&self, id: SessionId, uid: InstanceUid) {
        self.0.apply(Fact::Ending(id, uid));
    }

    /// That very instance is gone.
    pub fn gone(&self, id: SessionId, uid: InstanceUid) {
        self.0.apply(Fact::Gone(id, uid));
    }

    /// What ran the session ended for good, for this reason. A request starts it again.
    pub fn lost(&self, id: SessionId, reason: Arc<Reason>) {
        let (code, detail) = (reason.code(), reason.detail());
        if self.0.apply(Fact::Lost(id, Arc::clone(&reason))) {
            warn!(session = %id, code, %reason, detail, "session ended");
        }
    }

    /// The session, of which something is known already, belongs to this user.
    pub fn owner(&self, id: SessionId, user: &str) {
        self.0.apply(Fact::Owner(id, user.into()));
    }

    /// The start under way waits for this now.
    pub fn stage(&self, id: SessionId, stage: Stage) {
        self.0.apply(Fact::Stage(id, stage));
    }

    /// The service is gone, while the instance goes on.
    pub fn broke(&self, id: SessionId, uid: InstanceUid, service: Service, reason: Reason) {
        self.0
            .apply(Fact::Broke(id, uid, service, Arc::new(reason)));
    }

    /// The service has been started again, at the same address.
    pub fn mended(&self, id: SessionId, uid: InstanceUid, service: Service) {
        self.0.apply(Fact::Mended(id, uid, service));
    }

    /// That very instance will be stopped at this time unless it is used before, or will not be any more.
    pub fn announced(&self, id: SessionId, uid: InstanceUid, stop: Option<Timestamp>) {
        self.0.apply(Fact::Announced(id, uid, stop));
    }

    /// The table holds all that the spawner knows.
    pub fn synced(&self) {
        self.0.set_synced();
    }
}
