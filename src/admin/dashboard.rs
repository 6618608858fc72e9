//! The dashboard: a page for operators' browsers, which asks the API as any client does. It holds no secret itself.

use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
    response::IntoResponse,
    routing::{MethodRouter, get},
};

/// What the page may load: itself. It makes no markup of text, and is not let to.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

const PAGE: &str = include_str!("dashboard/page.html");
const SCRIPT: &str = include_str!("dashboard/script.js");
const ROWS: &str = include_str!("dashboard/rows.js");
/// The look of all our pages, and what the dashboard has beside them.
const STYLE: &str = concat!(
    include_str!("../pages/style.css"),
    include_str!("dashboard/look.css")
);

/// The page and what it loads.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", file("text/html; charset=utf-8", PAGE))
        .route(
            "/dashboard/script.js",
            file("text/javascript; charset=utf-8", SCRIPT),
        )
        .route(
            "/dashboard/rows.js",
            file("text/javascript; charset=utf-8", ROWS),
        )
        .route(
            "/dashboard/look.css",
            file("text/css; charset=utf-8", STYLE),
        )
}

fn file<S: Clone + Send + Sync + 'static>(
    kind: &'static str,
    content: &'static str,
) -> MethodRouter<S> {
    let headers: [(HeaderName, HeaderValue); 6] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        // A newer program is seen at once.
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
            HeaderValue::from_static("no-referrer"),
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            HeaderValue::from_static("same-origin"),
        ),
    ];
    get(move || async move { (headers, content).into_response() })
}
