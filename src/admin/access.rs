//! Who may ask: programs that have the token where there is one; without one no page of another site.

use std::{io, net::IpAddr, path::Path, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use subtle::ConstantTimeEq;

use super::problem::Problem;

/// What is told to everybody: probes of clusters and collectors of figures know no token.
const OPEN: [&str; 3] = ["/livez", "/readyz", "/metrics"];
/// The shortest token that is taken: what is shorter can be guessed.
const SHORTEST: usize = 16;
/// What the dashboard's own script says of itself. A page of another site cannot say it unless it is allowed to first
/// (Fetch standard, section 3.2), and nobody is.
pub(super) const DASHBOARD: &str = "session-gateway-dashboard";

/// The token of `admin.token_file`, if there is one.
#[derive(Clone, Default)]
pub(super) struct Access(Option<Arc<str>>);

/// Why the file is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("{0} cannot be read")]
    Read(String, #[source] io::Error),
    /// It is no token that could be sent, or one that could be guessed.
    #[error("{0} has to be one line of at least {SHORTEST} visible characters, without spaces")]
    Form(String),
}

impl Access {
    /// Reads the token, if the path is not empty. Blocks.
    pub(super) fn read(file: &Path) -> Result<Self, TokenError> {
        if file.as_os_str().is_empty() {
            return Ok(Self(None));
        }
        let path = file.display().to_string();
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) => return Err(TokenError::Read(path, error)),
        };
        let token = text.trim();
        let is_one = token.len() >= SHORTEST && token.bytes().all(|byte| byte.is_ascii_graphic());
        if is_one {
            Ok(Self(Some(token.into())))
        } else {
            Err(TokenError::Form(path))
        }
    }

    fn admits(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), Problem> {
        let is_open = OPEN.contains(&path);
        match &self.0 {
            _ if is_open => {}
            // The dashboard itself is the same for everybody, and asks for the token.
            Some(_) if !path.starts_with("/api/") => {}
            // No page has it that was not given it, so it does not matter where the request is from.
            Some(token) if given(headers).is_some_and(|given| is_same(given, token)) => {
                return Ok(());
            }
            Some(_) => return Err(Problem::token()),
            None => {}
        }
        if is_by_page(method, headers) {
            return Err(Problem::page());
        }
        Ok(())
    }
}

/// Lets a request through to the API, or says why not.
pub(super) async fn admit(State(access): State<Access>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if let Err(problem) = access.admits(request.method(), path, request.headers()) {
        return problem.into_response();
    }
    next.run(request).await
}

/// The token of a request (RFC 6750, section 2.1).
fn given(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_start_matches(' '))
}

/// How much of it is right cannot be told by the time it takes.
fn is_same(given: &str, token: &str) -> bool {
    given.as_bytes().ct_eq(token.as_bytes()).into()
}

/// Whether a page of a browser sends this that has no business here: what changes something, unless it is our own
/// dashboard, and everything under a name that a page may have rebound to this address.
fn is_by_page(method: &Method, headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST.as_str()).unwrap_or_default();
    let name = host
        .rsplit_once(':')
        .filter(|_| !host.ends_with(']'))
        .map_or(host, |(name, _)| name);
    let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    // A name without a dot is one of this machine or of the cluster it is in.
    let is_ours =
        is_address || !name.contains('.') || name.ends_with(".svc") || name.ends_with(".local");
    let (origin, site) = (text("origin"), text("sec-fetch-site"));
    let is_sent_by_page = origin.is_some() || site.is_some_and(|site| site != "none");
    // The port is part of an origin: pages of sessions, which have another one, are none of it.
    let is_own = headers.contains_key(DASHBOARD)
        && site.is_none_or(|site| site == "same-origin")
        && origin.and_then(|origin| origin.strip_prefix("http://")) == Some(host);
    !is_ours || (method != Method::GET && is_sent_by_page && !is_own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn the_dashboard_may_act_and_no_other_page() {
        let own = [
            ("host", "127.0.0.1:8001"),
            ("origin", "http://127.0.0.1:8001"),
            ("sec-fetch-site", "same-origin"),
            (DASHBOARD, "1"),
        ];
        let access = Access::default();
        let asks = |pairs: &[(&'static str, &'static str)]| {
            access.admits(&Method::POST, "/api/sessions/x/stop", &headers(pairs))
        };
        assert!(asks(&own).is_ok());
        for (name, value) in [
            ("origin", "http://127.0.0.1:8000"),
            ("origin", "http://localhost:8001"),
            ("origin", "https://127.0.0.1:8001"),
            ("origin", "null"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "cross-site"),
            ("host", "rebound.example:8001"),
        ] {
            let mut pairs = own;
            for pair in &mut pairs {
                if pair.0 == name {
                    pair.1 = value;
                }
            }
            assert!(asks(&pairs).is_err(), "{name}: {value}");
        }
        assert!(asks(&own[..3]).is_err(), "without its own header");
        let rebound = [
            ("host", "rebound.example:8001"),
            ("origin", "http://rebound.example:8001"),
            ("sec-fetch-site", "same-origin"),
            (DASHBOARD, "1"),
        ];
        assert!(asks(&rebound).is_err());
    }

    #[test]
    fn a_token_is_asked_for_except_where_there_is_nothing_to_hide() {
        let access = Access(Some("0123456789abcdef".into()));
        let asks = |path: &str, pairs: &[(&'static str, &'static str)]| {
            let host = [&[("host", "127.0.0.1:8001")], pairs].concat();
            access.admits(&Method::GET, path, &headers(&host)).is_ok()
        };
        for path in ["/livez", "/readyz", "/metrics", "/", "/openapi.json"] {
            assert!(asks(path, &[]), "{path}");
        }
        for (authorization, is_let_in) in [
            ("Bearer 0123456789abcdef", true),
            ("bearer  0123456789abcdef", true),
            ("Bearer 0123456789abcdeF", false),
            ("Bearer 0123456789abcde", false),
            ("Bearer 0123456789abcdef0", false),
            ("Bearer", false),
            ("Basic 0123456789abcdef", false),
        ] {
            let asked = asks("/api/sessions", &[("authorization", authorization)]);
            assert_eq!(asked, is_let_in, "{authorization}");
        }
        assert!(!asks("/api/sessions", &[]));
    }

    #[test]
    fn a_file_without_a_token_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        assert!(matches!(Access::read(&file), Err(TokenError::Read(..))));
        for (text, is_one) in [
            ("0123456789abcdef\n", true),
            ("", false),
            ("short\n", false),
            ("0123456789 abcdef", false),
            ("0123456789\nabcdef", false),
            ("0123456789äbcdef", false),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(Access::read(&file).is_ok(), is_one, "{text:?}");
        }
    }
}
