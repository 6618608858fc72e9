//! Which requests a service refuses before it looks at them: those that a foreign web page makes.

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};

use super::page;

/// Refuses requests that reached our own port under a foreign name.
///
/// Behind the gateway the Host header never names this port; by hand it is a loopback name. A name of somebody else
/// with our port is a page whose DNS was pointed at this machine.
pub(super) fn own_port(router: Router, port: u16) -> Router {
    router.layer(middleware::from_fn_with_state(port, refuse_rebound))
}

async fn refuse_rebound(State(port): State<u16>, request: Request, next: Next) -> Response {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    if host.is_some_and(|host| is_rebound(host, port)) {
        let said = "This port answers to localhost and 127.0.0.1 only.\n";
        return (StatusCode::MISDIRECTED_REQUEST, said).into_response();
    }
    next.run(request).await
}

fn is_rebound(host: &str, port: u16) -> bool {
    let Some((name, named)) = host.rsplit_once(':') else {
        return false;
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    // An address cannot be pointed elsewhere: whoever typed it, the page came from this very service.
    let safe =
        name.eq_ignore_ascii_case("localhost") || address.parse::<std::net::IpAddr>().is_ok();
    named.parse() == Ok(port) && !safe
}

/// Refuses requests made by pages of another origin. For everything that changes something, and for websockets.
pub(super) async fn same_origin(request: Request, next: Next) -> Response {
    if is_foreign(request.headers()) {
        return page::problem(StatusCode::FORBIDDEN, "requests of other sites are refused");
    }
    next.run(request).await
}

fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if text("sec-fetch-site").is_some_and(|site| site != "same-origin") {
        return true;
    }
    let Some(origin) = text("origin") else {
        return false;
    };
    let Some((_, from)) = origin.split_once("://") else {
        return true;
    };
    let ours = [text("host"), text("x-forwarded-host")];
    !ours
        .into_iter()
        .flatten()
        .any(|host| host.eq_ignore_ascii_case(from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn foreign_pages_are_told_from_our_own_and_from_programs() {
        let cases: &[(&[(&'static str, &'static str)], bool)] = &[
            (&[("host", "gw:8000")], false),
            (&[("host", "gw:8000"), ("origin", "http://gw:8000")], false),
            (
                &[
                    ("host", "localhost:3000"),
                    ("x-forwarded-host", "gw"),
                    ("origin", "https://gw"),
                ],
                false,
            ),
            (
                &[
                    ("host", "gw"),
                    ("origin", "https://gw"),
                    ("sec-fetch-site", "same-origin"),
                ],
                false,
            ),
            (
                &[
                    ("host", "gw"),
                    ("origin", "https://gw"),
                    ("sec-fetch-site", "same-site"),
                ],
                true,
            ),
            (&[("host", "gw"), ("sec-fetch-site", "cross-site")], true),
            (&[("host", "gw"), ("origin", "https://evil")], true),
            (&[("host", "gw"), ("origin", "https://gw.evil")], true),
            (&[("host", "gw:8000"), ("origin", "http://gw:8001")], true),
            (&[("host", "gw"), ("origin", "null")], true),
        ];
        for (pairs, foreign) in cases {
            assert_eq!(is_foreign(&headers(pairs)), *foreign, "{pairs:?}");
        }
    }

    #[test]
    fn a_foreign_name_with_our_port_is_a_rebound_page() {
        for (host, rebound) in [
            ("evil.test:3000", true),
            ("localhost:3000", false),
            ("127.0.0.1:3000", false),
            ("[::1]:3000", false),
            ("gateway.test:8000", false),
            ("gateway.test", false),
        ] {
            assert_eq!(is_rebound(host, 3000), rebound, "{host}");
        }
    }
}
