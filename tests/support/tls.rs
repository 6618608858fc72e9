//! Certificates of the test's own, and clients that trust them.

use std::{io, net::SocketAddr, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName},
    version::{TLS12, TLS13},
};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Versions of TLS that a client offers.
pub type Versions<'a> = &'a [&'static SupportedProtocolVersion];

/// A folder with a certificate for `localhost`, and who trusts it.
pub struct Localhost {
    folder: TempDir,
    pub trusted: CertificateDer<'static>,
}

impl Localhost {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let trusted = certificate(folder.path(), "localhost");
        Self { folder, trusted }
    }

    /// Where the files are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The settings of a gateway with this certificate.
    pub fn settings(&self) -> [String; 2] {
        settings(self.folder(), "localhost", "a")
    }

    /// A client that speaks these protocols and any version of TLS.
    pub fn client(&self, alpn: &str) -> Arc<ClientConfig> {
        Arc::new(client(&[&self.trusted], &[&TLS12, &TLS13], &[alpn]))
    }
}

/// A certificate that signs itself, and its key.
pub struct Pair {
    name: String,
    pub certificate: CertificateDer<'static>,
    /// Both in PEM.
    pub text: String,
    pub key: String,
}

/// Writes a new pair for a name, over the one that was there; returns the certificate.
pub fn certificate(folder: &Path, name: &str) -> CertificateDer<'static> {
    let pair = Pair::new(name);
    pair.write(folder);
    pair.certificate
}

impl Pair {
    pub fn new(name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a pair");
        Self {
            name: name.to_owned(),
            certificate: made.cert.der().clone(),
            key: made.signing_key.serialize_pem(),
            text: made.cert.pem(),
        }
    }

    /// Writes it, over the one that was there.
    pub fn write(&self, folder: &Path) {
        put(&folder.join(format!("{}.key", self.name)), &self.key);
        put(&folder.join(format!("{}.crt", self.name)), &self.text);
    }
}

/// Puts a file in the place of another, so that nobody reads half of it.
pub fn put(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).expect("the folder is ours");
    std::fs::rename(new, file).expect("the folder is ours");
}

/// The settings for the pair of a name, under a key of its own.
pub fn settings(folder: &Path, name: &str, key: &str) -> [String; 2] {
    let file = |end| folder.join(format!("{name}.{end}")).display().to_string();
    [
        format!("tls.certificates.{key}.certificate={}", file("crt")),
        format!("tls.certificates.{key}.key={}", file("key")),
    ]
}

/// A client that trusts these certificates alone.
pub fn client(
    trusted: &[&CertificateDer<'static>],
    versions: Versions<'_>,
    alpn: &[&str],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for one in trusted {
        roots.add((*one).clone()).expect("a certificate");
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions that there are")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|one| one.as_bytes().to_vec()).collect();
    config
}

/// A new connection, after its handshake.
pub async fn connect(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    name: &'static str,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name).expect("a name");
    let connector = TlsConnector::from(Arc::clone(config));
    connector.connect(name, stream).await
}
