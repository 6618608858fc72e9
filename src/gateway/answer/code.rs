//! The closed list of codes, and the one place that picks a code, and with it a status, for a failure.
#![deny(clippy::wildcard_enum_match_arm)]

use http::StatusCode;

use crate::{
    activator::{ActivateError, KeepError},
    gateway::{
        GatewayError, connection::HeadError, guard::GuardError, headers::AdmitError,
        upstream::UpstreamError,
    },
    session::{Found, Phase, Reason, RouteError},
};

/// What a program can tell the gateway's own answers apart by. The closed list of README "Problem codes".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// 405: the method is not served at all.
    MethodNotServed,
    /// 400: what came is no request.
    InvalidHead,
    /// 431: the head of the request is too long.
    HeadTooLong,
    /// 400: the request target is no path.
    InvalidTarget,
    /// 400: the request's body is malformed.
    InvalidBody,
    /// 408: the request's body does not come.
    BodyTimeout,
    /// 503: the session has as many requests in flight as it may have.
    TooManyRequests,
    /// 414: the request target is too long.
    TargetTooLong,
    /// 431: the request has too many header fields.
    TooManyFields,
    /// 508: the request went through this gateway again and again.
    LoopDetected,
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
    /// 404: the platform knows no such project.
    NoSuchProject,
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
    /// 409: the session has run for as long as it may, and cannot be kept from being stopped.
    MaxAgeReached,
    /// 503: there may be no more sessions for now, or no more that wait to be started.
    TooManySessions,
    /// 429: as many sessions were started within a minute as may be.
    TooManyStarts,
    /// 503: as many requests as may be wait for the session already.
    TooManyWaiting,
    /// 503: the session has as many websockets as it may.
    TooManySockets,
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

impl Code {
    /// Every code.
    pub const ALL: [Self; 35] = [
        Self::MethodNotServed,
        Self::InvalidHead,
        Self::HeadTooLong,
        Self::InvalidTarget,
        Self::InvalidBody,
        Self::BodyTimeout,
        Self::TooManyRequests,
        Self::TargetTooLong,
        Self::TooManyFields,
        Self::LoopDetected,
        Self::InvalidPath,
        Self::InvalidHost,
        Self::UnknownCoding,
        Self::UnknownExpectation,
        Self::InvalidHandshake,
        Self::SocketVersion,
        Self::NotFound,
        Self::NoSuchProject,
        Self::HostNotServed,
        Self::CrossSite,
        Self::MethodNotAllowed,
        Self::SessionStopped,
        Self::SessionStarting,
        Self::SessionFailed,
        Self::SessionStopping,
        Self::MaxAgeReached,
        Self::TooManySessions,
        Self::TooManyStarts,
        Self::TooManyWaiting,
        Self::TooManySockets,
        Self::SpawnerUnavailable,
        Self::UpstreamUnreachable,
        Self::UpstreamBroke,
        Self::UpstreamSilent,
        Self::UpstreamInvalid,
    ];

    /// Their names for programs, by their numbers.
    pub const NAMES: [&'static str; Self::ALL.len()] = {
        let mut names = [""; Self::ALL.len()];
        let mut at = 0;
        while at < names.len() {
            names[Self::ALL[at] as usize] = Self::ALL[at].row().1;
            at += 1;
        }
        names
    };

    /// The status, the name for programs, and the sentence for people.
    #[rustfmt::skip]
    pub(super) const fn row(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::MethodNotServed => (S::METHOD_NOT_ALLOWED, "method_not_served", "This method is not served"),
            Self::InvalidHead => (S::BAD_REQUEST, "invalid_head", "This is no valid request"),
            Self::HeadTooLong => (S::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_long", "The head of the request is too long"),
            Self::InvalidTarget => (S::BAD_REQUEST, "invalid_target", "The request target is not a path"),
            Self::InvalidBody => (S::BAD_REQUEST, "invalid_body", "The body of the request is not valid"),
            Self::BodyTimeout => (S::REQUEST_TIMEOUT, "body_timeout", "The body of the request did not come in time"),
            Self::TooManyRequests => (S::SERVICE_UNAVAILABLE, "too_many_requests", "Too many requests of this session are in flight"),
            Self::TargetTooLong => (S::URI_TOO_LONG, "target_too_long", "The address is too long"),
            Self::TooManyFields => (S::REQUEST_HEADER_FIELDS_TOO_LARGE, "too_many_fields", "The request has too many header fields"),
            Self::LoopDetected => (S::LOOP_DETECTED, "loop_detected", "The request goes round in a circle"),
            Self::InvalidPath => (S::BAD_REQUEST, "invalid_path", "The path is not valid"),
            Self::InvalidHost => (S::BAD_REQUEST, "invalid_host", "The Host header is not valid"),
            Self::UnknownCoding => (S::NOT_IMPLEMENTED, "unknown_coding", "This transfer coding is not served"),
            Self::UnknownExpectation => (S::EXPECTATION_FAILED, "unknown_expectation", "This expectation cannot be met"),
            Self::InvalidHandshake => (S::BAD_REQUEST, "invalid_handshake", "The websocket handshake is not valid"),
            Self::SocketVersion => (S::UPGRADE_REQUIRED, "socket_version", "Of websocket versions only 13 is served"),
            Self::NotFound => (S::NOT_FOUND, "not_found", "There is nothing at this address"),
            Self::NoSuchProject => (S::NOT_FOUND, "no_such_project", "There is no such project"),
            Self::HostNotServed => (S::MISDIRECTED_REQUEST, "host_not_served", "This host is not served here"),
            Self::CrossSite => (S::FORBIDDEN, "cross_site", "A page of another site may not ask for this"),
            Self::MethodNotAllowed => (S::METHOD_NOT_ALLOWED, "method_not_allowed", "This address does not serve this method"),
            Self::SessionStopped => (S::SERVICE_UNAVAILABLE, "session_stopped", "The session is not running"),
            Self::SessionStarting => (S::SERVICE_UNAVAILABLE, "session_starting", "The session is starting"),
            Self::SessionFailed => (S::SERVICE_UNAVAILABLE, "session_failed", "The session did not start"),
            Self::SessionStopping => (S::SERVICE_UNAVAILABLE, "session_stopping", "The session is being stopped"),
            Self::MaxAgeReached => (S::CONFLICT, "max_age_reached", "The session has run for as long as it may"),
            Self::TooManySessions => (S::SERVICE_UNAVAILABLE, "too_many_sessions", "There may be no more sessions for now"),
            Self::TooManyStarts => (S::TOO_MANY_REQUESTS, "too_many_starts", "Too many sessions were started within a minute"),
            Self::TooManyWaiting => (S::SERVICE_UNAVAILABLE, "too_many_waiting", "Too many requests wait for this session"),
            Self::TooManySockets => (S::SERVICE_UNAVAILABLE, "too_many_sockets", "Too many websockets of this session are open"),
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

    pub(super) fn of(error: &GatewayError) -> Self {
        match error {
            GatewayError::Head(HeadError::Long(_)) => Self::HeadTooLong,
            GatewayError::Head(HeadError::Fields) => Self::TooManyFields,
            GatewayError::Head(
                HeadError::Parse(_) | HeadError::Target | HeadError::Length | HeadError::Coding,
            ) => Self::InvalidHead,
            GatewayError::Admit(AdmitError::Method) => Self::MethodNotServed,
            GatewayError::Admit(AdmitError::Target) => Self::InvalidTarget,
            GatewayError::Admit(AdmitError::TargetLength) => Self::TargetTooLong,
            GatewayError::Admit(AdmitError::Fields) => Self::TooManyFields,
            GatewayError::Admit(AdmitError::Loop) => Self::LoopDetected,
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
            GatewayError::Activate(ActivateError::Limited(_, reason), ..) => Self::failed(reason),
            GatewayError::Tunnels(_) => Self::TooManySockets,
            GatewayError::Activate(ActivateError::Look(_, error), ..)
                if *error.reason == Reason::NoProject =>
            {
                Self::NoSuchProject
            }
            GatewayError::Keep(KeepError::Aged(..)) => Self::MaxAgeReached,
            GatewayError::Activate(ActivateError::Look(..), ..)
            | GatewayError::Stop(..)
            | GatewayError::Keep(KeepError::Spawner(..)) => Self::SpawnerUnavailable,
            GatewayError::Upstream(UpstreamError::Connect(..)) => Self::UpstreamUnreachable,
            GatewayError::Busy(_) => Self::TooManyRequests,
            GatewayError::Upstream(UpstreamError::Stalled(_)) => Self::BodyTimeout,
            GatewayError::Upstream(UpstreamError::Broken(..)) => Self::InvalidBody,
            GatewayError::Upstream(UpstreamError::Send(..)) => Self::UpstreamBroke,
            GatewayError::Upstream(UpstreamError::Silent(..)) => Self::UpstreamSilent,
            GatewayError::Upstream(UpstreamError::Unfit(..)) => Self::UpstreamInvalid,
        }
    }

    fn while_not_ready(phase: &Phase) -> Self {
        match phase {
            Phase::Idle(Found::Absent | Found::Stopped | Found::Vanished) => Self::SessionStopped,
            Phase::Starting { .. } | Phase::Running => Self::SessionStarting,
            Phase::Failed(failure) => Self::failed(&failure.reason),
            Phase::Ending => Self::SessionStopping,
        }
    }

    /// Of a session that is not started, or does not run, for this reason.
    fn failed(reason: &Reason) -> Self {
        if *reason == Reason::NoProject {
            return Self::NoSuchProject;
        }
        let Reason::Limited(limit) = reason else {
            return Self::SessionFailed;
        };
        if limit.is_rate() {
            Self::TooManyStarts
        } else {
            Self::TooManySessions
        }
    }
}
