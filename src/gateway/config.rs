//! The part of the configuration that says who may come, and where.

use std::net::SocketAddr;
use std::num::NonZero;

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
    /// Parts of the user agents that only look, in lower case (`spawn.link_previews`).
    pub link_previews: Vec<String>,
    /// Whether everybody who reaches `listen` may do everything (`auth.none_is_fine`).
    pub none_is_fine: bool,
}

impl GatewayConfig {
    /// Reads it from the whole configuration.
    #[must_use]
    pub fn read(root: &mut Section<'_>) -> Self {
        let config = Self {
            listen: root.address("listen"),
            workers: match root.integer("workers", 0..=1024) {
                0 => std::thread::available_parallelism().map_or(1, NonZero::get),
                workers => workers,
            },
            hosts: lower_case(root.strings("hosts")),
            link_previews: root
                .section("spawn", |spawn| lower_case(spawn.strings("link_previews")))
                .unwrap_or_default(),
            none_is_fine: root
                .section("auth", |auth| auth.bool("none_is_fine"))
                .unwrap_or_default(),
        };
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
        config
    }
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
