//! Clients that come, shake hands, ask once and leave: each of them new, so that nothing is resumed.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::{
    client::Asked,
    poll::{Poll, field, head_end, now, would_block},
    times::Times,
};

/// Believes everything, since that costs nothing: who the other end is was looked at before.
#[derive(Debug)]
struct Credulous;

struct Conn {
    stream: TcpStream,
    tls: ClientConnection,
    answer: Vec<u8>,
    since: u64,
}

struct Load<'a> {
    asked: &'a Asked,
    config: Arc<ClientConfig>,
    poll: Poll,
    issued: u64,
    times: Times,
}

pub fn run(asked: &Asked) {
    let mut load = Load {
        asked,
        config: config(),
        poll: Poll::new(),
        issued: 0,
        times: Times::begin(),
    };
    let mut conns: Vec<_> = (0..asked.connections)
        .map(|token| load.connect(token))
        .collect();
    let (mut ready, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    while load.times.done() < asked.count {
        load.poll.wait(Some(Duration::from_secs(10)), &mut ready);
        assert!(!ready.is_empty(), "nothing came for ten seconds");
        for token in ready.drain(..) {
            let Some(conn) = conns[token].as_mut() else {
                continue;
            };
            if conn.turn(&mut buffer) {
                load.times.took(conn.since);
                conns[token] = load.connect(token);
            }
        }
    }
    load.times.report();
}

/// One cipher and one key exchange, so that each proxy does the same.
fn config() -> Arc<ClientConfig> {
    let provider = CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("TLS 1.3 has this cipher")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

impl Load<'_> {
    /// The next client, with its request ready; `None` once there were enough.
    fn connect(&mut self, token: usize) -> Option<Conn> {
        if self.issued == self.asked.count {
            return None;
        }
        self.issued += 1;
        let since = now();
        let stream = TcpStream::connect(&self.asked.to).expect("the proxy listens");
        stream.set_nonblocking(true).expect("a socket");
        let _ = stream.set_nodelay(true);
        self.poll.add(&stream, token);
        let name = ServerName::try_from("localhost").expect("a name");
        let mut tls = ClientConnection::new(Arc::clone(&self.config), name).expect("a client");
        let request = self.asked.request();
        tls.writer().write_all(&request).expect("it is kept");
        let mut conn = Conn {
            stream,
            tls,
            answer: Vec::new(),
            since,
        };
        conn.send();
        Some(conn)
    }
}

impl Conn {
    /// Reads what is there and answers it. Returns whether the whole answer has come.
    fn turn(&mut self, buffer: &mut [u8]) -> bool {
        match self.tls.read_tls(&mut self.stream) {
            Ok(0) => panic!("closed by the proxy before it answered"),
            Ok(_) => {}
            Err(error) if would_block(&error) => return false,
            Err(error) => panic!("reading: {error}"),
        }
        let state = self.tls.process_new_packets().expect("TLS");
        let mut left = state.plaintext_bytes_to_read();
        while left > 0 {
            let count = self.tls.reader().read(buffer).expect("it has come");
            self.answer.extend_from_slice(&buffer[..count]);
            left -= count;
        }
        let over = self.is_answered();
        if over {
            assert_eq!(self.tls.handshake_kind(), Some(HandshakeKind::Full));
            self.tls.send_close_notify();
        }
        self.send();
        over
    }

    fn is_answered(&self) -> bool {
        let Some(end) = head_end(&self.answer) else {
            return false;
        };
        let head = &self.answer[..end];
        assert!(head.starts_with(b"HTTP/1.1 200"), "answered otherwise");
        let length = field(head, "content-length").and_then(|length| length.parse().ok());
        self.answer.len() == end + length.unwrap_or(0_usize)
    }

    fn send(&mut self) {
        while self.tls.wants_write() {
            self.tls
                .write_tls(&mut self.stream)
                .expect("little is sent");
        }
    }
}
