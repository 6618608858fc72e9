//! A client.

use bytes::Bytes;
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as Legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// A client.
#[derive(Debug)]
pub struct Client(Legacy<HttpConnector, Full<Bytes>>);

/// No answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not sent.
    #[error("no answer")]
    Send(#[source] hyper_util::client::legacy::Error),
    /// Not read.
    #[error("the answer broke off")]
    Body(#[source] hyper::Error),
    /// No request.
    #[error("no request")]
    Request(#[source] http::Error),
}

impl Client {
    /// A new one.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "minimal")]
    pub fn new() -> Self {
        Self(Legacy::builder(TokioExecutor::new()).build_http())
    }

    /// Sends a request.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn call(
        &self,
        method: Method,
        url: &Uri,
        body: Bytes,
    ) -> Result<Response<Bytes>, ClientError> {
        let request = Request::builder()
            .method(method)
            .uri(url)
            .body(Full::new(body))
            .map_err(ClientError::Request)?;
        let response = self.0.request(request).await.map_err(ClientError::Send)?;
        let (parts, body) = response.into_parts();
        Ok(Response::from_parts(
            parts,
            body.collect().await.map_err(ClientError::Body)?.to_bytes(),
        ))
    }
}
