//! The form of the gateway's own answers: what each kind of them has around its content.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use serde::Serialize;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::Asker;
use crate::{
    gateway::{body::Body, config::Embedders},
    pages::Frame,
};

/// The name under which a request id is sent.
const REQUEST_ID: &str = "x-request-id";

/// A page of our own, with what a browser must know of it.
pub(in crate::gateway) fn html(
    asker: &Asker,
    embedders: &Embedders,
    write: impl FnOnce(Frame<'_>) -> String,
) -> Response<Body> {
    let nonce = Uuid::new_v4().simple().to_string();
    let page = write(Frame {
        nonce: &nonce,
        request_id: &asker.id().to_string(),
    });
    let mut response = own(asker, "text/html; charset=utf-8", page);
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; \
         form-action 'self'; frame-ancestors {}; base-uri 'none'",
        embedders.ancestors()
    );
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::try_from(policy).expect("hex digits and origins are ASCII"),
    );
    // The forms' answers go back to the page they were on.
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("same-origin"),
    );
    response
}

/// A document for programs.
pub(in crate::gateway) fn json(
    asker: &Asker,
    content_type: &'static str,
    document: &impl Serialize,
) -> Response<Body> {
    let text = serde_json::to_vec(document).expect("a document of strings and numbers is JSON");
    own(asker, content_type, text)
}

/// Events, as control tells them.
pub(in crate::gateway) fn events(asker: &Asker, told: mpsc::Receiver<Bytes>) -> Response<Body> {
    let mut response = own(asker, "text/event-stream", "");
    // As long as it lasts.
    response.headers_mut().remove(header::CONTENT_LENGTH);
    // nginx keeps an answer back until it has a buffer full.
    let headers = response.headers_mut();
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response.map(|_| Body::Told(told))
}

/// Lets a page of one of these sites read the answer.
pub(in crate::gateway) fn shared(
    mut response: Response<Body>,
    embedders: &Embedders,
    asked: &Parts,
) -> Response<Body> {
    if embedders.is_empty() {
        return response;
    }
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = embedders.origin(&asked.headers) {
        let origin = HeaderValue::try_from(origin).expect("an origin is ASCII");
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    response
}

/// A redirect to an address below the same host.
pub(in crate::gateway) fn redirect(
    asker: &Asker,
    status: StatusCode,
    location: HeaderValue,
) -> Response<Body> {
    let mut response = own(asker, "text/plain; charset=utf-8", "");
    *response.status_mut() = status;
    response.headers_mut().insert(header::LOCATION, location);
    response
}

fn own(asker: &Asker, content_type: &'static str, content: impl Into<Bytes>) -> Response<Body> {
    let content = content.into();
    let mut response = Response::new(Body::own(Bytes::new()));
    let headers = response.headers_mut();
    if asker.head {
        // Of HTTP/2 hyper would send the content after it (RFC 9110 section 9.3.2).
        headers.insert(header::CONTENT_LENGTH, content.len().into());
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    let id = HeaderValue::try_from(asker.id().to_string()).expect("a UUID is ASCII");
    headers.insert(REQUEST_ID, id);
    if asker.head {
        response
    } else {
        response.map(|_| Body::own(content))
    }
}
