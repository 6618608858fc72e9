//! May this request pass: under which name it comes, from which page, and what its sender may do.

use std::net::IpAddr;

use http::{HeaderMap, Method, header, request::Parts};

use super::{
    config::{Embedders, GatewayConfig},
    headers::{Admitted, Names, Public, SEC_FETCH_DEST, SEC_FETCH_MODE, SEC_FETCH_SITE, origin_is},
};
use crate::session::{Grant, Route};

/// Checks every request, on every transport, before anything is looked up for it.
pub(super) struct Guard {
    hosts: Hosts,
    embedders: Embedders,
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
    pub(super) fn new(config: &GatewayConfig) -> Self {
        Self {
            hosts: Hosts::new(&config.hosts, config.listen.ip()),
            embedders: config.embedders.clone(),
        }
    }

    /// Lets a request pass with what its sender may do.
    ///
    /// # Errors
    /// If it comes under a name that is not ours, or from a page that must not ask.
    pub(super) fn check(
        &self,
        head: &Parts,
        admitted: &Admitted,
        route: &Route<'_>,
    ) -> Result<Grant, GuardError> {
        if !self.hosts.serve(admitted.public.host()) {
            return Err(GuardError::Host);
        }
        let names = admitted.names;
        if (names.has(Names::SITE) || names.has(Names::ORIGIN))
            && is_cross_site(head, &admitted.public)
            && !self.embedders.may_ask(head, route)
        {
            return Err(GuardError::CrossSite);
        }
        Ok(Grant { spawn: true })
    }
}

impl Hosts {
    fn new(hosts: &[String], listen: IpAddr) -> Self {
        match (hosts, listen.is_loopback()) {
            ([], true) => Self::Loopback,
            ([], false) => Self::Any,
            (names, _) => Self::Named(names.to_vec()),
        }
    }

    fn serve(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Loopback => is_loopback(name(host)),
            Self::Named(names) => {
                let name = name(host);
                names.iter().any(|one| one.eq_ignore_ascii_case(name))
            }
        }
    }
}

/// A host without its port and without the brackets of an IPv6 address.
fn name(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        return address;
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

fn is_loopback(name: &str) -> bool {
    const LOCALHOST: &str = "localhost";
    let (before, end) = name
        .split_at_checked(name.len().wrapping_sub(LOCALHOST.len()))
        .unwrap_or(("", ""));
    let named = end.eq_ignore_ascii_case(LOCALHOST) && (before.is_empty() || before.ends_with('.'));
    named
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Whether a page of another origin made the request. A link that a person follows is none: a `GET` that navigates a
/// whole tab. Sibling hosts are other sites here, although browsers send them cookies (Fetch Metadata, section 2.2).
fn is_cross_site(head: &Parts, public: &Public) -> bool {
    let headers = &head.headers;
    if let Some(site) = headers.get(SEC_FETCH_SITE) {
        let follows_link = head.method == Method::GET
            && headers
                .get(SEC_FETCH_MODE)
                .is_some_and(|mode| mode == "navigate")
            && headers
                .get(SEC_FETCH_DEST)
                .is_none_or(|dest| dest == "document");
        if site != "same-origin" && site != "none" && !follows_link {
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
        !origin_is(origin, public.host()) || (public.secure && !origin.starts_with(b"https:"))
    })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use http::Request;

    use super::*;
    use crate::session::SessionId;

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
            public: Public::new(host.try_into().unwrap(), false).unwrap(),
            upgrade: None,
            names: Names::of(&head.headers),
        };
        let guard = Guard {
            hosts: Hosts::new(&hosts, listen.ip()),
            embedders: Embedders::default(),
        };
        let route = Route::Page(SessionId::random());
        guard.check(&head, &admitted, &route).map(|_| ())
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
