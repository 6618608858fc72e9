//! The life of sessions: holds requests while one starts, and stops and removes those that nobody uses.
//!
//! [`Activator::lease`] is what the request line asks for the right to send; the rest of this module is why it may
//! have to wait. It promises: one start per session and replica, however many ask; no start cancelled by a client
//! that leaves; no wait without an end.

mod activity;
mod age;
mod config;
mod explain;
mod fact;
mod follow;
mod idle;
mod instance;
mod limits;
mod listeners;
mod overview;
mod phase;
mod probe;
mod queue;
mod records;
mod remembered;
mod retention;
mod retry;
mod slot;
mod spawner;
mod start;
mod table;
mod tally;

use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};
use tracing::{error, info};

pub use age::KeepError;
pub use config::{IdleConfig, IdleConfigs, SpawnConfig, StartLimits};
pub use explain::{Explained, Link, Stands, Step};
pub use fact::{Fact, Facts, Observed, Progress};
pub use instance::{Instance, InstanceUid, Lease, TunnelGuard};
pub use overview::Overview;
pub use phase::{Meanwhile, Trigger, Verdict, overall, phase, verdict};
pub use probe::{Probe, TcpProbe};
pub use remembered::Remembered;
pub use retention::RetentionConfig;
pub use slot::{Begun, Broken, Pending, Slot, Standing};
pub use spawner::{DefaultPlan, Inspect, Listed, Named, Resolver, Seen, SpawnError, Spawner};
pub use table::{Table, ToProbe, Waiters};

use crate::{
    session::{Grant, Intent, Phase, Reason, Service, SessionId, Stage},
    shutdown::Drain,
};
use idle::Stops;
use limits::Limits;
use queue::Queue;
use records::Records;

/// Longest wait of a websocket's handshake. VS Code has no limit of its own there: a handshake never answered hangs
/// its reconnect, and any answer lets it try again.
const SOCKET_HOLD: Duration = Duration::from_secs(10);

/// Who is told of starts, for figures.
pub trait StartWatcher: Send + Sync + 'static {
    /// A start ended, well or not, after this time.
    fn started(&self, well: bool, took: Duration);
}

/// What an activator is made of.
pub struct Parts {
    /// Runs sessions.
    pub spawner: Arc<dyn Spawner>,
    /// Lists them.
    pub inspect: Arc<dyn Inspect>,
    /// Decides what new ones are made from.
    pub resolver: Arc<dyn Resolver>,
    /// Finds out whether their ports accept.
    pub probe: Arc<dyn Probe>,
    /// Is told of starts.
    pub watcher: Arc<dyn StartWatcher>,
    /// Section `spawn`.
    pub config: SpawnConfig,
    /// Section `idle`, and what profiles make of it.
    pub idle: IdleConfigs,
    /// Section `retention`.
    pub retention: RetentionConfig,
    /// The tasks of the control runtime.
    pub drain: Drain,
}

/// Leads requests to running sessions, and starts the missing ones. One per replica.
pub struct Activator {
    table: Arc<Table>,
    spawner: Arc<dyn Spawner>,
    inspect: Arc<dyn Inspect>,
    resolver: Arc<dyn Resolver>,
    watcher: Arc<dyn StartWatcher>,
    records: Records,
    queue: Queue,
    limits: Limits,
    stops: Stops,
    config: SpawnConfig,
    idle: IdleConfigs,
    retention: RetentionConfig,
    drain: Drain,
}

/// What a request wants to send to.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// The session.
    pub id: SessionId,
    /// The service of it.
    pub service: Service,
    /// What kind of request it is.
    pub intent: Intent,
    /// What its sender may do.
    pub grant: Grant,
    /// The address it was sent from, for whose starts are counted.
    pub client: Option<IpAddr>,
    /// When it came: what it may wait counts from there, however often it has to wait again.
    pub arrived: Instant,
}

/// Why a request cannot be sent on now.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ActivateError {
    /// The session, or its service, is not there, and this request does not wait for it.
    #[error("session {0} is {name}", name = .1.name())]
    NotReady(SessionId, Phase),
    /// It was waited for as long as this kind of request is held.
    #[error("session {0} is still {name} after {time}", name = .1.name(), time = humantime::format_duration(*.2))]
    Held(SessionId, Phase, Duration),
    /// As many requests as may be are held for it already.
    #[error("session {0} has {1} requests waiting for it already")]
    Crowded(SessionId, usize),
    /// It would be started, but for a limit on starts.
    #[error("session {0} is not started: {1}")]
    Limited(SessionId, Arc<Reason>),
    /// Where it stands cannot be found out.
    #[error("what is recorded of session {0} cannot be read")]
    Look(SessionId, #[source] SpawnError),
}

impl Activator {
    /// Begins to watch and to probe, in tasks of `parts.drain` that end with the process.
    #[must_use]
    pub fn begin_watch(parts: Parts) -> Arc<Self> {
        let (table, ports) = Table::new();
        let probing = probe::run(
            Arc::clone(&table),
            ports,
            parts.probe,
            parts.config.timeout,
            parts.drain.clone(),
        );
        parts.drain.spawn("probes", probing);
        let activator = Arc::new(Self {
            records: Records::new(Arc::clone(&parts.spawner), Arc::clone(&parts.inspect)),
            limits: Limits::new(&parts.config),
            queue: Queue::new(&table, parts.config.concurrent, parts.config.queue),
            stops: Stops::default(),
            table,
            spawner: parts.spawner,
            inspect: parts.inspect,
            resolver: parts.resolver,
            watcher: parts.watcher,
            config: parts.config,
            idle: parts.idle,
            retention: parts.retention,
            drain: parts.drain,
        });
        activator
            .drain
            .spawn("activity", Arc::clone(&activator).note());
        for idle in activator.idle.all() {
            let looks = Arc::clone(&activator).look_for_idle(idle);
            activator.drain.spawn("idle", looks);
            if !idle.max_age.is_zero() {
                let looks = Arc::clone(&activator).look_for_age(idle);
                activator.drain.spawn("ages", looks);
            }
        }
        activator
            .drain
            .spawn("announcements", Arc::clone(&activator).answer());
        activator
            .drain
            .spawn("retention", Arc::clone(&activator).retain());
        let (spawner, facts) = (
            Arc::clone(&activator.spawner),
            Facts::new(Arc::clone(&activator.table)),
        );
        let ended = activator.drain.clone();
        activator.drain.spawn("watch", async move {
            tokio::select! {
                error = spawner.watch(facts) => error!(%error, "sessions are no longer watched"),
                () = ended.reached(crate::shutdown::Stage::Ended) => {}
            }
        });
        activator
    }

    /// The right to send to a service that runs and accepts.
    #[must_use]
    pub fn running(&self, id: SessionId, service: Service) -> Option<Lease> {
        self.table.running(id, service)
    }

    /// Returns the right to send to a service, starting the session first if it is not running and this request may.
    ///
    /// A running service costs no await. Otherwise it waits at most `spawn.hold`, a websocket at most 10 s. Dropping
    /// the future abandons the wait, never the start.
    ///
    /// # Errors
    /// `NotReady` at once for requests that do not wait and for what failed; `Held` after the wait; `Crowded` above
    /// `spawn.held`; `Look` if the session's record cannot be read.
    pub async fn lease(self: &Arc<Self>, wanted: Wanted) -> Result<Lease, ActivateError> {
        match self.running(wanted.id, wanted.service) {
            Some(lease) => Ok(lease),
            None => Box::pin(self.wait(wanted)).await,
        }
    }

    async fn wait(self: &Arc<Self>, wanted: Wanted) -> Result<Lease, ActivateError> {
        let Wanted {
            id,
            service,
            intent,
            grant,
            client,
            arrived,
        } = wanted;
        let hold = self.hold(intent);
        let deadline = arrived + hold;
        let mut place = None;
        loop {
            // In this order, or a change between the two would be slept through.
            let waiters = self.table.slot(id).waiters;
            let changed = waiters.changed.notified();
            let slot = self.table.slot(id);
            let phase = match phase(&slot, service, Instant::now()) {
                Some(phase) => phase,
                None => self.record(id).await?,
            };
            let meanwhile = match verdict(intent, self.config.trigger, &phase) {
                Verdict::Forward => match self.take(&slot, id, service, deadline).await {
                    Some(lease) => return Ok(lease),
                    None => continue,
                },
                Verdict::Start(meanwhile) if grant.spawn => {
                    self.begin(id, grant, client)?;
                    if meanwhile == Meanwhile::Hold {
                        continue;
                    }
                    let phase =
                        self::phase(&self.table.slot(id), service, Instant::now()).unwrap_or(phase);
                    if phase == Phase::Running {
                        // Somebody else's start has ended meanwhile.
                        continue;
                    }
                    return Err(ActivateError::NotReady(id, phase));
                }
                Verdict::Start(_) => Meanwhile::Refuse,
                Verdict::Leave(meanwhile) => meanwhile,
            };
            if meanwhile != Meanwhile::Hold {
                return Err(ActivateError::NotReady(id, phase));
            }
            if !Arc::ptr_eq(&waiters, &slot.waiters) {
                continue;
            }
            if place.is_none() {
                place = Some(
                    Place::take(&waiters, self.config.held)
                        .ok_or(ActivateError::Crowded(id, self.config.held))?,
                );
            }
            if timeout_at(deadline, changed).await.is_err() {
                return Err(ActivateError::Held(id, phase, hold));
            }
        }
    }

    /// How long a request of this kind is held at most.
    fn hold(&self, intent: Intent) -> Duration {
        if intent.is_socket() {
            self.config.hold.min(SOCKET_HOLD)
        } else {
            self.config.hold
        }
    }

    async fn record(&self, id: SessionId) -> Result<Phase, ActivateError> {
        match self.look(id).await {
            Ok(seen) => Ok(Phase::Idle(seen.found)),
            Err(error) => Err(ActivateError::Look(id, error)),
        }
    }

    /// Where a session stands as seen by one service of it, from its record if nothing of it is known here.
    ///
    /// # Errors
    /// `Look` if the record cannot be read.
    pub async fn phase(&self, id: SessionId, service: Service) -> Result<Phase, ActivateError> {
        match phase(&self.table.slot(id), service, Instant::now()) {
            Some(phase) => Ok(phase),
            None => self.record(id).await,
        }
    }

    /// Whether there may be such a session. One of which something is known here is not asked for.
    ///
    /// # Errors
    /// If there is no such project.
    pub async fn known(&self, id: SessionId) -> Result<(), SpawnError> {
        if !self.table.slot(id).is_empty() {
            return Ok(());
        }
        self.resolver.absence(id).await.map_or(Ok(()), Err)
    }

    /// What the session's record says, at most a second old.
    ///
    /// # Errors
    /// If it cannot be read, or there is no such project: then it is not looked for.
    pub async fn look(&self, id: SessionId) -> Result<Seen, SpawnError> {
        self.known(id).await?;
        let runs = self.table.slot(id).instance.is_some();
        self.records.look(id, runs, &self.drain).await
    }

    /// Stops a session and keeps its workspace; returns when nothing of it runs. Dropping the future abandons the
    /// wait, never the stop.
    ///
    /// # Errors
    /// If it could not be recorded as stopped, or something of it does not end.
    pub async fn stop(self: &Arc<Self>, id: SessionId) -> Result<(), SpawnError> {
        let activator = Arc::clone(self);
        self.queue.withdraw(id);
        let stop = self.drain.spawn("stop", async move {
            activator.stamp_session(id).await;
            let facts = Facts::new(Arc::clone(&activator.table));
            let outcome = activator.spawner.stop(id, &facts).await;
            activator.records.forget(id);
            if outcome.is_ok() {
                activator.table.apply(Fact::Forgiven(id));
                info!(session = %id, "session stopped");
            }
            outcome
        });
        stop.await
            .unwrap_or_else(|_| Err(SpawnError::new(Reason::Internal)))
    }

    /// A connection to this service was refused: it is starting, for itself alone, until a probe gets through.
    pub fn refused(&self, lease: &Lease) {
        let instance = lease.instance();
        self.table.apply(Fact::Closed(
            instance.session(),
            instance.uid(),
            lease.service(),
        ));
    }

    /// What a start waits for, in order.
    #[must_use]
    pub fn stages(&self) -> &'static [Stage] {
        self.spawner.stages()
    }

    /// What is known of all sessions.
    #[must_use]
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }
}

/// One of the places of those who wait for a session, given back on drop.
struct Place(Arc<Waiters>);

impl Place {
    fn take(waiters: &Arc<Waiters>, places: usize) -> Option<Self> {
        let taken = waiters.held.fetch_add(1, Ordering::Relaxed);
        let place = Self(Arc::clone(waiters));
        (taken < places).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
