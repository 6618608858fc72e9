//! What the gateway answers itself: the one file that picks a status and a code for a failure.
//!
//! A person gets a page, a program a problem document (RFC 9457). Each carries a request id, by which the log line is
//! found that says more than the client is told.
#![deny(clippy::wildcard_enum_match_arm)]

use std::{error::Error, fmt::Write as _, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde::Serialize;
use tokio::time::Instant;
use tracing::{debug, warn};
use uuid::Uuid;

use super::{
    GatewayError, body::Body, guard::GuardError, headers::AdmitError, upstream::UpstreamError,
};
use crate::{
    activator::ActivateError,
    pages::{self, Frame},
    session::{Found, Phase, Reason, Route, RouteError, Service, Services, SessionId},
};

/// The name under which a request id is sent.
const REQUEST_ID: &str = "x-request-id";
/// When to look again at a session that starts: it takes seconds.
const SOON: Duration = Duration::from_secs(1);

/// What a program can tell the gateway's own answers apart by. The closed list of README "Problem codes".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// 405: the method is not served at all.
    MethodNotServed,
    /// 400: the request target is no path.
    InvalidTarget,
    /// 400: the path holds what is not allowed.
    InvalidPath,
    /// 400: not exactly one valid Host.
    InvalidHost,
    /// 501: a transfer coding besides chunked.
    UnknownCoding,
    /// 417: an expectation besides 100-continue.
    UnknownExpectation,
    /// 400: a websocket handshake that is none.
    InvalidHandshake,
    /// 426: a websocket of another version.
    SocketVersion,
    /// 404: the path addresses nothing.
    NotFound,
    /// 421: the host is not served here.
    HostNotServed,
    /// 403: a page of another site asked.
    CrossSite,
    /// 405: not with this method, here.
    MethodNotAllowed,
    /// 503: the session is stopped, or was never started.
    SessionStopped,
    /// 503: the session starts.
    SessionStarting,
    /// 503: the session, or this service of it, failed.
    SessionFailed,
    /// 503: the session is being stopped.
    SessionStopping,
    /// 503: as many requests as may be wait for the session already.
    TooManyWaiting,
    /// 503: what runs sessions does not answer.
    SpawnerUnavailable,
    /// 502: the service cannot be connected to.
    UpstreamUnreachable,
    /// 502: the service broke off before its answer.
    UpstreamBroke,
    /// 504: the service did not answer in time.
    UpstreamSilent,
    /// 502: the service's answer cannot be sent on.
    UpstreamInvalid,
}

/// Who asked, as far as the form of an answer depends on it.
pub(super) struct Asker {
    /// Whether a page is wanted, as opposed to a problem document.
    page: bool,
    session: Option<SessionId>,
    service: Option<Service>,
    id: Uuid,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 22] = [
        Self::MethodNotServed,
        Self::InvalidTarget,
        Self::InvalidPath,
        Self::InvalidHost,
        Self::UnknownCoding,
        Self::UnknownExpectation,
        Self::InvalidHandshake,
        Self::SocketVersion,
        Self::NotFound,
        Self::HostNotServed,
        Self::CrossSite,
        Self::MethodNotAllowed,
        Self::SessionStopped,
        Self::SessionStarting,
        Self::SessionFailed,
        Self::SessionStopping,
        Self::TooManyWaiting,
        Self::SpawnerUnavailable,
        Self::UpstreamUnreachable,
        Self::UpstreamBroke,
        Self::UpstreamSilent,
        Self::UpstreamInvalid,
    ];

    /// The status, the name for programs, and the sentence for people.
    #[rustfmt::skip]
    fn row(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::MethodNotServed => (S::METHOD_NOT_ALLOWED, "method_not_served", "This method is not served"),
            Self::InvalidTarget => (S::BAD_REQUEST, "invalid_target", "The request target is not a path"),
            Self::InvalidPath => (S::BAD_REQUEST, "invalid_path", "The path is not valid"),
            Self::InvalidHost => (S::BAD_REQUEST, "invalid_host", "The Host header is not valid"),
            Self::UnknownCoding => (S::NOT_IMPLEMENTED, "unknown_coding", "This transfer coding is not served"),
            Self::UnknownExpectation => (S::EXPECTATION_FAILED, "unknown_expectation", "This expectation cannot be met"),
            Self::InvalidHandshake => (S::BAD_REQUEST, "invalid_handshake", "The websocket handshake is not valid"),
            Self::SocketVersion => (S::UPGRADE_REQUIRED, "socket_version", "Of websocket versions only 13 is served"),
            Self::NotFound => (S::NOT_FOUND, "not_found", "There is nothing at this address"),
            Self::HostNotServed => (S::MISDIRECTED_REQUEST, "host_not_served", "This host is not served here"),
            Self::CrossSite => (S::FORBIDDEN, "cross_site", "A page of another site may not ask for this"),
            Self::MethodNotAllowed => (S::METHOD_NOT_ALLOWED, "method_not_allowed", "This address does not serve this method"),
            Self::SessionStopped => (S::SERVICE_UNAVAILABLE, "session_stopped", "The session is not running"),
            Self::SessionStarting => (S::SERVICE_UNAVAILABLE, "session_starting", "The session is starting"),
            Self::SessionFailed => (S::SERVICE_UNAVAILABLE, "session_failed", "The session did not start"),
            Self::SessionStopping => (S::SERVICE_UNAVAILABLE, "session_stopping", "The session is being stopped"),
            Self::TooManyWaiting => (S::SERVICE_UNAVAILABLE, "too_many_waiting", "Too many requests wait for this session"),
            Self::SpawnerUnavailable => (S::SERVICE_UNAVAILABLE, "spawner_unavailable", "Sessions cannot be started or stopped at present"),
            Self::UpstreamUnreachable => (S::BAD_GATEWAY, "upstream_unreachable", "The service cannot be reached"),
            Self::UpstreamBroke => (S::BAD_GATEWAY, "upstream_broke", "The service broke off before it answered"),
            Self::UpstreamSilent => (S::GATEWAY_TIMEOUT, "upstream_silent", "The service did not answer in time"),
            Self::UpstreamInvalid => (S::BAD_GATEWAY, "upstream_invalid", "The service's answer cannot be sent on"),
        }
    }

    /// Its stable name for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The status it is answered with.
    #[must_use]
    pub fn status(self) -> StatusCode {
        self.row().0
    }

    fn of(error: &GatewayError) -> Self {
        match error {
            GatewayError::Admit(AdmitError::Method) => Self::MethodNotServed,
            GatewayError::Admit(AdmitError::Target) => Self::InvalidTarget,
            GatewayError::Admit(AdmitError::Path) => Self::InvalidPath,
            GatewayError::Admit(AdmitError::Host) => Self::InvalidHost,
            GatewayError::Admit(AdmitError::Coding) => Self::UnknownCoding,
            GatewayError::Admit(AdmitError::Expectation) => Self::UnknownExpectation,
            GatewayError::Admit(AdmitError::Upgrade) => Self::InvalidHandshake,
            GatewayError::Admit(AdmitError::SocketVersion) => Self::SocketVersion,
            GatewayError::Route(
                RouteError::SessionId | RouteError::Service | RouteError::Action,
            ) => Self::NotFound,
            GatewayError::Guard(GuardError::Host) => Self::HostNotServed,
            GatewayError::Guard(GuardError::CrossSite) => Self::CrossSite,
            GatewayError::Method(_) => Self::MethodNotAllowed,
            GatewayError::Activate(
                ActivateError::NotReady(_, phase) | ActivateError::Held(_, phase, _),
                ..,
            ) => Self::while_not_ready(phase),
            GatewayError::Activate(ActivateError::Crowded(..), ..) => Self::TooManyWaiting,
            GatewayError::Activate(ActivateError::Look(..), ..) | GatewayError::Stop(..) => {
                Self::SpawnerUnavailable
            }
            GatewayError::Upstream(UpstreamError::Connect(..)) => Self::UpstreamUnreachable,
            GatewayError::Upstream(UpstreamError::Send(..)) => Self::UpstreamBroke,
            GatewayError::Upstream(UpstreamError::Silent(..)) => Self::UpstreamSilent,
            GatewayError::Upstream(UpstreamError::Unfit(..)) => Self::UpstreamInvalid,
        }
    }

    fn while_not_ready(phase: &Phase) -> Self {
        match phase {
            Phase::Idle(Found::Absent | Found::Stopped | Found::Vanished) => Self::SessionStopped,
            Phase::Starting { .. } | Phase::Running => Self::SessionStarting,
            Phase::Failed(_) => Self::SessionFailed,
            Phase::Ending => Self::SessionStopping,
        }
    }
}

impl Asker {
    /// Reads off a request how its sender is to be answered, before anything is known to be right about it.
    pub(super) fn of(request: &Request<Incoming>, services: &Services) -> Self {
        let route = Route::parse(services, request.uri().path()).ok();
        let service = if let Some(Route::Service { service, .. }) = route {
            Some(service)
        } else {
            None
        };
        let text = |name| {
            request
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        let page = match text("sec-fetch-mode") {
            "" => text(header::ACCEPT.as_str()).contains("text/html"),
            mode => mode == "navigate",
        };
        Self {
            page,
            session: route.map(|route| route.session()),
            service,
            id: Uuid::new_v4(),
        }
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
pub(super) fn answer(error: &GatewayError, asker: &Asker, services: &Services) -> Response<Body> {
    let code = Code::of(error);
    log(error, code, asker);
    let mut response = if asker.page {
        page(error, code, asker, services)
    } else {
        problem(error, code, asker)
    };
    *response.status_mut() = code.status();
    let headers = response.headers_mut();
    if let Some(after) = retry_after(error) {
        headers.insert(header::RETRY_AFTER, after.as_secs().max(1).into());
    }
    match error {
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
        | GatewayError::Upstream(_) => {}
    }
    response
}

/// A page of our own, with what a browser must know of it.
pub(super) fn html(asker: &Asker, write: impl FnOnce(Frame<'_>) -> String) -> Response<Body> {
    let nonce = Uuid::new_v4().simple().to_string();
    let page = write(Frame {
        nonce: &nonce,
        request_id: &asker.id.to_string(),
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
    let id = HeaderValue::try_from(asker.id.to_string()).expect("a UUID is ASCII");
    headers.insert(REQUEST_ID, id);
    response
}

/// The page for a person.
fn page(error: &GatewayError, code: Code, asker: &Asker, services: &Services) -> Response<Body> {
    use ActivateError::{Held, NotReady};
    html(asker, |frame| match error {
        GatewayError::Activate(NotReady(id, phase) | Held(id, phase, _), service, form) => {
            let service = services.spec(*service).name.as_str();
            match phase {
                Phase::Idle(found) => pages::stopped(frame, *id, service, *found, *form),
                Phase::Failed(failure) => {
                    let retry_in = failure.retry_at.saturating_duration_since(Instant::now());
                    pages::failed(frame, *id, service, &failure.reason, retry_in)
                }
                Phase::Starting { .. } | Phase::Ending | Phase::Running => {
                    pages::waiting(frame, *id, service, phase)
                }
            }
        }
        GatewayError::Route(_) => pages::not_found(frame),
        GatewayError::Admit(_)
        | GatewayError::Guard(_)
        | GatewayError::Method(_)
        | GatewayError::Activate(ActivateError::Crowded(..) | ActivateError::Look(..), ..)
        | GatewayError::Stop(..)
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
        Code::TooManyWaiting | Code::SpawnerUnavailable => "Try again in a moment.",
        Code::UpstreamUnreachable
        | Code::UpstreamBroke
        | Code::UpstreamSilent
        | Code::UpstreamInvalid => {
            "Reload the page; if it stays, look at the service's own output."
        }
        Code::MethodNotServed
        | Code::InvalidTarget
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
        | GatewayError::Stop(..) => error.to_string(),
    };
    let problem = Problem {
        kind: format!("urn:session-gateway:problem:{name}"),
        title,
        status: status.as_u16(),
        detail,
        code: name,
        session: asker.session.map(|id| id.to_string()),
        reason,
        request_id: asker.id.to_string(),
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
        | GatewayError::Stop(..) => Some(SOON),
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
        asker.id,
        code.name(),
        asker.session.map(tracing::field::display),
    );
    match error {
        GatewayError::Upstream(_)
        | GatewayError::Stop(..)
        | GatewayError::Activate(ActivateError::Look(..), ..) => {
            warn!(%request, code, session, error = causes, "request failed");
        }
        GatewayError::Admit(_)
        | GatewayError::Route(_)
        | GatewayError::Guard(_)
        | GatewayError::Method(_)
        | GatewayError::Activate(..) => {
            debug!(%request, code, session, error = causes, "request not forwarded")
        }
    }
}
