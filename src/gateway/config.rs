//! The part of the configuration that says who may come, and where.

mod embedders;
mod limits;

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZero,
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;

pub use embedders::Embedders;
pub use limits::{Limits, Timeouts};

use crate::settings::Section;

/// Where clients connect, and which of them are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayConfig {
    /// Where clients connect (`listen`).
    pub listen: SocketAddr,
    /// How many threads carry bytes: one at least (`workers`).
    pub workers: usize,
    /// Names under which clients may come, in lower case; empty: see `hosts` in the defaults.
    pub hosts: Vec<String>,
    /// Sites that may show sessions inside frames of their own pages (`embedders`).
    pub embedders: Embedders,
    /// Parts of the user agents that only look, in lower case (`spawn.link_previews`).
    pub link_previews: Vec<String>,
    /// Whether everybody who reaches `listen` may do everything (`auth.none_is_fine`).
    pub none_is_fine: bool,
    /// Networks whose word of a client is believed (`trusted_proxies`).
    pub trusted_proxies: Vec<IpNet>,
    /// Whether connections begin with a header of the PROXY protocol (`proxy_protocol`).
    pub proxy_protocol: bool,
    /// Certificates, and how often they are looked at (`tls`).
    pub tls: TlsConfig,
    /// How much anybody may take (`limits`).
    pub limits: Limits,
    /// How long each step may take (`timeouts`).
    pub timeouts: Timeouts,
}

/// The certificates of the listener; none: it speaks no TLS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsConfig {
    /// The first is for names that no other is for (`tls.certificates`).
    pub certificates: Vec<CertificateFiles>,
    /// How often the files are looked at (`tls.reload`).
    pub reload: Duration,
}

/// A certificate with its chain and its private key, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, the own certificate first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl GatewayConfig {
    /// Reads it from the whole configuration. `None` if a section is none.
    #[must_use]
    pub fn read(root: &mut Section<'_>) -> Option<Self> {
        let config = Self {
            listen: root.address("listen"),
            workers: match root.integer("workers", 0..=1024) {
                0 => std::thread::available_parallelism().map_or(1, NonZero::get),
                workers => workers,
            },
            hosts: lower_case(root.strings("hosts")),
            embedders: Embedders::read(root),
            link_previews: root
                .section("spawn", |spawn| lower_case(spawn.strings("link_previews")))
                .unwrap_or_default(),
            none_is_fine: root
                .section("auth", |auth| auth.bool("none_is_fine"))
                .unwrap_or_default(),
            trusted_proxies: networks(root, "trusted_proxies"),
            proxy_protocol: root.bool("proxy_protocol"),
            tls: root.section("tls", TlsConfig::read)?,
            limits: root.section("limits", Limits::read)?,
            timeouts: root.section("timeouts", Timeouts::read)?,
        };
        let nobody = config.proxy_protocol && config.trusted_proxies.is_empty();
        root.check(&["proxy_protocol", "trusted_proxies"], !nobody, || {
            "nobody may connect: a header of the PROXY protocol is taken from trusted_proxies alone, and there are none"
                .to_owned()
        });
        let open = !config.listen.ip().is_loopback() && !config.none_is_fine;
        root.check(&["listen", "auth.none_is_fine"], !open, || {
            format!(
                "other machines may reach {}, and nobody is asked who they are: whoever comes runs commands in every \
                 session. Listen on 127.0.0.1, or set auth.none_is_fine to true if that is fine",
                config.listen
            )
        });
        for host in &config.hosts {
            root.check(&["hosts"], is_host(host), || {
                format!("expected names without scheme, port and path, such as dev.example.com; found {host:?}")
            });
        }
        for part in &config.link_previews {
            root.check(&["spawn.link_previews"], !part.trim().is_empty(), || {
                "an empty string is part of every user agent; expected a name such as Slackbot"
                    .to_owned()
            });
        }
        Some(config)
    }
}

impl TlsConfig {
    fn read(section: &mut Section<'_>) -> Self {
        Self {
            certificates: section.sections("certificates", |_, files| CertificateFiles {
                certificate: files.string("certificate").into(),
                key: files.string("key").into(),
            }),
            reload: section.timeout("reload"),
        }
    }
}

/// Networks, or single addresses.
fn networks(root: &mut Section<'_>, key: &str) -> Vec<IpNet> {
    let texts = root.strings(key);
    let parsed = texts.iter().filter_map(|text| {
        let network = text.parse().ok();
        let network = network.or_else(|| text.parse().ok().map(|address: IpAddr| address.into()));
        root.check(&[key], network.is_some(), || {
            format!("expected networks or addresses, such as 10.0.0.0/8; found {text:?}")
        });
        network
    });
    parsed.collect()
}

fn lower_case(names: Vec<String>) -> Vec<String> {
    names
        .into_iter()
        .map(|name| name.to_ascii_lowercase())
        .collect()
}

/// Whether it can be a `Host` without a port: a name, an IPv4 address, or an IPv6 address in brackets.
fn is_host(host: &str) -> bool {
    let v6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match v6 {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let label = |label: &str| {
                (1..=63).contains(&label.len())
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            };
            host.len() <= 253 && host.split('.').all(label)
        }
    }
}
