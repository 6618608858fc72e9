//! What kind of request this is, read off its method and headers.

use http::{HeaderMap, Method, header, request::Parts};

use http::header::AsHeaderName;

use super::headers::{Admitted, SEC_FETCH_MODE, SEC_FETCH_SITE, origin_is};
use crate::session::Intent;

/// Classifies a request that was admitted. `link_previews` are the lower-case user agents that only look.
#[must_use]
pub(super) fn intent(head: &Parts, admitted: &Admitted, link_previews: &[String]) -> Intent {
    let headers = &head.headers;
    if admitted.upgrade.is_some() {
        return if headers.contains_key(header::ORIGIN) {
            Intent::PageSocket
        } else {
            Intent::ApiSocket
        };
    }
    if head.method == Method::HEAD
        || head.method == Method::OPTIONS
        || only_looks(headers, link_previews)
    {
        return Intent::Passive;
    }
    let navigates = match text(headers, SEC_FETCH_MODE) {
        Some(mode) => mode == "navigate",
        None if headers.contains_key(SEC_FETCH_SITE) => false,
        None => accepts_html(headers),
    };
    if navigates {
        return if head.method == Method::GET {
            Intent::Navigation
        } else {
            Intent::Submission
        };
    }
    let by_page = headers.contains_key(SEC_FETCH_MODE)
        || headers.contains_key(SEC_FETCH_SITE)
        || [header::ORIGIN, header::REFERER]
            .into_iter()
            .filter_map(|name| headers.get(name))
            .any(|value| origin_is(value.as_bytes(), admitted.public.host()));
    if by_page { Intent::Asset } else { Intent::Api }
}

/// A prefetch or prerender (`Sec-Purpose`, older `Purpose`), or a program that makes a preview of a link.
fn only_looks(headers: &HeaderMap, link_previews: &[String]) -> bool {
    let prefetches = ["sec-purpose", "purpose", "x-moz"]
        .into_iter()
        .filter_map(|name| text(headers, name))
        .any(|purpose| purpose.contains("prefetch") || purpose.contains("prerender"));
    prefetches
        || text(headers, header::USER_AGENT).is_some_and(|agent| {
            let agent = agent.to_ascii_lowercase();
            link_previews.iter().any(|bot| agent.contains(bot.as_str()))
        })
}

fn accepts_html(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|range| {
            range
                .split(';')
                .next()
                .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/html"))
        })
}

fn text(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};

    use super::*;
    use crate::gateway::headers::Names;
    use crate::gateway::headers::Public;

    fn classify(method: &str, headers: &[(&str, &str)]) -> Intent {
        let mut request = Request::builder().method(method).uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let upgrade = headers
            .iter()
            .any(|(name, _)| *name == "upgrade")
            .then(Default::default);
        let admitted = Admitted {
            public: Public::new(HeaderValue::from_static("gw.test:8000"), false).unwrap(),
            upgrade,
            names: Names::default(),
        };
        let (head, ()) = request.body(()).unwrap().into_parts();
        intent(&head, &admitted, &["slackbot".to_owned()])
    }

    #[test]
    fn what_a_request_wants_is_in_its_method_and_headers() {
        let html = ("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8");
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], Intent);
        let table: &[Row<'_>] = &[
            (
                "GET",
                &[
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "document"),
                ],
                Intent::Navigation,
            ),
            (
                "GET",
                &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
                Intent::Navigation,
            ),
            (
                "POST",
                &[("sec-fetch-mode", "navigate"), html],
                Intent::Submission,
            ),
            ("GET", &[html], Intent::Navigation),
            (
                "GET",
                &[html, ("referer", "http://gw.test:8000/x")],
                Intent::Navigation,
            ),
            ("POST", &[html], Intent::Submission),
            ("GET", &[], Intent::Api),
            ("GET", &[("accept", "*/*")], Intent::Api),
            ("POST", &[("accept", "application/json")], Intent::Api),
            (
                "DELETE",
                &[("referer", "http://elsewhere.test/")],
                Intent::Api,
            ),
            ("GET", &[("sec-fetch-mode", "cors"), html], Intent::Asset),
            ("GET", &[("sec-fetch-mode", "no-cors")], Intent::Asset),
            (
                "GET",
                &[("sec-fetch-site", "same-origin"), html],
                Intent::Asset,
            ),
            (
                "GET",
                &[("referer", "http://gw.test:8000/id/preview/")],
                Intent::Asset,
            ),
            ("POST", &[("origin", "http://gw.test:8000")], Intent::Asset),
            (
                "GET",
                &[("upgrade", "websocket"), ("origin", "http://gw.test:8000")],
                Intent::PageSocket,
            ),
            ("GET", &[("upgrade", "websocket")], Intent::ApiSocket),
            ("HEAD", &[("sec-fetch-mode", "navigate")], Intent::Passive),
            ("OPTIONS", &[], Intent::Passive),
            (
                "GET",
                &[
                    ("sec-purpose", "prefetch;prerender"),
                    ("sec-fetch-mode", "navigate"),
                ],
                Intent::Passive,
            ),
            ("GET", &[("purpose", "prefetch"), html], Intent::Passive),
            (
                "GET",
                &[("user-agent", "Slackbot-LinkExpanding 1.0"), html],
                Intent::Passive,
            ),
        ];
        for (method, headers, expected) in table {
            assert_eq!(classify(method, headers), *expected, "{method} {headers:?}");
        }
    }
}
