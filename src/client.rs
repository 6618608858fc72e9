//! The one HTTP client for side calls: few, small, on control. A deadline, a size cap, no redirects, no pool.

use std::{
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, Uri, header, uri::Authority};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// How long a whole call may take. What answers is close by; a stop waits for processes to end.
const DEADLINE: Duration = Duration::from_secs(30);
/// The largest answer that is read: a list of ten thousand sessions has 4 MiB.
const LARGEST: usize = 8 * 1024 * 1024;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is no URL with a host, of a scheme that is spoken.
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
    #[error("{0} did not answer within {time}", time = humantime::format_duration(*.1))]
    Late(Uri, Duration),
    /// The authorities to be trusted cannot be read.
    #[error("the authorities in {} cannot be read", .0.display())]
    Authorities(PathBuf, #[source] io::Error),
}

/// Calls addresses of our own side.
#[derive(Debug, Clone)]
pub struct Client {
    deadline: Duration,
    largest: usize,
    tls: Option<Arc<ClientConfig>>,
    token: Option<HeaderValue>,
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Client {
    /// A client for calls of at most 30 s and 8 MiB. It keeps nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::within(DEADLINE, LARGEST)
    }

    /// A client for calls that may take so long, and answers that may be so large.
    #[must_use]
    pub fn within(deadline: Duration, largest: usize) -> Self {
        Self {
            deadline,
            largest,
            tls: None,
            token: None,
        }
    }

    /// The same with a token in every call (RFC 6750, section 2.1). `None` if it cannot be sent.
    #[must_use]
    pub fn with_token(self, token: &str) -> Option<Self> {
        let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
        value.set_sensitive(true);
        Some(Self {
            token: Some(value),
            ..self
        })
    }

    /// The same for `https` too, trusting the authorities of this file, in PEM. Blocks for a moment.
    ///
    /// # Errors
    /// If it has none that can be used.
    pub fn trusting(self, authorities: &Path) -> Result<Self, ClientError> {
        let unusable = |error: io::Error| ClientError::Authorities(authorities.to_owned(), error);
        let text = std::fs::read(authorities).map_err(unusable)?;
        let mut roots = RootCertStore::empty();
        let found = CertificateDer::pem_slice_iter(&text).flatten();
        let (usable, _) = roots.add_parsable_certificates(found);
        if usable == 0 {
            let none = io::Error::new(io::ErrorKind::InvalidData, "no certificate in it");
            return Err(unusable(none));
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(io::Error::other(error)))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            tls: Some(Arc::new(config)),
            ..self
        })
    }

    /// Sends a request, with a JSON body unless that is empty, and reads the answer.
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
        let call = Box::pin(self.exchange(method, url, body));
        timeout(self.deadline, call)
            .await
            .unwrap_or_else(|_| Err(ClientError::Late(url.clone(), self.deadline)))
    }

    async fn exchange(
        &self,
        method: Method,
        url: &Uri,
        body: Bytes,
    ) -> Result<Response<Bytes>, ClientError> {
        let wrong = || ClientError::Address(url.clone());
        let authority = url.authority().ok_or_else(wrong)?;
        let (port, tls) = match (url.scheme_str(), &self.tls) {
            (Some("http"), _) => (80, None),
            (Some("https"), Some(tls)) => (443, Some(Arc::clone(tls))),
            _ => return Err(wrong()),
        };
        let host = authority.host().trim_matches(['[', ']']);
        let failed = |error| ClientError::Connect(url.clone(), error);
        let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(port)));
        let stream = stream.await.map_err(failed)?;
        let Some(tls) = tls else {
            return self.over(stream, (method, url, authority), body).await;
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|_| wrong())?;
        let stream = TlsConnector::from(tls).connect(name, stream);
        let stream = stream.await.map_err(failed)?;
        Box::pin(self.over(stream, (method, url, authority), body)).await
    }

    async fn over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        (method, url, authority): (Method, &Uri, &Authority),
        body: Bytes,
    ) -> Result<Response<Bytes>, ClientError> {
        let broke = |error| ClientError::Broke(url.clone(), error);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broke)?;
        let request = self.request((method, url, authority), body)?;
        let answer = async {
            let (head, body) = sender
                .send_request(request)
                .await
                .map_err(broke)?
                .into_parts();
            let body = Limited::new(body, self.largest).collect().await;
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

    fn request(
        &self,
        (method, url, authority): (Method, &Uri, &Authority),
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
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
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token);
        }
        request
            .body(Full::new(body))
            .map_err(|_| ClientError::Address(url.clone()))
    }

    /// Reads an answer that does not end by itself, and hands on each piece of it as it comes, until `each` has enough.
    /// Returns the head, and for a status that is no success the whole body as well. Plain HTTP alone.
    ///
    /// # Errors
    /// If there is no answer, or nothing more of it for as long as a call may take.
    pub async fn follow(
        &self,
        url: &Uri,
        each: &mut (dyn FnMut(&[u8]) -> ControlFlow<()> + Send),
    ) -> Result<Response<Bytes>, ClientError> {
        let late = |_| ClientError::Late(url.clone(), self.deadline);
        let broke = |error| ClientError::Broke(url.clone(), error);
        let wrong = || ClientError::Address(url.clone());
        let authority = url.authority().ok_or_else(wrong)?;
        let host = authority.host().trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80)));
        let stream = timeout(self.deadline, stream).await.map_err(late)?;
        let stream = stream.map_err(|error| ClientError::Connect(url.clone(), error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broke)?;
        let request = self.request((Method::GET, url, authority), Bytes::new())?;
        let answer = async {
            let head = timeout(self.deadline, sender.send_request(request)).await;
            let (head, mut body) = head.map_err(late)?.map_err(broke)?.into_parts();
            if !head.status.is_success() {
                let body = Limited::new(body, self.largest).collect().await;
                let body = body.map_err(|error| ClientError::Answer(url.clone(), error))?;
                return Ok(Response::from_parts(head, body.to_bytes()));
            }
            while let Some(frame) = timeout(self.deadline, body.frame()).await.map_err(late)? {
                let frame = frame.map_err(broke)?;
                let piece = frame.data_ref();
                if piece.is_some_and(|piece| each(piece).is_break()) {
                    break;
                }
            }
            Ok(Response::from_parts(head, Bytes::new()))
        };
        let mut connection = std::pin::pin!(connection);
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            answer = answer.as_mut() => answer,
            _ = connection.as_mut() => answer.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::{ServerConfig, pki_types::PrivateKeyDer};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };
    use tokio_rustls::TlsAcceptor;

    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

    fn certificate() -> (ServerConfig, tempfile::NamedTempFile) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(cert.pem().as_bytes()).unwrap();
        (server, file)
    }

    /// Says the answer to everyone who shakes hands.
    async fn serve(listener: TcpListener, config: ServerConfig) -> ! {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut head = [0; 1024];
            assert!(stream.read(&mut head).await.unwrap() > 0);
            stream.write_all(ANSWER).await.unwrap();
        }
    }

    async fn call(authorities: &Path, url: &Uri) -> Result<Response<Bytes>, ClientError> {
        let client = Client::new().trusting(authorities).unwrap();
        client.call(Method::GET, url, Bytes::new()).await
    }

    #[tokio::test]
    async fn https_is_spoken_with_those_only_whom_the_authorities_vouch_for() {
        let ((server, trusted), (_, other)) = (certificate(), certificate());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let named: Uri = format!("https://localhost:{port}/").parse().unwrap();
        let unnamed: Uri = format!("https://127.0.0.1:{port}/").parse().unwrap();
        let calls = async {
            let answer = call(trusted.path(), &named).await.unwrap();
            assert_eq!(answer.body(), "ok");
            for (authorities, url) in [(&other, &named), (&trusted, &unnamed)] {
                let refused = call(authorities.path(), url).await;
                assert!(
                    matches!(refused, Err(ClientError::Connect(..))),
                    "{url}: {refused:?}"
                );
            }
        };
        tokio::select! {
            _ = serve(listener, server) => unreachable!("it serves for ever"),
            () = calls => {}
        }
        let plain = Client::new();
        let plain = plain.call(Method::GET, &named, Bytes::new()).await;
        assert!(matches!(plain, Err(ClientError::Address(_))));
        let empty = tempfile::NamedTempFile::new().unwrap();
        assert!(Client::new().trusting(empty.path()).is_err());
    }
}
