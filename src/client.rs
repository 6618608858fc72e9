//! The one HTTP client for side calls: few, small, on control. A deadline, a size cap, no redirects, no pool.

use std::{io, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, Uri, header, uri::Scheme};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// How long a whole call may take. What answers is close by; a stop waits for processes to end.
const DEADLINE: Duration = Duration::from_secs(30);
/// The largest answer that is read: a list of ten thousand sessions has 4 MiB.
const LARGEST: usize = 8 * 1024 * 1024;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is no `http://` URL with a host.
    #[error("{0} is no address that can be called: http://HOST:PORT/ is expected")]
    Address(Uri),
    /// Nothing answers there.
    #[error("cannot connect to {0}")]
    Connect(Uri, #[source] io::Error),
    /// It broke off.
    #[error("{0} broke off")]
    Broke(Uri, #[source] hyper::Error),
    /// Its answer is too large or broke off.
    #[error("the answer of {0} cannot be read")]
    Answer(Uri, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// It took too long.
    #[error("{0} did not answer within {time}", time = humantime::format_duration(DEADLINE))]
    Late(Uri),
}

/// Calls addresses of our own side.
#[derive(Debug, Clone, Copy, Default)]
pub struct Client;

impl Client {
    /// A client. It keeps nothing.
    #[must_use]
    pub fn new() -> Self {
        Self
    }

    /// Sends a request, with a JSON body unless that is empty, and reads the answer, at most 30 s and 8 MiB.
    ///
    /// # Errors
    /// If there is no answer; any status is one.
    pub async fn call(
        &self,
        method: Method,
        url: &Uri,
        body: Bytes,
    ) -> Result<Response<Bytes>, ClientError> {
        // Boxed: side calls are rare, and their futures large.
        let call = Box::pin(exchange(method, url, body));
        timeout(DEADLINE, call)
            .await
            .unwrap_or_else(|_| Err(ClientError::Late(url.clone())))
    }
}

async fn exchange(method: Method, url: &Uri, body: Bytes) -> Result<Response<Bytes>, ClientError> {
    let authority = url
        .authority()
        .filter(|_| url.scheme() == Some(&Scheme::HTTP));
    let authority = authority.ok_or_else(|| ClientError::Address(url.clone()))?;
    let address = (
        authority.host().trim_matches(['[', ']']),
        authority.port_u16().unwrap_or(80),
    );
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| ClientError::Connect(url.clone(), error))?;
    let broke = |error| ClientError::Broke(url.clone(), error);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broke)?;
    let mut request = Request::builder()
        .method(method)
        .uri(
            url.path_and_query()
                .map_or("/", http::uri::PathAndQuery::as_str),
        )
        .header(header::HOST, authority.as_str())
        .header(header::ACCEPT, "application/json");
    if !body.is_empty() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let request = request
        .body(Full::new(body))
        .map_err(|_| ClientError::Address(url.clone()))?;
    let answer = async {
        let (head, body) = sender
            .send_request(request)
            .await
            .map_err(broke)?
            .into_parts();
        let body = Limited::new(body, LARGEST).collect().await;
        let body = body
            .map_err(|error| ClientError::Answer(url.clone(), error))?
            .to_bytes();
        Ok(Response::from_parts(head, body))
    };
    // The connection is driven beside the call, in no task of its own: nothing outlives it.
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = answer.as_mut() => answer,
        _ = connection.as_mut() => answer.await,
    }
}
