//! The request line: from a request's head to its answer, one step after the other.
//!
//! One `Gateway` per worker, on its thread alone. What it shares with the others, the activator, is written by
//! control. `answer` is the only file that picks a status for a failure.

mod answer;
mod body;
mod config;
mod connection;
#[cfg(fuzzing)]
pub mod fuzz;
mod guard;
mod headers;
mod http1;
mod intent;
mod io;
mod listener;
mod own;
mod peer;
mod proxy_protocol;
mod tls;
mod tunnel;
mod upstream;

use std::{rc::Rc, sync::Arc};

use http::{HeaderMap, HeaderValue, Method, Response, header, request::Parts, response};
use http_body::Body as _;
use tokio::time::Instant;

pub use answer::Code;
pub use config::{CertificateFiles, Embedders, GatewayConfig, Limits, Timeouts, TlsConfig};
pub use connection::Connections;
pub use listener::{bind, serve};
pub use tls::{Tls, TlsError};

use crate::{
    activator::{ActivateError, Activator, KeepError, Lease, SpawnError, TunnelGuard, Wanted},
    metrics::{By, Metrics, WorkerMeters},
    session::{Action, Grant, Intent, Route, RouteError, Service, Services, SessionId},
    shutdown::{Drain, ShutdownConfig},
};
use answer::Asker;
use body::{Body, Received, Switching, Upload};
use connection::HeadError;
use guard::{Guard, GuardError};
use headers::{AdmitError, Admitted, Hop, Offer};
use peer::Peer;
use tunnel::Times;
use upstream::{Connection, Sending, Upstream, UpstreamError};

/// What all workers share.
pub struct Shared {
    /// Leads to sessions.
    pub activator: Arc<Activator>,
    /// The services of every session.
    pub services: Services,
    /// The gateway's own section of the configuration.
    pub config: GatewayConfig,
    /// How the process ends.
    pub shutdown: ShutdownConfig,
    /// What connections are encrypted with, if they are.
    pub tls: Option<Arc<Tls>>,
    /// Those that are open.
    pub connections: Arc<Connections>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// The request line of one worker.
pub(crate) struct Gateway {
    shared: Arc<Shared>,
    guard: Guard,
    upstream: Upstream,
    meters: Arc<WorkerMeters>,
    drain: Drain,
}

/// A request that may pass: who asks what of whom.
struct Entry {
    admitted: Admitted,
    peer: Rc<Peer>,
    grant: Grant,
    target: Target,
}

/// What it asks for.
enum Target {
    /// A service of a session; the public path of it is so long.
    Service(SessionId, Service, usize),
    /// The same address with a slash.
    Slash,
    /// The session's own page.
    Page(SessionId),
    /// The session's public API.
    Own(SessionId, Action),
}

/// Why a request gets no answer of its service. Closed: `answer` gives each a status and a code.
#[derive(Debug, thiserror::Error)]
enum GatewayError {
    /// What came is no request.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// It is malformed.
    #[error(transparent)]
    Admit(#[from] AdmitError),
    /// It addresses nothing.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// It may not pass.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// One of our own addresses does not serve its method; these it does.
    #[error("this address serves {0} only")]
    Method(&'static str),
    /// The session is not there, as seen by this service; the flag tells whether a form is lost by it.
    #[error("the session does not take the request")]
    Activate(#[source] ActivateError, Service, bool),
    /// The session has as many websockets as it may.
    #[error("{0} has as many websockets open as it may")]
    Tunnels(SessionId),
    /// The session could not be stopped.
    #[error("the session could not be stopped")]
    Stop(SessionId, #[source] SpawnError),
    /// The session will be stopped because of its age, and cannot be kept from that.
    #[error(transparent)]
    Keep(KeepError),
    /// The session has as many requests in flight as it may have.
    #[error("{0} has as many requests in flight as a session may have")]
    Busy(SessionId),
    /// The service cannot be reached, or its answer cannot be sent on.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

impl Gateway {
    fn new(shared: Arc<Shared>, worker: usize, drain: Drain) -> Rc<Self> {
        Rc::new(Self {
            guard: Guard::new(&shared.config),
            upstream: Upstream::new(shared.config.timeouts, drain.clone()),
            meters: shared.metrics.worker(worker),
            shared,
            drain,
        })
    }

    /// Answers a request, whatever becomes of it. Its head becomes the one that is sent on where it lies, since the
    /// future of each step would keep a copy.
    async fn handle(
        self: &Rc<Self>,
        head: &mut Parts,
        body: Received,
        peer: &Rc<Peer>,
    ) -> Response<Body> {
        let in_flight = self.meters.request();
        let has_body = !body.is_end();
        let (asker, entry) = self.enter(head, peer);
        let outcome = match entry {
            Ok(ref entry) => self.forward(head, body, entry, &asker).await,
            Err(error) => Err(error),
        };
        drop(in_flight);
        self.answer(outcome, &asker, has_body)
    }

    /// Answers what is no request.
    fn refuse(&self, error: HeadError) -> Response<Body> {
        self.answer(Err(error.into()), &Asker::nobody(), true)
    }

    /// The answer that the client gets, counted.
    fn answer(
        &self,
        outcome: Result<Response<Body>, GatewayError>,
        asker: &Asker,
        has_body: bool,
    ) -> Response<Body> {
        let by = if matches!(&outcome, Ok(response) if response.body().is_streamed()) {
            By::Service
        } else {
            By::Gateway
        };
        let mut response = outcome.unwrap_or_else(|error| answer::answer(&error, asker, self));
        if has_body && by == By::Gateway {
            close(&mut response);
        }
        self.meters
            .answered(asker.service(), by, response.status().as_u16());
        response
    }

    /// Checks all that can be checked without waiting, before anything is looked up or started for the request. Says
    /// first how whoever sent it is to be answered, also if it may not pass.
    fn enter(&self, head: &mut Parts, peer: &Rc<Peer>) -> (Asker, Result<Entry, GatewayError>) {
        let flat = headers::flatten(head);
        let route = Route::parse(&self.shared.services, head.uri.path());
        let asker = Asker::of(head, route.as_ref().ok());
        let check = || {
            flat?;
            let admitted = headers::admit(head, peer, self.shared.config.limits.target)?;
            let route = route?;
            let grant = self.guard.check(head, &admitted, &route)?;
            Ok(Entry {
                admitted,
                peer: Rc::clone(peer),
                grant,
                target: Target::of(route, head.uri.path()),
            })
        };
        (asker, check())
    }

    /// Leads the request to its service and the answer back. Dropping the future drops the request, never a start.
    async fn forward(
        self: &Rc<Self>,
        head: &mut Parts,
        body: Received,
        entry: &Entry,
        asker: &Asker,
    ) -> Result<Response<Body>, GatewayError> {
        let Target::Service(id, service, prefix) = entry.target else {
            return Box::pin(self.own(head, entry, asker)).await;
        };
        let (mut lease, mut connection) = self.reach(head, entry, (id, service)).await?;
        let Admitted {
            public,
            upgrade,
            names,
        } = &entry.admitted;
        let place = self.place(&lease, upgrade.is_some())?;
        let spec = self.shared.services.spec(service);
        // A page that is open listens so for ever, as it does with a websocket.
        let listens = spec.activity.of_streams().0 && head.method == Method::GET;
        let uri = head.uri.clone();
        let hop = Hop {
            spec,
            prefix: &uri.path()[..prefix],
            public,
            peer: &entry.peer,
            upstream: connection.address(),
        };
        let client = upgrade
            .as_ref()
            .and_then(|_| body.switching(&mut head.extensions));
        let mut sending = {
            let body = Upload::new(body, || self.meters.bodies(service));
            headers::prepare(head, &hop, *names, upgrade.is_some());
            headers::frame(head, body.size_hint().exact());
            Sending::new(head, body)
        };
        // It may have to wait for long.
        head.headers = HeaderMap::new();
        let answer = self.upstream.send(&mut connection, &mut sending).await?;
        if listens && headers::is_event_stream(&answer.headers) {
            lease.rest();
        }
        let upgrade = upgrade.as_ref().zip(client).zip(place);
        self.hand_back((answer, connection), lease, &hop, upgrade)
    }

    /// The right to send to the service, and a connection to it. A service that refuses is starting again, and the
    /// request waits for it like any other.
    async fn reach(
        &self,
        head: &Parts,
        entry: &Entry,
        (id, service): (SessionId, Service),
    ) -> Result<(Lease, Connection), GatewayError> {
        let mut arrived = None;
        let switch = entry.admitted.upgrade.is_some();
        loop {
            let lease = match self.shared.activator.running(id, service) {
                Some(lease) => lease,
                None => {
                    let arrived = *arrived.get_or_insert_with(Instant::now);
                    Box::pin(self.wait(head, entry, (id, service), arrived)).await?
                }
            };
            // Tunnels have a limit of their own.
            let (leases, tunnels) = (lease.instance().leases(), lease.instance().tunnels());
            let most = self.shared.config.limits.requests_per_session;
            if leases.saturating_sub(tunnels) as usize > most {
                return Err(GatewayError::Busy(id));
            }
            match self.upstream.connect(&lease, switch).await {
                Ok(connection) => return Ok((lease, connection)),
                Err(UpstreamError::Connect(..)) => self.shared.activator.refused(&lease),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for the service as long as a request of this kind may, and starts the session if it may.
    async fn wait(
        &self,
        head: &Parts,
        entry: &Entry,
        (id, service): (SessionId, Service),
        arrived: Instant,
    ) -> Result<Lease, GatewayError> {
        let intent = intent::intent(head, &entry.admitted, &self.shared.config.link_previews);
        let wanted = Wanted {
            id,
            service,
            intent,
            grant: entry.grant,
            client: Some(headers::client(&head.headers, &entry.peer)),
            arrived,
        };
        let form = intent == Intent::Submission;
        let lease = self.shared.activator.lease(wanted).await;
        lease.map_err(|error| GatewayError::Activate(error, service, form))
    }

    /// A place among the websockets of the session, for a request that asks for one.
    fn place(&self, lease: &Lease, upgrade: bool) -> Result<Option<TunnelGuard>, GatewayError> {
        let most = self.shared.config.limits.tunnels_per_session;
        let place = upgrade.then(|| lease.tunnel(most));
        let full = || GatewayError::Tunnels(lease.instance().session());
        place.map(|place| place.ok_or_else(full)).transpose()
    }

    /// Makes the client's answer of the service's: the lease goes into its body, or into the tunnel after a 101.
    fn hand_back(
        &self,
        (mut head, mut connection): (response::Parts, Connection),
        mut lease: Lease,
        hop: &Hop<'_>,
        upgrade: Option<((&Offer, Switching), TunnelGuard)>,
    ) -> Result<Response<Body>, GatewayError> {
        let unfit = |error| UpstreamError::Unfit(hop.upstream, error);
        let service = lease.service();
        let bodies = || self.meters.bodies(service);
        match upgrade {
            Some(((offer, client), place))
                if head.status == http::StatusCode::SWITCHING_PROTOCOLS =>
            {
                headers::switched(&mut head, hop, offer).map_err(unfit)?;
                let open = self.meters.tunnel();
                let (rests, rule) = hop.spec.activity.of_streams();
                if rests {
                    lease.rest();
                }
                let held = tunnel::Held { lease, place, open };
                let times =
                    Times::new(self.shared.config.timeouts.websocket, &self.shared.shutdown);
                tunnel::join(client, connection, held, (times, rule), &self.drain);
                Ok(Response::from_parts(head, Body::Bodyless))
            }
            _ => {
                let framing = headers::scrub(&mut head, hop).map_err(unfit)?;
                connection.begin_body(head.status, framing);
                let uploading = connection.is_uploading();
                let body = Body::streamed(lease, connection, bodies);
                let mut response = Response::from_parts(head, body);
                if uploading {
                    close(&mut response);
                }
                Ok(response)
            }
        }
    }
}

impl Target {
    fn of(route: Route<'_>, path: &str) -> Self {
        match route {
            Route::Service { id, service, rest } => {
                Self::Service(id, service, path.len() - rest.len())
            }
            Route::Slash(_) => Self::Slash,
            Route::Page(id) => Self::Page(id),
            Route::Own(id, action) => Self::Own(id, action),
        }
    }
}

/// Ends the client's connection with this answer: what comes on it next is the rest of a body, which is not read, and
/// no request (RFC 9112 section 9.3).
fn close(response: &mut Response<Body>) {
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
}
