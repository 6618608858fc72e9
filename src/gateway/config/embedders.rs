//! The sites that may show sessions inside frames of their own pages.

use http::{HeaderMap, Method, header, request::Parts};

use crate::{
    gateway::headers::{SEC_FETCH_DEST, SEC_FETCH_MODE},
    session::{Action, Route},
    settings::Section,
};

/// The sites of `embedders`, as browsers write their origins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Embedders(Vec<String>);

impl Embedders {
    pub(super) fn read(root: &mut Section<'_>) -> Self {
        let origins = root.strings("embedders");
        for origin in &origins {
            root.check(&["embedders"], is_origin(origin), || {
                format!(
                    "expected origins as browsers write them, such as https://app.example.com, with a port only if it \
                     is not the scheme's own; found {origin:?}"
                )
            });
        }
        Self(origins)
    }

    /// Whether a page of another origin asks for what one of these sites may have: a session in a frame, or where it
    /// stands. A browser names the site of a frame by its `Referer` alone, which a page can withhold and not make up.
    pub(in crate::gateway) fn may_ask(&self, head: &Parts, route: &Route<'_>) -> bool {
        if self.0.is_empty() || head.method != Method::GET {
            return false;
        }
        let headers = &head.headers;
        let is = |name: header::HeaderName, values: &[&str]| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.is_some_and(|value| values.contains(&value))
        };
        match route {
            Route::Own(_, Action::Status | Action::Events) => self.origin(headers).is_some(),
            Route::Own(_, Action::Start | Action::Stop | Action::Keep) => false,
            Route::Service { .. } | Route::Slash(_) | Route::Page(_) => {
                is(SEC_FETCH_MODE, &["navigate"])
                    && is(SEC_FETCH_DEST, &["iframe", "frame"])
                    && !headers.contains_key(header::ORIGIN)
                    && self.refers(headers)
            }
        }
    }

    /// The origin that asks, if it is one of these.
    pub(in crate::gateway) fn origin(&self, headers: &HeaderMap) -> Option<&str> {
        let mut origins = headers.get_all(header::ORIGIN).into_iter();
        let (Some(origin), None) = (origins.next(), origins.next()) else {
            return None;
        };
        let known = self.0.iter().find(|known| origin == known.as_str())?;
        Some(known)
    }

    /// Whether there is none.
    pub(in crate::gateway) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Who may frame our own pages, as the policy of content security has it.
    pub(in crate::gateway) fn ancestors(&self) -> String {
        if self.0.is_empty() {
            "'none'".to_owned()
        } else {
            self.0.join(" ")
        }
    }

    fn refers(&self, headers: &HeaderMap) -> bool {
        let referer = headers
            .get(header::REFERER)
            .and_then(|value| value.to_str().ok());
        let rest = |known: &String| referer?.strip_prefix(known.as_str());
        let mut rests = self.0.iter().filter_map(rest);
        rests.any(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// Whether a browser would write this origin so (RFC 6454 section 6.2).
fn is_origin(text: &str) -> bool {
    let (host, own) = match text.split_once("://") {
        Some(("https", host)) => (host, "443"),
        Some(("http", host)) => (host, "80"),
        _ => return false,
    };
    // The colons of an IPv6 address are inside of brackets.
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let is_port = |port: &str| {
        port != own
            && port.parse::<u16>().is_ok()
            && port.bytes().all(|b| b.is_ascii_digit())
            && !port.starts_with('0')
    };
    super::is_host(name)
        && !name.bytes().any(|b| b.is_ascii_uppercase())
        && port.is_none_or(is_port)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::session::{Prefix, ServiceSpec, Services};

    const ID: &str = "3f2b8c1e-5d4a-4c6b-9e7f-0a1b2c3d4e5f";

    #[test]
    fn an_origin_is_written_as_browsers_write_it() {
        for (text, expected) in [
            ("https://app.example.com", true),
            ("http://localhost:5173", true),
            ("http://[::1]:8080", true),
            ("http://[::1]", true),
            ("https://app.example.com:443", false),
            ("http://app.example.com:80", false),
            ("https://app.example.com/", false),
            ("https://App.example.com", false),
            ("https://*.example.com", false),
            ("https://app.example.com:08443", false),
            ("https://app.example.com; script-src *", false),
            ("ftp://app.example.com", false),
            ("app.example.com", false),
            ("null", false),
        ] {
            assert_eq!(is_origin(text), expected, "{text}");
        }
    }

    #[test]
    fn a_known_site_may_frame_sessions_and_see_where_they_stand() {
        let known = "https://app.test";
        let embedders = Embedders(vec![known.to_owned()]);
        let services = Services::new(vec![ServiceSpec::example("preview", Prefix::Keep)]);
        let services = services.unwrap();
        let navigates = ("sec-fetch-mode", "navigate");
        let frame = [navigates, ("sec-fetch-dest", "iframe")];
        let from = |site: &'static str| [frame[0], frame[1], ("referer", site)];
        let cors = |site: &'static str| [("sec-fetch-mode", "cors"), ("origin", site)];
        type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], bool);
        let table: &[Row<'_>] = &[
            ("GET", "/preview/", &from("https://app.test/"), true),
            ("GET", "/", &from("https://app.test/some/page"), true),
            (
                "GET",
                "/preview/",
                &from("https://app.test.evil.test/"),
                false,
            ),
            ("GET", "/preview/", &from("https://app.test:8443/"), false),
            ("GET", "/preview/", &from("http://app.test/"), false),
            (
                "GET",
                "/preview/",
                &from("https://evil.test/https://app.test/"),
                false,
            ),
            ("GET", "/preview/", &frame, false),
            ("POST", "/preview/", &from("https://app.test/"), false),
            ("GET", "/preview/x.js", &cors(known), false),
            ("GET", "/-/start", &from("https://app.test/"), false),
            ("GET", "/-/status", &cors(known), true),
            ("GET", "/-/events", &cors(known), true),
            ("GET", "/-/status", &cors("https://evil.test"), false),
            ("POST", "/-/stop", &cors(known), false),
        ];
        for (method, path, headers, expected) in table {
            let mut request = Request::builder().method(*method).uri("/");
            for (name, value) in *headers {
                request = request.header(*name, *value);
            }
            let (head, ()) = request.body(()).unwrap().into_parts();
            let path = format!("/{ID}{path}");
            let route = Route::parse(&services, &path).unwrap();
            let asked = embedders.may_ask(&head, &route);
            assert_eq!(asked, *expected, "{method} {path} {headers:?}");
            assert!(
                !Embedders::default().may_ask(&head, &route),
                "none is known"
            );
        }
    }
}
