//! Answers to programs: problem documents.
#![deny(clippy::wildcard_enum_match_arm)]

use http::Response;
use serde::Serialize;

use super::{Asker, Code, json};
use crate::{
    activator::{ActivateError, KeepError},
    gateway::{GatewayError, body::Body},
    session::{Phase, Reason},
};

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
    /// What would help.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<&'static str>,
}

pub(super) fn problem(error: &GatewayError, code: Code, asker: &Asker) -> Response<Body> {
    let reason = failure(error).map(|failure| ProblemReason {
        code: failure.code(),
        message: failure.to_string(),
        output: failure.detail(),
        advice: if let Reason::Limited(limit) = failure {
            Some(limit.advice())
        } else {
            None
        },
    });
    let (status, name, title) = code.row();
    let detail = match error {
        GatewayError::Activate(error, ..) => error.to_string(),
        // What failed on the service's side is for the log: it may name addresses.
        GatewayError::Upstream(_) => title.to_owned(),
        GatewayError::Head(_)
        | GatewayError::Admit(_)
        | GatewayError::Route(_)
        | GatewayError::Guard(_)
        | GatewayError::Method(_)
        | GatewayError::Busy(_)
        | GatewayError::Stop(..)
        | GatewayError::Keep(_)
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
        GatewayError::Activate(ActivateError::Limited(_, reason), ..) => Some(reason),
        GatewayError::Activate(ActivateError::Look(_, error), ..)
        | GatewayError::Stop(_, error)
        | GatewayError::Keep(KeepError::Spawner(_, error)) => Some(&error.reason),
        GatewayError::Head(_)
        | GatewayError::Admit(_)
        | GatewayError::Route(_)
        | GatewayError::Guard(_)
        | GatewayError::Method(_)
        | GatewayError::Activate(ActivateError::Crowded(..), ..)
        | GatewayError::Keep(KeepError::Aged(..))
        | GatewayError::Tunnels(_)
        | GatewayError::Busy(_)
        | GatewayError::Upstream(_) => None,
    }
}
