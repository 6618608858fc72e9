//! One running incarnation of a session, and the right to send to it.

use std::{
    future::poll_fn,
    mem,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU16, AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::Poll,
    time::Duration,
};

use jiff::Timestamp;
use tokio::{sync::Notify, time::Instant};
use uuid::Uuid;

use super::fact::Observed;
use crate::session::{InputRule, Service, SessionId, clock};

/// The identity of one incarnation: of a pod, or of one start of local processes. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InstanceUid(pub Uuid);

/// One running pod, or the process groups of one start. Shared by all who send to it.
#[derive(Debug)]
pub struct Instance {
    session: SessionId,
    uid: InstanceUid,
    addresses: Box<[SocketAddr]>,
    profile: Option<Arc<str>>,
    /// When it was made, and for how long it had run when it was first seen here.
    made: Option<(Timestamp, Duration)>,
    /// Whether this replica started it.
    is_own: bool,
    /// By service: how often its program was exchanged, so that a probe of an earlier one ends.
    rounds: Box<[AtomicU32]>,
    since: Instant,
    open: AtomicU32,
    leases: AtomicU32,
    /// Those among them that are no use by themselves.
    resting: AtomicU32,
    tunnels: AtomicU32,
    /// Which window of its websockets' frames it is.
    window: AtomicU16,
    /// How many frames in it may be somebody's work, over all of them.
    heard: AtomicU32,
    /// There was work in a websocket since it was last asked for.
    worked: AtomicBool,
    /// Told when that comes to be so.
    work: Notify,
    /// Milliseconds after `since`; 0: never.
    used: AtomicU64,
    ended: AtomicBool,
    end: Notify,
}

/// The right to send to one service of a running instance, and the only handle to it. Counts as use while it lives,
/// unless it [rests](Self::rest): the body or the tunnel of a request holds it to its end.
#[derive(Debug)]
#[must_use]
pub struct Lease {
    instance: Arc<Instance>,
    service: Service,
    rests: bool,
}

impl Instance {
    /// A new incarnation with no service open.
    #[must_use]
    pub fn new(session: SessionId, observed: Observed) -> Self {
        let Observed {
            uid,
            addresses,
            profile,
            made,
        } = observed;
        Self {
            session,
            uid,
            rounds: addresses.iter().map(|_| AtomicU32::new(0)).collect(),
            addresses: addresses.into(),
            profile,
            made: made.map(|made| (made, clock::since(made))),
            is_own: false,
            since: Instant::now(),
            open: AtomicU32::new(0),
            leases: AtomicU32::new(0),
            resting: AtomicU32::new(0),
            tunnels: AtomicU32::new(0),
            window: AtomicU16::new(0),
            heard: AtomicU32::new(0),
            worked: AtomicBool::new(false),
            work: Notify::new(),
            used: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            end: Notify::new(),
        }
    }

    /// Which session it is.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Which incarnation it is.
    #[must_use]
    pub fn uid(&self) -> InstanceUid {
        self.uid
    }

    /// Where `service` listens, or will.
    #[must_use]
    pub fn address(&self, service: Service) -> SocketAddr {
        self.addresses[service.index()]
    }

    /// All addresses, by [`Service::index`].
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The profile it is made by, if the configuration has one of that name.
    #[must_use]
    pub fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }

    /// The same, started by this replica or not.
    pub(super) fn started_here(self, is_own: bool) -> Self {
        Self { is_own, ..self }
    }

    /// Whether this replica started it, as far as it has seen that.
    pub(super) fn was_started_here(&self) -> bool {
        self.is_own
    }

    /// When it was made, if it grows old.
    pub(super) fn made(&self) -> Option<Timestamp> {
        self.made.map(|(made, _)| made)
    }

    /// For how long it has run, if it grows old.
    pub(super) fn age(&self) -> Option<Duration> {
        self.made.map(|(_, age)| age + self.since.elapsed())
    }

    /// Its services.
    pub(super) fn services(&self) -> impl Iterator<Item = Service> + use<> {
        Service::first(self.addresses.len())
    }

    /// Whether all of them accept connections.
    pub(super) fn is_all_open(&self) -> bool {
        self.services().all(|service| self.is_open(service))
    }

    /// Which program of the service a probe is about.
    pub(super) fn round(&self, service: Service) -> u32 {
        self.rounds[service.index()].load(Relaxed)
    }

    /// Voids the probes of the service's program so far.
    pub(super) fn next_round(&self, service: Service) {
        self.rounds[service.index()].fetch_add(1, Relaxed);
    }

    /// When this gateway first saw it.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Whether `service` accepted a connection from here and has not refused one since.
    #[must_use]
    pub fn is_open(&self, service: Service) -> bool {
        self.open.load(Relaxed) & (1 << service.index()) != 0
    }

    /// Only the table's writer says so.
    pub(super) fn set_open(&self, service: Service, open: bool) {
        let bit = 1 << service.index();
        if open {
            self.open.fetch_or(bit, Relaxed)
        } else {
            self.open.fetch_and(!bit, Relaxed)
        };
    }

    /// Only the table's writer says so. Wakes all who wait in [`ended`](Self::ended).
    pub(super) fn end(&self) {
        self.ended.store(true, Relaxed);
        self.end.notify_waiters();
    }

    /// Waits until the instance is gone or being ended. Cancelling it does nothing. Asking again in vain costs next to
    /// nothing, since a tunnel does so with each message; it must be the same task that asks.
    pub async fn ended(&self) {
        let mut end = pin!(self.end.notified());
        let mut is_asked = false;
        poll_fn(move |cx| {
            if self.has_ended() {
                return Poll::Ready(());
            }
            if mem::replace(&mut is_asked, true) {
                return Poll::Pending;
            }
            end.as_mut().poll(cx)
        })
        .await;
    }

    /// Whether the instance is gone or being ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Relaxed)
    }

    /// Requests and tunnels in flight.
    #[must_use]
    pub fn leases(&self) -> u32 {
        self.leases.load(Relaxed)
    }

    /// Open tunnels.
    #[must_use]
    pub fn tunnels(&self) -> u32 {
        self.tunnels.load(Relaxed)
    }

    /// When it was last used: now, while a lease of it lives that does not rest. `None` if it never was.
    #[must_use]
    pub fn last_used(&self) -> Option<Instant> {
        // Twice, or a lease that ends in between would hide another one.
        let resting = self.resting.load(Acquire);
        if self.leases.load(Acquire) > resting || self.resting.load(Acquire) != resting {
            return Some(Instant::now());
        }
        if self.worked.swap(false, Relaxed) {
            self.touch();
        }
        let used = self.used.load(Relaxed);
        (used > 0).then(|| self.since + Duration::from_millis(used))
    }

    /// Which window of its websockets' frames it is: see [`crate::session::Spell`].
    #[must_use]
    pub fn window(&self) -> u16 {
        self.window.load(Relaxed)
    }

    /// The next window begins.
    pub(super) fn next_window(&self) {
        self.heard.store(0, Relaxed);
        self.window.fetch_add(1, Relaxed);
    }

    /// So many more frames came over a websocket that may be somebody's work. Reads no clock: it may be said with each.
    pub fn heard(&self, frames: u16, rule: InputRule) {
        if self.worked.load(Relaxed) {
            return;
        }
        let frames = u32::from(frames);
        if self.heard.fetch_add(frames, Relaxed) + frames >= rule.frames.into() {
            self.worked.store(true, Relaxed);
            self.work.notify_one();
        }
    }

    /// Waits for work in a websocket. For one waiter.
    pub(super) async fn worked(&self) {
        self.work.notified().await;
    }

    pub(super) fn touch(&self) {
        let now = u64::try_from(self.since.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .max(1);
        self.used.fetch_max(now, Relaxed);
    }
}

impl Lease {
    pub(super) fn new(instance: Arc<Instance>, service: Service) -> Self {
        instance.leases.fetch_add(1, Relaxed);
        Self {
            instance,
            service,
            rests: false,
        }
    }

    /// The instance it is a lease of.
    #[must_use]
    pub fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    /// The service it is a lease of.
    #[must_use]
    pub fn service(&self) -> Service {
        self.service
    }

    /// From here on it is held and is no use by itself: somebody listens, and nobody may be there.
    pub fn rest(&mut self) {
        if !self.rests {
            self.rests = true;
            self.instance.touch();
            self.instance.resting.fetch_add(1, Release);
        }
    }

    /// Where to connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.instance.address(self.service)
    }

    /// Counts one tunnel while the guard lives; `None` if there are `most` of the instance already.
    #[must_use]
    pub fn tunnel(&self, most: usize) -> Option<TunnelGuard> {
        let tunnels = &self.instance.tunnels;
        let one_more = |open: u32| (usize::try_from(open).ok()? < most).then(|| open + 1);
        tunnels.fetch_update(Relaxed, Relaxed, one_more).ok()?;
        Some(TunnelGuard(Arc::clone(&self.instance)))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.rests {
            // In this order, or it would be taken for use in between.
            self.instance.leases.fetch_sub(1, Release);
            self.instance.resting.fetch_sub(1, Release);
            return;
        }
        // First: as long as it is counted, its instance is in use now.
        self.instance.touch();
        self.instance.leases.fetch_sub(1, Release);
    }
}

/// One open tunnel of an instance, for as long as it lives.
#[derive(Debug)]
#[must_use]
pub struct TunnelGuard(Arc<Instance>);

impl Drop for TunnelGuard {
    fn drop(&mut self) {
        self.0.tunnels.fetch_sub(1, Relaxed);
    }
}
