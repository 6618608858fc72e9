//! What the gateway answers itself. Which status and code a failure has is picked in `answer/code.rs` alone.
//!
//! A person gets a page, a program a problem document (RFC 9457). Each carries a request id, by which the log line is
//! found that says more than the client is told.
#![deny(clippy::wildcard_enum_match_arm)]

mod code;

use std::{cell::OnceCell, error::Error, fmt::Write as _, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use serde::Serialize;
use tokio::time::Instant;
use tracing::{debug, warn};
use uuid::Uuid;

pub use code::Code;

use super::{GatewayError, Shared, body::Body, headers::AdmitError, upstream::UpstreamError};
use crate::{
    activator::ActivateError,
    pages::{self, Frame},
    session::{Phase, Reason, Route, Service, SessionId},
};

/// The name under which a request id is sent.
const REQUEST_ID: &str = "x-request-id";
/// The name under which the code of a failure is sent: answers to HEAD, and pages, have no problem document.
const CODE: &str = "session-gateway-code";
/// When to look again at a session that starts: it takes seconds.
const SOON: Duration = Duration::from_secs(1);

/// Who asked, as far as the form of an answer depends on it.
pub(super) struct Asker {
    /// Whether a page is wanted, as opposed to a problem document.
    page: bool,
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
        let text = |name| {
            let value = head.headers.get(name);
            value
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        let page = match text("sec-fetch-mode") {
            "" => text(header::ACCEPT.as_str()).contains("text/html"),
            mode => mode == "navigate",
        };
        Self {
            page,
            session: route.map(Route::session),
            service,
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
pub(super) fn answer(error: &GatewayError, asker: &Asker, shared: &Shared) -> Response<Body> {
    let code = Code::of(error);
    log(error, code, asker);
    let mut response = if asker.page {
        page(error, code, asker, shared)
    } else {
        problem(error, code, asker)
    };
    *response.status_mut() = code.status();
    let headers = response.headers_mut();
    headers.insert(CODE, HeaderValue::from_static(code.name()));
    if let Some(after) = retry_after(error) {
        headers.insert(header::RETRY_AFTER, after.as_secs().max(1).into());
    }
    match error {
        GatewayError::Upstream(UpstreamError::Stalled(_) | UpstreamError::Broken(..)) => {
            // The rest of the body may come after all: it is no request.
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
        | GatewayError::Tunnels(_)
        | GatewayError::Busy(_)
        | GatewayError::Upstream(_) => {}
    }
    response
}

/// A page of our own, with what a browser must know of it.
pub(super) fn html(asker: &Asker, write: impl FnOnce(Frame<'_>) -> String) -> Response<Body> {
    let nonce = Uuid::new_v4().simple().to_string();
    let page = write(Frame {
        nonce: &nonce,
        request_id: &asker.id().to_string(),
    });
    let mut response = own(asker, "text/html; charset=utf-8", page);
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    );
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::try_from(policy).expect("hex digits are ASCII"),
    );
    // The forms' answers go back to the page they were on.
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("same-origin"),
    );
    response
}

/// A document for programs.
pub(super) fn json(
    asker: &Asker,
    content_type: &'static str,
    document: &impl Serialize,
) -> Response<Body> {
    let text = serde_json::to_vec(document).expect("a document of strings and numbers is JSON");
    own(asker, content_type, text)
}

/// A redirect to an address below the same host.
pub(super) fn redirect(asker: &Asker, status: StatusCode, location: HeaderValue) -> Response<Body> {
    let mut response = own(asker, "text/plain; charset=utf-8", "");
    *response.status_mut() = status;
    response.headers_mut().insert(header::LOCATION, location);
    response
}

fn own(asker: &Asker, content_type: &'static str, content: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::own(content));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    let id = HeaderValue::try_from(asker.id().to_string()).expect("a UUID is ASCII");
    headers.insert(REQUEST_ID, id);
    response
}

/// The page for a person.
fn page(error: &GatewayError, code: Code, asker: &Asker, shared: &Shared) -> Response<Body> {
    use ActivateError::{Held, NotReady};
    html(asker, |frame| match error {
        GatewayError::Activate(NotReady(id, phase) | Held(id, phase, _), service, form) => {
            let service = shared.services.spec(*service).name.as_str();
            match phase {
                Phase::Idle(found) => pages::stopped(frame, *id, service, *found, *form),
                Phase::Failed(failure) => {
                    let retry_in = failure.retry_at.saturating_duration_since(Instant::now());
                    pages::failed(frame, *id, service, &failure.reason, retry_in)
                }
                Phase::Starting { .. } | Phase::Ending | Phase::Running => {
                    pages::waiting(frame, *id, service, phase, shared.activator.stages())
                }
            }
        }
        GatewayError::Route(_) => pages::not_found(frame),
        GatewayError::Admit(_)
        | GatewayError::Guard(_)
        | GatewayError::Method(_)
        | GatewayError::Activate(ActivateError::Crowded(..) | ActivateError::Look(..), ..)
        | GatewayError::Stop(..)
        | GatewayError::Tunnels(_)
        | GatewayError::Busy(_)
        | GatewayError::Upstream(_) => {
            pages::refused(frame, code.name(), code.row().2, &advice(code))
        }
    })
}

/// What a person can do about it.
fn advice(code: Code) -> String {
    let advice = match code {
        Code::CrossSite => "Open the address in a tab of its own instead.",
        Code::HostNotServed => {
            "Use the address that the gateway printed, or add this name to its setting hosts."
        }
        Code::TooManyWaiting
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
        | Code::InvalidTarget
        | Code::InvalidBody
        | Code::TargetTooLong
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
    };
    advice.to_owned()
}

/// A problem document (RFC 9457).
#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'a str,
    status: u16,
    detail: String,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<ProblemReason<'a>>,
    request_id: String,
}

/// Why a session or its service failed.
#[derive(Serialize)]
struct ProblemReason<'a> {
    code: &'a str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<&'a str>,
}

fn problem(error: &GatewayError, code: Code, asker: &Asker) -> Response<Body> {
    let reason = failure(error).map(|failure| ProblemReason {
        code: failure.code(),
        message: failure.to_string(),
        output: failure.detail(),
    });
    let (status, name, title) = code.row();
    let detail = match error {
        GatewayError::Activate(error, ..) => error.to_string(),
        // What failed on the service's side is for the log: it may name addresses.
        GatewayError::Upstream(_) => title.to_owned(),
        GatewayError::Admit(_)
        | GatewayError::Route(_)
        | GatewayError::Guard(_)
        | GatewayError::Method(_)
        | GatewayError::Busy(_)
        | GatewayError::Stop(..)
        | GatewayError::Tunnels(_) => error.to_string(),
    };
    let problem = Problem {
        kind: format!("urn:session-gateway:problem:{name}"),
        title,
        status: status.as_u16(),
        detail,
        code: name,
        session: asker.session.map(|id| id.to_string()),
        reason,
        request_id: asker.id().to_string(),
    };
    json(asker, "application/problem+json", &problem)
}

fn failure(error: &GatewayError) -> Option<&Reason> {
    match error {
        GatewayError::Activate(
            ActivateError::NotReady(_, phase) | ActivateError::Held(_, phase, _),
            ..,
        ) => match phase {
            Phase::Failed(failure) => Some(&failure.reason),
            Phase::Idle(_) | Phase::Starting { .. } | Phase::Ending | Phase::Running => None,
        },
        GatewayError::Activate(ActivateError::Look(_, error), ..)
        | GatewayError::Stop(_, error) => Some(&error.reason),
        GatewayError::Admit(_)
        | GatewayError::Route(_)
        | GatewayError::Guard(_)
        | GatewayError::Method(_)
        | GatewayError::Activate(ActivateError::Crowded(..), ..)
        | GatewayError::Tunnels(_)
        | GatewayError::Busy(_)
        | GatewayError::Upstream(_) => None,
    }
}

/// When asking again can help, if it can by itself.
fn retry_after(error: &GatewayError) -> Option<Duration> {
    match error {
        GatewayError::Activate(
            ActivateError::NotReady(_, phase) | ActivateError::Held(_, phase, _),
            ..,
        ) => match phase {
            Phase::Failed(failure) => {
                Some(failure.retry_at.saturating_duration_since(Instant::now()))
            }
            Phase::Starting { .. } | Phase::Ending | Phase::Running => Some(SOON),
            Phase::Idle(_) => None,
        },
        GatewayError::Activate(ActivateError::Crowded(..) | ActivateError::Look(..), ..)
        | GatewayError::Busy(_)
        | GatewayError::Stop(..)
        | GatewayError::Tunnels(_) => Some(SOON),
        GatewayError::Admit(_)
        | GatewayError::Route(_)
        | GatewayError::Guard(_)
        | GatewayError::Method(_)
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
        GatewayError::Upstream(
            UpstreamError::Connect(..)
            | UpstreamError::Send(..)
            | UpstreamError::Silent(..)
            | UpstreamError::Unfit(..),
        )
        | GatewayError::Stop(..)
        | GatewayError::Activate(ActivateError::Look(..), ..) => {
            warn!(%request, code, session, error = causes, "request failed");
        }
        GatewayError::Admit(_)
        | GatewayError::Route(_)
        | GatewayError::Guard(_)
        | GatewayError::Method(_)
        | GatewayError::Tunnels(_)
        | GatewayError::Busy(_)
        | GatewayError::Upstream(UpstreamError::Stalled(_) | UpstreamError::Broken(..))
        | GatewayError::Activate(..) => {
            debug!(%request, code, session, error = causes, "request not forwarded")
        }
    }
}
