//! What the services' answers share: embedded files, JSON errors, links between the services.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Json, Response},
    routing::{MethodRouter, get},
};
use serde_json::json;

use super::Environment;

/// The look of all built-in services, before the style sheet of each.
pub(super) const LOOK: &str = include_str!("look.css");

pub(super) const HTML: &str = "text/html; charset=utf-8";
pub(super) const CSS: &str = "text/css; charset=utf-8";
pub(super) const SCRIPT: &str = "text/javascript; charset=utf-8";

/// What our pages may load: themselves. Workspace files are served without it, they are the user's.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' \
                      data:; base-uri 'none'; form-action 'self'; frame-ancestors 'self'";

/// A route that answers with a file of the program.
pub(super) fn asset<S: Clone + Send + Sync + 'static>(
    kind: &'static str,
    content: String,
) -> MethodRouter<S> {
    get(move || {
        let content = content.clone();
        async move { document(StatusCode::OK, kind, content) }
    })
}

/// An answer that is asked for anew each time, so that a newer program is seen at once.
pub(super) fn document(status: StatusCode, kind: &'static str, content: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(POLICY),
        ),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (
            header::REFERRER_POLICY,
            HeaderValue::from_static("same-origin"),
        ),
    ];
    (status, headers, content).into_response()
}

/// An error for a script: `{"error": "..."}`.
pub(super) fn problem(status: StatusCode, error: &str) -> Response {
    (
        status,
        [(header::CACHE_CONTROL, "no-store")],
        Json(json!({ "error": error })),
    )
        .into_response()
}

/// Links to the other services of the session, as far as it has them.
pub(super) fn links(environment: &Environment) -> String {
    let all = [
        ("Preview", &environment.preview),
        ("Chat", &environment.chat),
        ("Editor", &environment.vscode),
    ];
    let others = all
        .into_iter()
        .filter_map(|(name, path)| Some((name, path.as_deref()?)));
    others
        .filter(|(_, path)| *path != environment.base_path)
        .map(|(name, path)| format!("<a href=\"{path}/\">{name}</a>"))
        .collect()
}

/// Text as HTML shows it, in elements and in quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
