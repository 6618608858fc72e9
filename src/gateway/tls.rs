//! TLS of the listener: certificates by the host that is asked for, taken up anew when their files change.
//!
//! One configuration lives as long as the process, so tickets go on across a reload and no connection is touched.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    ServerConfig,
    client::verify_server_name,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::time::sleep;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{info, warn};

use super::{
    config::{CertificateFiles, TlsConfig},
    io::Socket,
};
use crate::shutdown::{Drain, Stage};

/// What connections are encrypted with.
pub struct Tls {
    config: TlsConfig,
    acceptor: TlsAcceptor,
    certificates: Arc<Certificates>,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Its file cannot be read.
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] std::io::Error),
    /// Its file holds no certificates in PEM.
    #[error("{0} holds no certificate in PEM")]
    Certificate(PathBuf),
    /// Its key's file holds none.
    #[error("{0} holds no private key in PEM")]
    Key(PathBuf),
    /// They do not belong together, or the key is of a kind that is not served.
    #[error("the key {1} is not the one of the certificate {0}, or of an unknown kind")]
    Pair(PathBuf, PathBuf, #[source] rustls::Error),
    /// The library refuses what it is given.
    #[error("TLS cannot be set up")]
    Setup(#[from] rustls::Error),
}

/// The certificates at present, in the order of the configuration.
struct Certificates(RwLock<Vec<Arc<CertifiedKey>>>);

impl Tls {
    /// Reads the certificates. `None` if there are none to be read: then the listener speaks no TLS.
    ///
    /// # Errors
    /// If one of them cannot be used.
    pub fn open(config: &TlsConfig) -> Result<Option<Arc<Self>>, TlsError> {
        if config.certificates.is_empty() {
            return Ok(None);
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let pairs = config
            .certificates
            .iter()
            .map(|files| load(files, &provider))
            .collect::<Result<Vec<_>, _>>()?;
        let certificates = Arc::new(Certificates(RwLock::new(pairs)));
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificates) as _);
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Without it, sessions would be kept in one map behind a lock. Early data stays off: who repeats it would
        // start sessions.
        server.ticketer = aws_lc_rs::Ticketer::new()?;
        Ok(Some(Arc::new(Self {
            config: config.clone(),
            acceptor: TlsAcceptor::from(Arc::new(server)),
            certificates,
        })))
    }

    /// Shakes hands; the flag tells whether HTTP/2 was agreed on. The deadline is the caller's.
    pub(super) async fn accept(
        &self,
        stream: Socket,
    ) -> std::io::Result<(Box<TlsStream<Socket>>, bool)> {
        let stream = Box::new(self.acceptor.accept(stream).await?);
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok((stream, http2))
    }

    /// Looks at the files again and again, until the process drains. A pair that cannot be used is said once, and the
    /// one before it stays. Contents are compared, since a mounted secret changes by a symbolic link.
    pub async fn follow(self: Arc<Self>, drain: Drain) {
        let mut said = vec![String::new(); self.config.certificates.len()];
        loop {
            tokio::select! {
                () = sleep(self.config.reload) => {}
                () = drain.reached(Stage::Draining) => return,
            }
            for (at, said) in said.iter_mut().enumerate() {
                let files = self.config.certificates[at].clone();
                let provider = aws_lc_rs::default_provider();
                let loaded = drain.spawn_blocking(move || load(&files, &provider)).await;
                let Ok(loaded) = loaded else { return };
                self.take_up(at, loaded, said);
            }
        }
    }

    fn take_up(&self, at: usize, loaded: Result<Arc<CertifiedKey>, TlsError>, said: &mut String) {
        let file = self.config.certificates[at].certificate.display();
        match loaded {
            Ok(pair) => {
                said.clear();
                let mut pairs = self
                    .certificates
                    .0
                    .write()
                    .unwrap_or_else(PoisonError::into_inner);
                if pairs[at].cert != pair.cert {
                    pairs[at] = pair;
                    info!(%file, "certificate taken up");
                }
            }
            Err(error) => {
                let text = error.to_string();
                if *said != text {
                    warn!(%error, "certificate not taken up: the one before it stays");
                    *said = text;
                }
            }
        }
    }
}

fn load(
    files: &CertificateFiles,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let (certificate, key) = (&files.certificate, &files.key);
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(certificate)?)
        .collect::<Result<_, _>>()
        .map_err(|_| TlsError::Certificate(certificate.clone()))?;
    if chain.is_empty() {
        return Err(TlsError::Certificate(certificate.clone()));
    }
    let secret =
        PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| TlsError::Key(key.clone()))?;
    // Compares the key with the certificate too.
    CertifiedKey::from_der(chain, secret, provider)
        .map(Arc::new)
        .map_err(|error| TlsError::Pair(certificate.clone(), key.clone(), error))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::Read(path.to_owned(), error))
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello
            .server_name()
            .and_then(|name| ServerName::try_from(name).ok());
        let pairs = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let is_for = |pair: &&Arc<CertifiedKey>| {
            let certificate = pair
                .cert
                .first()
                .and_then(|one| ParsedCertificate::try_from(one).ok());
            let (Some(certificate), Some(name)) = (certificate, &name) else {
                return false;
            };
            verify_server_name(&certificate, name).is_ok()
        };
        pairs.iter().find(is_for).or(pairs.first()).cloned()
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificates")
    }
}
