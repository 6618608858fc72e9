//! What the gateway answers itself. Which status and code a failure has is picked in `answer/code.rs` alone.
//!
//! A person gets a page, a program a problem document (RFC 9457). Each carries a request id, by which the log line is
//! found that says more than the client is told.
#![deny(clippy::wildcard_enum_match_arm)]

mod code;
mod form;
mod problem;

use std::{cell::OnceCell, error::Error, fmt::Write as _, time::Duration};

use http::{HeaderValue, Method, Response, header, request::Parts};
use tokio::time::Instant;
use tracing::{debug, warn};
use uuid::Uuid;

pub use code::Code;
pub(super) use form::{events, html, json, redirect, shared};

use super::{
    Gateway, GatewayError, Shared,
    body::Body,
    headers::{AdmitError, SEC_FETCH_MODE},
    upstream::UpstreamError,
};
use crate::{
    activator::{ActivateError, KeepError},
    pages,
    session::{Phase, Reason, Route, Service, SessionId},
};

/// The name under which the code of a failure is sent: answers to HEAD, and pages, have no problem document.
const CODE: &str = "session-gateway-code";
/// When to look again at a session that starts: it takes seconds.
const SOON: Duration = Duration::from_secs(1);

/// Who asked, as far as the form of an answer depends on it.
#[derive(Clone)]
pub(super) struct Asker {
    /// Whether a page is wanted, as opposed to a problem document.
    page: bool,
    /// Whether nothing but the head of the answer is wanted.
    head: bool,
    session: Option<SessionId>,
    service: Option<Service>,
    /// Thought of when it is first asked for: most answers are the service's, and have none.
    id: OnceCell<Uuid>,
}

impl Asker {
    /// Reads off a request how its sender is to be answered, before anything is known to be right about it.
    pub(super) fn of(head: &Parts, route: Option<&Route<'_>>) -> Self {
        let service = match route {
            Some(Route::Service { service, .. }) => Some(*service),
            Some(Route::Slash(_) | Route::Page(_) | Route::Own(..)) | None => None,
        };
        let page = match head.headers.get(SEC_FETCH_MODE) {
            Some(mode) => mode == "navigate",
            None => head
                .headers
                .get(header::ACCEPT)
                .and_then(|accepts| accepts.to_str().ok())
                .is_some_and(|accepts| accepts.contains("text/html")),
        };
        Self {
            page,
            head: head.method == Method::HEAD,
            session: route.map(Route::session),
            service,
            id: OnceCell::new(),
        }
    }

    /// Whoever sent what is no request. It has an id all the same, by which the log line is found.
    pub(super) fn nobody() -> Self {
        Self {
            page: false,
            head: false,
            session: None,
            service: None,
            id: OnceCell::new(),
        }
    }

    /// The request's id.
    fn id(&self) -> Uuid {
        *self.id.get_or_init(Uuid::new_v4)
    }

    /// The service that was asked, for figures.
    pub(super) fn service(&self) -> Option<Service> {
        self.service
    }

    /// Whether a page is wanted, as opposed to a document for programs.
    pub(super) fn wants_page(&self) -> bool {
        self.page
    }
}

/// The answer to a request that failed.
pub(super) fn answer(error: &GatewayError, asker: &Asker, gateway: &Gateway) -> Response<Body> {
    let code = Code::of(error);
    gateway.meters.problem(code as usize);
    log(error, code, asker);
    let mut response = if asker.page {
        page(error, code, asker, &gateway.shared)
    } else {
        problem::problem(error, code, asker)
    };
    *response.status_mut() = code.status();
    let headers = response.headers_mut();
    headers.insert(CODE, HeaderValue::from_static(code.name()));
    if let Some(after) = retry_after(error) {
        // Not before it can help.
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        headers.insert(header::RETRY_AFTER, seconds.max(1).into());
    }
    match error {
        GatewayError::Head(_) => {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        GatewayError::Admit(error) => {
            // What a client that cannot frame a request sends next is not to be trusted to be one.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            if *error == AdmitError::SocketVersion {
                headers.insert(
                    header::SEC_WEBSOCKET_VERSION,
                    HeaderValue::from_static("13"),
                );
            }
            if *error == AdmitError::Method {
                let served =
                    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
                headers.insert(header::ALLOW, served);
            }
        }
        GatewayError::Method(allowed) => {
            headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
        }
        GatewayError::Route(_)
        | GatewayError::Guard(_)
        | GatewayError::Activate(..)
        | GatewayError::Stop(..)
        | GatewayError::Keep(_)
        | GatewayError::Tunnels(_)
        | GatewayError::Busy(_)
        | GatewayError::Upstream(_) => {}
    }
    response
}

/// The page for a person.
fn page(error: &GatewayError, code: Code, asker: &Asker, shared: &Shared) -> Response<Body> {
    use ActivateError::{Crowded, Held, Limited, Look, NotReady};
    if code == Code::NoSuchProject {
        return html(asker, &shared.config.embedders, |frame| {
            pages::refused(frame, code.name(), (code.row().2, advice(code)), false)
        });
    }
    html(asker, &shared.config.embedders, |frame| match error {
        GatewayError::Activate(NotReady(id, phase) | Held(id, phase, _), service, form) => {
            let service = shared.services.spec(*service).name.as_str();
            match phase {
                Phase::Idle(found) => pages::stopped(frame, *id, service, *found, *form),
                Phase::Failed(failure) => {
                    if let Reason::Limited(limit) = *failure.reason {
                        let retry_in = failure.retry_at.saturating_duration_since(Instant::now());
                        return pages::limited(frame, (*id, service), limit, retry_in, *form);
                    }
                    pages::failed(frame, *id, service, failure, *form)
                }
                Phase::Starting { .. } | Phase::Ending | Phase::Running => {
                    let stages = shared.activator.stages();
                    pages::waiting(frame, (*id, service), phase, stages, *form)
                }
            }
        }
        GatewayError::Activate(Limited(id, reason), service, form)
            if let Reason::Limited(limit) = **reason =>
        {
            let service = shared.services.spec(*service).name.as_str();
            pages::limited(frame, (*id, service), limit, limit.retry(), *form)
        }
        GatewayError::Route(_) => pages::not_found(frame),
        GatewayError::Activate(Crowded(..) | Look(..) | Limited(..), _, form) => {
            pages::refused(frame, code.name(), (code.row().2, advice(code)), !form)
        }
        GatewayError::Head(_)
        | GatewayError::Admit(_)
        | GatewayError::Guard(_)
        | GatewayError::Method(_)
        | GatewayError::Stop(..)
        | GatewayError::Keep(_)
        | GatewayError::Tunnels(_)
        | GatewayError::Busy(_)
        | GatewayError::Upstream(_) => {
            pages::refused(frame, code.name(), (code.row().2, advice(code)), false)
        }
    })
}

/// What a person can do about it.
fn advice(code: Code) -> &'static str {
    match code {
        Code::NoSuchProject => {
            "It may have been deleted, or not be there yet. Check the link, or open the project from where you got it."
        }
        Code::MaxAgeReached => {
            "It will be stopped soon, and its files are kept. Opening one of its services starts it again then."
        }
        Code::CrossSite => "Open the address in a tab of its own instead.",
        Code::HostNotServed => {
            "Use the address that the gateway printed, or add this name to its setting hosts."
        }
        Code::TooManySessions
        | Code::TooManyStarts
        | Code::TooManyWaiting
        | Code::TooManySockets
        | Code::TooManyRequests
        | Code::BodyTimeout
        | Code::SpawnerUnavailable => "Try again in a moment.",
        Code::UpstreamUnreachable
        | Code::UpstreamBroke
        | Code::UpstreamSilent
        | Code::UpstreamInvalid => {
            "Reload the page; if it stays, look at the service's own output."
        }
        Code::MethodNotServed
        | Code::InvalidHead
        | Code::HeadTooLong
        | Code::InvalidTarget
        | Code::InvalidBody
        | Code::TargetTooLong
        | Code::TooManyFields
        | Code::LoopDetected
        | Code::InvalidPath
        | Code::InvalidHost
        | Code::UnknownCoding
        | Code::UnknownExpectation
        | Code::InvalidHandshake
        | Code::SocketVersion
        | Code::NotFound
        | Code::MethodNotAllowed
        | Code::SessionStopped
        | Code::SessionStarting
        | Code::SessionFailed
        | Code::SessionStopping => "Check the address.",
    }
}

/// When asking again can help, if it can by itself.
fn retry_after(error: &GatewayError) -> Option<Duration> {
    match error {
        GatewayError::Activate(
            ActivateError::NotReady(_, phase) | ActivateError::Held(_, phase, _),
            ..,
        ) => match phase {
            Phase::Failed(failure) if *failure.reason == Reason::NoProject => None,
            Phase::Failed(failure) => {
                Some(failure.retry_at.saturating_duration_since(Instant::now()))
            }
            Phase::Starting { .. } | Phase::Ending | Phase::Running => Some(SOON),
            Phase::Idle(_) => None,
        },
        GatewayError::Activate(ActivateError::Look(_, error), ..)
            if *error.reason == Reason::NoProject =>
        {
            None
        }
        GatewayError::Activate(ActivateError::Limited(_, reason), ..) => {
            if let Reason::Limited(limit) = **reason {
                Some(limit.retry())
            } else {
                Some(SOON)
            }
        }
        GatewayError::Activate(ActivateError::Crowded(..) | ActivateError::Look(..), ..)
        | GatewayError::Busy(_)
        | GatewayError::Stop(..)
        | GatewayError::Keep(KeepError::Spawner(..))
        | GatewayError::Tunnels(_) => Some(SOON),
        GatewayError::Head(_)
        | GatewayError::Admit(_)
        | GatewayError::Route(_)
        | GatewayError::Guard(_)
        | GatewayError::Method(_)
        | GatewayError::Keep(KeepError::Aged(..))
        | GatewayError::Upstream(_) => None,
    }
}

/// Says in the log what the client is not told, once. What a service or the spawner did wrong is a warning.
fn log(error: &GatewayError, code: Code, asker: &Asker) {
    let mut causes = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(causes, ": {cause}");
        source = cause.source();
    }
    let (request, code, session) = (
        asker.id(),
        code.name(),
        asker.session.map(tracing::field::display),
    );
    match error {
        // What the resolver does not say it tells itself.
        GatewayError::Activate(ActivateError::Look(_, error), ..)
            if *error.reason == Reason::NoProject =>
        {
            debug!(%request, code, session, error = causes, "request not forwarded");
        }
        GatewayError::Upstream(
            UpstreamError::Connect(..)
            | UpstreamError::Send(..)
            | UpstreamError::Silent(..)
            | UpstreamError::Unfit(..),
        )
        | GatewayError::Stop(..)
        | GatewayError::Keep(KeepError::Spawner(..))
        | GatewayError::Activate(ActivateError::Look(..), ..) => {
            warn!(%request, code, session, error = causes, "request failed");
        }
        GatewayError::Head(_)
        | GatewayError::Admit(_)
        | GatewayError::Route(_)
        | GatewayError::Guard(_)
        | GatewayError::Method(_)
        | GatewayError::Keep(KeepError::Aged(..))
        | GatewayError::Tunnels(_)
        | GatewayError::Busy(_)
        | GatewayError::Upstream(UpstreamError::Stalled(_) | UpstreamError::Broken(..))
        | GatewayError::Activate(..) => {
            debug!(%request, code, session, error = causes, "request not forwarded")
        }
    }
}
