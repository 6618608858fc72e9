//! What the admin API answers when it cannot do as asked: problem documents (RFC 9457).

use axum::{
    Json,
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};
use uuid::Uuid;

use crate::{
    activator::{KeepError, SpawnError},
    session::{Reason, SessionIdError},
};

/// A problem document (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// Its code as a URN.
    #[serde(rename = "type")]
    kind: String,
    /// As a person reads it.
    title: &'static str,
    /// The status of the answer.
    status: u16,
    /// What is wrong with this very request.
    detail: String,
    /// Its stable name for programs.
    code: &'static str,
    /// By which the answer is found in logs.
    #[schema(value_type = String, format = "uuid")]
    request_id: Uuid,
}

/// What every call may answer instead.
#[expect(dead_code, reason = "the API's description alone is made of it")]
#[derive(IntoResponses)]
pub(super) enum Refused {
    /// The id or the query is not valid
    #[response(status = 400, content_type = "application/problem+json")]
    Request(Problem),
    /// The token is missing or wrong
    #[response(status = 401, content_type = "application/problem+json")]
    Token(Problem),
    /// A page of a browser sent it
    #[response(status = 403, content_type = "application/problem+json")]
    Page(Problem),
    /// The platform knows no such project
    #[response(status = 404, content_type = "application/problem+json")]
    Project(Problem),
    /// What runs sessions cannot be reached, or refuses
    #[response(status = 503, content_type = "application/problem+json")]
    Spawner(Problem),
}

/// What a call that keeps a session may answer as well.
#[expect(dead_code, reason = "the API's description alone is made of it")]
#[derive(IntoResponses)]
pub(super) enum Aged {
    /// It will be stopped because of its age, and nothing takes that back
    #[response(status = 409, content_type = "application/problem+json")]
    Session(Problem),
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, title: &'static str, detail: String) -> Self {
        let kind = format!("urn:session-gateway:problem:{code}");
        Self {
            kind,
            title,
            status: status.as_u16(),
            detail,
            code,
            request_id: Uuid::new_v4(),
        }
    }

    pub(super) fn not_found() -> Self {
        let detail = "the admin API is described at /openapi.json".to_owned();
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "There is nothing at this address",
            detail,
        )
    }

    pub(super) fn method() -> Self {
        let detail = "sessions are read with GET, started, kept and stopped with POST, and deleted with DELETE";
        let detail = detail.to_owned();
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "This method is not served here",
            detail,
        )
    }

    pub(super) fn query(error: &str) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid_query",
            "The query is not valid",
            error.to_owned(),
        )
    }

    pub(super) fn crowded(most: usize) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too_many_watchers",
            "Too many watch already",
            format!("{most} watch the sessions of this gateway, as many as may"),
        )
    }

    pub(super) fn token() -> Self {
        let detail = "the token of admin.token_file is needed, as Authorization: Bearer TOKEN";
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "The token is missing or wrong",
            detail.to_owned(),
        )
    }

    pub(super) fn page() -> Self {
        let detail = "the admin API is for programs, under the address it listens on".to_owned();
        Self::new(
            StatusCode::FORBIDDEN,
            "cross_site",
            "Pages of browsers are not served",
            detail,
        )
    }

    pub(super) fn id(error: &SessionIdError) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid_id",
            "This is no session id",
            error.to_string(),
        )
    }

    pub(super) fn keep(error: &KeepError) -> Self {
        match error {
            KeepError::Spawner(_, error) => Self::spawner(error),
            KeepError::Aged(..) => Self::new(
                StatusCode::CONFLICT,
                "max_age_reached",
                "The session has run for as long as it may",
                error.to_string(),
            ),
        }
    }

    pub(super) fn spawner(error: &SpawnError) -> Self {
        let detail = match error.reason.detail() {
            Some(said) => format!("{error}: {said}"),
            None => error.to_string(),
        };
        let (status, title) = match *error.reason {
            Reason::NoProject => (StatusCode::NOT_FOUND, "There is no such project"),
            _ => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The sessions cannot be reached",
            ),
        };
        Self::new(status, error.reason.code(), title, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).expect("it was made of a status");
        let headers = [
            (header::CONTENT_TYPE, "application/problem+json".to_owned()),
            (
                HeaderName::from_static("x-request-id"),
                self.request_id.to_string(),
            ),
        ];
        let asks =
            (status == StatusCode::UNAUTHORIZED).then_some([(header::WWW_AUTHENTICATE, "Bearer")]);
        (status, headers, asks, Json(self)).into_response()
    }
}
