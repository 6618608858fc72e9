//! What the admin API answers when it cannot do as asked: problem documents (RFC 9457).

use axum::{
    Json,
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use uuid::Uuid;

use crate::{activator::SpawnError, session::SessionIdError};

/// A problem document.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    code: &'static str,
    request_id: Uuid,
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
        let detail = "the admin API has /livez, /readyz, /metrics and /api/sessions".to_owned();
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "There is nothing at this address",
            detail,
        )
    }

    pub(super) fn method() -> Self {
        let detail = "sessions are read with GET, and started and stopped with POST".to_owned();
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "This method is not served here",
            detail,
        )
    }

    pub(super) fn limit() -> Self {
        let detail = "limit must be a number from 1 to 1000, after the id of a session".to_owned();
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid_query",
            "The query is not valid",
            detail,
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

    pub(super) fn spawner(error: &SpawnError) -> Self {
        let detail = match error.reason.detail() {
            Some(said) => format!("{error}: {said}"),
            None => error.to_string(),
        };
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            error.reason.code(),
            "The sessions cannot be reached",
            detail,
        )
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
        (status, headers, Json(self)).into_response()
    }
}
