//! The header rules, pure: what makes a request unfit, what is sent on, what is sent back.
//!
//! Nothing that was parsed is sent on as it came: both heads are checked, then stripped of what was meant for this hop
//! only, then given what this hop has to say. Each rule names its source.

mod admit;
#[cfg(test)]
pub(super) mod fixture;
mod forwarded;
mod http2;
mod names;
mod prepare;
#[cfg(test)]
mod properties;
mod rewrite;
mod scrub;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, Entry},
};

pub(super) use admit::{AdmitError, Admitted, Offer, admit};
pub(super) use forwarded::{Public, client};
pub(super) use http2::flatten;
pub(super) use names::Names;
pub(super) use prepare::{Hop, frame, prepare};
pub(super) use scrub::{Framing, ScrubError, scrub, switched};

const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");
const FORWARDED: HeaderName = header::FORWARDED;
/// How a request came about (Fetch Metadata). Browsers leave these out on plain HTTP outside loopback.
pub(super) const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
pub(super) const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
pub(super) const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Whether an answer is a stream of events (HTML Standard, section 9.2).
pub(super) fn is_event_stream(headers: &HeaderMap) -> bool {
    const STREAM: &[u8] = b"text/event-stream";
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.and_then(|kind| kind.get(..STREAM.len()))
        .is_some_and(|kind| kind.eq_ignore_ascii_case(STREAM))
}

/// Takes off what is meant for one hop only (RFC 9110 section 7.6.1): `Connection` and all that any of its lines
/// names, and the fields that are hop-by-hop without being named. A field whose loss would change who the request
/// is from or what it means is not taken off, whoever names it. And `also` what its caller takes off: most heads have
/// none of all this, and their names are looked at once.
fn drop_hop_by_hop(headers: &mut HeaderMap, mut also: impl FnMut(&str) -> bool) {
    if let Entry::Occupied(connection) = headers.entry(header::CONNECTION) {
        let (_, lines) = connection.remove_entry_mult();
        let named: Vec<HeaderName> = lines.flat_map(|line| nominated(&line)).collect();
        for name in named {
            headers.remove(name);
        }
    }
    let found: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_hop_by_hop(name.as_str()) || also(name.as_str()))
        .cloned()
        .collect();
    for name in found {
        headers.remove(name);
    }
}

/// The fields that a line of `Connection` names, but for those that go unnamed too.
fn nominated(line: &HeaderValue) -> Vec<HeaderName> {
    let tokens = line.to_str().unwrap_or_default().split(',').map(str::trim);
    tokens
        .filter(|token| {
            !["keep-alive", "upgrade"]
                .iter()
                .any(|name| token.eq_ignore_ascii_case(name))
        })
        .filter_map(|name| HeaderName::try_from(name).ok())
        .filter(|name| !is_protected(name))
        .collect()
}

fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Whether nomination by `Connection` must not remove this field (CVE-2025-48865, CVE-2022-31813).
fn is_protected(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(
        name,
        "host" | "cookie" | "authorization" | "origin" | "set-cookie" | "location" | "forwarded"
    ) || ["content-", "sec-", "x-forwarded-"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// Whether a URL or an origin begins with an origin of this host. The port may be left out where it is the scheme's.
pub(super) fn origin_is(url: &[u8], host: &str) -> bool {
    let Ok(url) = std::str::from_utf8(url) else {
        return false;
    };
    let Some((scheme, rest)) = url.split_once("://") else {
        return false;
    };
    let default = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let bare = |host: &str| {
        host.strip_suffix(default)
            .unwrap_or(host)
            .to_ascii_lowercase()
    };
    !authority.is_empty() && bare(authority) == bare(host)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_origin_is_that_of_a_host_with_or_without_its_default_port() {
        for (url, host, expected) in [
            ("http://gw.test", "gw.test", true),
            ("https://gw.test", "gw.test:443", true),
            ("https://gw.test:443", "GW.test", true),
            ("http://gw.test:8000/a?b", "gw.test:8000", true),
            ("http://[::1]:8000", "[::1]:8000", true),
            ("http://gw.test:443", "gw.test", false),
            ("http://gw.test", "gw.test:8000", false),
            ("http://gw.test.evil", "gw.test", false),
            ("http://evil/gw.test", "gw.test", false),
            ("http://gw.test@evil", "gw.test", false),
            ("ftp://gw.test", "gw.test", false),
            ("null", "gw.test", false),
            ("", "", false),
            ("http://", "", false),
        ] {
            assert_eq!(origin_is(url.as_bytes(), host), expected, "{url} of {host}");
        }
    }

    proptest! {
        #[test]
        fn hop_by_hop_fields_never_pass(
            lines in prop::collection::vec("[A-Za-z, -]{0,30}", 0..4),
            others in prop::collection::vec("[a-z][a-z-]{0,12}", 0..8),
        ) {
            let mut headers = HeaderMap::new();
            for name in others.iter().chain([&"host".to_owned(), &"x-forwarded-for".to_owned()]) {
                headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::from_static("x"));
            }
            for line in &lines {
                headers.append(header::CONNECTION, HeaderValue::try_from(line).unwrap());
            }
            drop_hop_by_hop(&mut headers, |_| false);
            for name in headers.keys() {
                let named = lines.iter().flat_map(|line| line.split(',')).any(|one| one.trim().eq_ignore_ascii_case(name.as_str()));
                prop_assert!(!named || is_protected(name), "{} was named", name);
                prop_assert!(name != header::CONNECTION && name != header::TRANSFER_ENCODING && name != header::UPGRADE);
            }
            prop_assert!(headers.contains_key("host") && headers.contains_key("x-forwarded-for"));
        }
    }
}
