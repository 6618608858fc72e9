//! May this request pass: under which name it comes, from which page, and what its sender may do.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, Method, header, request::Parts};

use super::headers::{Admitted, Public, origin_is};
use crate::session::Grant;

/// Checks every request, on every transport, before anything is looked up for it.
pub(super) struct Guard {
    hosts: Hosts,
}

/// Under which names clients may come.
enum Hosts {
    Any,
    /// `localhost` and loopback addresses: what a page of another site cannot make a browser believe of its own name.
    Loopback,
    Named(Vec<String>),
}

/// Why a request may not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum GuardError {
    /// The name in `Host` is none of ours (RFC 9110 section 7.4).
    #[error("this gateway does not serve the host the request names")]
    Host,
    /// It was made by a page of another origin, and is not a person following a link.
    #[error("the request was made by a page of another site")]
    CrossSite,
}

impl Guard {
    pub(super) fn new(hosts: &[String], listen: IpAddr) -> Self {
        let hosts = match (hosts, listen.is_loopback()) {
            ([], true) => Hosts::Loopback,
            ([], false) => Hosts::Any,
            (names, _) => Hosts::Named(names.to_vec()),
        };
        Self { hosts }
    }

    /// Lets a request pass with what its sender may do.
    ///
    /// # Errors
    /// If it comes under a name that is not ours, or from a page that must not ask.
    pub(super) fn check(&self, head: &Parts, admitted: &Admitted) -> Result<Grant, GuardError> {
        if !self.hosts.serve(&admitted.public.host) {
            return Err(GuardError::Host);
        }
        if is_cross_site(head, &admitted.public) {
            return Err(GuardError::CrossSite);
        }
        Ok(Grant { spawn: true })
    }
}

impl Hosts {
    fn serve(&self, host: &str) -> bool {
        let name = host.parse::<SocketAddr>().map_or_else(
            |_| {
                host.rsplit_once(':')
                    .filter(|_| !host.ends_with(']'))
                    .map_or(host, |(name, _)| name)
                    .to_owned()
            },
            |address| address.ip().to_string(),
        );
        let name = name
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_ascii_lowercase();
        match self {
            Self::Any => true,
            Self::Loopback => {
                name == "localhost"
                    || name.ends_with(".localhost")
                    || name
                        .parse::<IpAddr>()
                        .is_ok_and(|address| address.is_loopback())
            }
            Self::Named(names) => names.contains(&name),
        }
    }
}

/// Whether a page of another origin made the request. A link that a person follows is none: a `GET` that navigates a
/// whole tab. Sibling hosts are other sites here, although browsers send them cookies (Fetch Metadata, section 2.2).
fn is_cross_site(head: &Parts, public: &Public) -> bool {
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        let follows_link = head.method == Method::GET
            && text("sec-fetch-mode") == Some("navigate")
            && text("sec-fetch-dest").is_none_or(|dest| dest == "document");
        if !matches!(site, "same-origin" | "none") && !follows_link {
            return true;
        }
    }
    foreign_origin(&head.headers, public)
}

/// Browsers name the origin of a websocket's page, of every form and of every script that reads the answer; programs
/// do not. `null` is a page that hides where it is from. An encrypted gateway's pages are encrypted; of a plain one's
/// that cannot be told, since a proxy that is not known to be trusted may encrypt for it.
fn foreign_origin(headers: &HeaderMap, public: &Public) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).into_iter();
    origins.any(|origin| {
        let origin = origin.as_bytes();
        !origin_is(origin, &public.host) || (public.secure && !origin.starts_with(b"https:"))
    })
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn passes(
        listen: &str,
        hosts: &[&str],
        method: &str,
        headers: &[(&str, &str)],
    ) -> Result<(), GuardError> {
        let hosts: Vec<_> = hosts.iter().map(|&host| host.to_owned()).collect();
        let listen: SocketAddr = listen.parse().unwrap();
        let mut request = Request::builder().method(method).uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let host = headers
            .iter()
            .find(|(name, _)| *name == "host")
            .map_or("localhost:8000", |(_, host)| host);
        let admitted = Admitted {
            public: Public {
                host: host.to_owned(),
                secure: false,
            },
            upgrade: None,
        };
        Guard::new(&hosts, listen.ip())
            .check(&head, &admitted)
            .map(|_| ())
    }

    #[test]
    fn a_loopback_listener_serves_loopback_names_only() {
        for (host, expected) in [
            ("localhost", Ok(())),
            ("LOCALHOST:8000", Ok(())),
            ("app.localhost:8000", Ok(())),
            ("127.0.0.1:8000", Ok(())),
            ("127.8.0.1", Ok(())),
            ("[::1]:8000", Ok(())),
            ("[::1]", Ok(())),
            ("evil.test", Err(GuardError::Host)),
            ("127.0.0.1.evil.test", Err(GuardError::Host)),
            ("192.0.2.1:8000", Err(GuardError::Host)),
        ] {
            assert_eq!(
                passes("127.0.0.1:8000", &[], "GET", &[("host", host)]),
                expected,
                "{host}"
            );
            assert_eq!(
                passes("0.0.0.0:8000", &[], "GET", &[("host", host)]),
                Ok(()),
                "{host}"
            );
        }
        let named = |host| passes("127.0.0.1:8000", &["gw.test"], "GET", &[("host", host)]);
        assert_eq!(
            (named("GW.test:80"), named("localhost")),
            (Ok(()), Err(GuardError::Host))
        );
    }

    #[test]
    fn pages_of_other_sites_may_link_here_and_nothing_else() {
        const REFUSED: Result<(), GuardError> = Err(GuardError::CrossSite);
        let navigate = [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        let frame = [navigate[0], navigate[1], ("sec-fetch-dest", "iframe")];
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], Result<(), GuardError>);
        let table: &[Row<'_>] = &[
            ("GET", &[], Ok(())),
            ("POST", &[], Ok(())),
            ("GET", &navigate, Ok(())),
            ("POST", &navigate, REFUSED),
            ("GET", &frame, REFUSED),
            (
                "GET",
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "no-cors"),
                ],
                REFUSED,
            ),
            (
                "GET",
                &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "cors")],
                REFUSED,
            ),
            (
                "POST",
                &[
                    ("sec-fetch-site", "same-origin"),
                    ("origin", "http://localhost:8000"),
                ],
                Ok(()),
            ),
            ("GET", &[("origin", "http://localhost:8000")], Ok(())),
            ("GET", &[("origin", "http://localhost:3000")], REFUSED),
            ("GET", &[("origin", "null")], REFUSED),
            ("POST", &[("origin", "http://evil.test")], REFUSED),
        ];
        for (method, headers, expected) in table {
            assert_eq!(
                passes("127.0.0.1:8000", &[], method, headers),
                *expected,
                "{method} {headers:?}"
            );
        }
    }
}
