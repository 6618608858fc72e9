//! Addresses and cookies of a service, as its client must see them.

use std::fmt::Write as _;

use super::{origin_is, prepare::Hop};
use crate::session::Prefix;

/// A `Location` or `Content-Location` as the client must see it, or `None` where it is right as it is.
///
/// A relative one always is: it must not be resolved here. An absolute one that means the service itself becomes a
/// path. Where the prefix was taken off, a path gets it back.
pub(super) fn location(value: &str, hop: &Hop<'_>) -> Option<String> {
    let own = if value.starts_with("//") {
        path_of(&format!("http:{value}"), hop)
    } else {
        path_of(value, hop)
    };
    let path = match &own {
        Some(path) => path.as_str(),
        None if value.starts_with('/') && !value.starts_with("//") => value,
        None => return None,
    };
    let prefixed = match hop.spec.prefix {
        Prefix::Strip if !has_prefix(path, hop.prefix) => format!("{}{path}", hop.prefix),
        Prefix::Strip | Prefix::Keep => path.to_owned(),
    };
    (prefixed != value).then_some(prefixed)
}

/// A `Refresh` whose address is as the client must see it, or `None` where it is right as it is.
pub(super) fn refresh(value: &str, hop: &Hop<'_>) -> Option<String> {
    let at = value.to_ascii_lowercase().find("url=")? + "url=".len();
    let (before, url) = value.split_at(at);
    let bare = url.trim_matches(['"', '\'', ' ']);
    Some(format!("{before}{}", location(bare, hop)?))
}

/// A `Link` whose targets are as the client must see them (RFC 8288 section 3), or `None` where they are.
pub(super) fn link(value: &str, hop: &Hop<'_>) -> Option<String> {
    let (mut written, mut rest, mut changed) = (String::new(), value, false);
    while let Some((before, after)) = rest.split_once('<')
        && let Some((target, after)) = after.split_once('>')
    {
        let new = location(target, hop);
        changed |= new.is_some();
        let _ = write!(written, "{before}<{}>", new.as_deref().unwrap_or(target));
        rest = after;
    }
    written.push_str(rest);
    changed.then_some(written)
}

/// The path of a URL that means the service: by its own address, a name of the loopback with its port, or the host
/// that either side goes by.
fn path_of(url: &str, hop: &Hop<'_>) -> Option<String> {
    let port = hop.upstream.port();
    let own = hop.upstream_host();
    let names = [
        hop.public.host(),
        own.to_str().expect("a host is visible ASCII"),
        &hop.upstream.to_string(),
        &format!("localhost:{port}"),
        &format!("127.0.0.1:{port}"),
        &format!("0.0.0.0:{port}"),
        &format!("[::1]:{port}"),
    ];
    if !names.iter().any(|name| origin_is(url.as_bytes(), name)) {
        return None;
    }
    let (_, rest) = url.split_once("://")?;
    match rest.find(['/', '?', '#']) {
        None => Some("/".to_owned()),
        Some(at) if rest[at..].starts_with('/') => Some(rest[at..].to_owned()),
        Some(at) => Some(format!("/{}", &rest[at..])),
    }
}

fn has_prefix(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
}

/// Whether it is the prefix or a path below it: a cookie's path has no query (RFC 6265 section 5.1.4), so one with a
/// question mark would be sent nowhere.
fn is_below(path: &str, prefix: &str) -> bool {
    let rest = path.strip_prefix(prefix);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A `Set-Cookie` that stays with its service, or `None` if it cannot.
///
/// All sessions share one host, so a cookie without a path of its own would be sent to every other session: its path
/// becomes the service's. `Domain` is dropped. A name with `__Host-` must have the path `/`, so it cannot be kept
/// (draft-ietf-httpbis-rfc6265bis section 4.1.3).
pub(super) fn cookie(value: &str, hop: &Hop<'_>) -> Option<String> {
    let mut parts = value.split(';');
    let pair = parts.next()?.trim();
    let name = pair.split('=').next().unwrap_or_default().trim();
    if name.to_ascii_lowercase().starts_with("__host-") {
        return None;
    }
    let mut cookie = pair.to_owned();
    let (mut path, mut secure) = (None, false);
    for attribute in parts.map(str::trim) {
        let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "domain" => {}
            "path" => path = Some(value.trim()),
            name => {
                secure |= name == "secure";
                cookie.push_str("; ");
                cookie.push_str(attribute);
            }
        }
    }
    // The service speaks plain HTTP, and may not know that its client does not.
    if hop.public.secure && !secure {
        cookie.push_str("; Secure");
    }
    cookie.push_str("; Path=");
    match path {
        Some(path) if is_below(path, hop.prefix) => cookie.push_str(path),
        Some(path)
            if hop.spec.prefix == Prefix::Strip && path.len() > 1 && path.starts_with('/') =>
        {
            cookie.push_str(hop.prefix);
            cookie.push_str(path);
        }
        _ => cookie.push_str(hop.prefix),
    }
    Some(cookie)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        gateway::headers::fixture::{hop, public},
        session::ServiceSpec,
    };

    fn spec(prefix: Prefix) -> ServiceSpec {
        ServiceSpec::example("x", prefix)
    }

    #[test]
    fn an_address_of_the_service_becomes_one_of_the_gateway() {
        for (value, stripped, kept) in [
            ("/a?b#c", Some("/ID/x/a?b#c"), None),
            ("/", Some("/ID/x/"), None),
            ("/ID/x/a", None, None),
            ("/ID/xy", Some("/ID/x/ID/xy"), None),
            ("./?folder=/w", None, None),
            ("a/b", None, None),
            ("?q", None, None),
            ("#f", None, None),
            ("http://localhost:4321/a", Some("/ID/x/a"), Some("/a")),
            ("http://127.0.0.1:4321", Some("/ID/x/"), Some("/")),
            ("https://gw.test/ID/x/a", Some("/ID/x/a"), Some("/ID/x/a")),
            ("//0.0.0.0:4321?q", Some("/ID/x/?q"), Some("/?q")),
            ("http://localhost:1/a", None, None),
            ("https://example.org/a", None, None),
            ("//example.org/a", None, None),
            ("mailto:a@b.c", None, None),
        ] {
            for (prefix, expected) in [(Prefix::Strip, stripped), (Prefix::Keep, kept)] {
                assert_eq!(
                    location(value, &hop(&spec(prefix))).as_deref(),
                    expected,
                    "{value} {prefix:?}"
                );
            }
        }
    }

    #[test]
    fn addresses_within_other_fields_are_rewritten_too() {
        let spec = spec(Prefix::Strip);
        let hop = hop(&spec);
        for (value, expected) in [
            ("5; url=/a", Some("5; url=/ID/x/a")),
            ("0;URL='http://localhost:4321/a'", Some("0;URL=/ID/x/a")),
            ("5; url=https://example.org/", None),
            ("5", None),
        ] {
            assert_eq!(refresh(value, &hop).as_deref(), expected, "{value}");
        }
        for (value, expected) in [
            (
                "</a.css>; rel=preload, <b>; rel=next, <//0.0.0.0:4321/c>",
                Some("</ID/x/a.css>; rel=preload, <b>; rel=next, </ID/x/c>"),
            ),
            ("<https://example.org/>; rel=x", None),
            ("</a", None),
        ] {
            assert_eq!(link(value, &hop).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn a_cookie_of_an_encrypted_connection_stays_on_such() {
        let spec = spec(Prefix::Strip);
        let public = public(true);
        let hop = Hop {
            public: &public,
            ..hop(&spec)
        };
        for (value, expected) in [
            ("a=b", "a=b; Secure; Path=/ID/x"),
            ("a=b; secure", "a=b; secure; Path=/ID/x"),
        ] {
            assert_eq!(cookie(value, &hop).as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_cookie_stays_with_its_service() {
        for (value, stripped, kept) in [
            ("a=b", Some("a=b; Path=/ID/x"), Some("a=b; Path=/ID/x")),
            (
                "a=b; path=/; HttpOnly",
                Some("a=b; HttpOnly; Path=/ID/x"),
                Some("a=b; HttpOnly; Path=/ID/x"),
            ),
            (
                "a=b; Path=/c; Domain=gw.test",
                Some("a=b; Path=/ID/x/c"),
                Some("a=b; Path=/ID/x"),
            ),
            (
                "a=b; Path=/ID/x/c",
                Some("a=b; Path=/ID/x/c"),
                Some("a=b; Path=/ID/x/c"),
            ),
            (
                "a=b=c; SameSite=Lax; Secure",
                Some("a=b=c; SameSite=Lax; Secure; Path=/ID/x"),
                Some("a=b=c; SameSite=Lax; Secure; Path=/ID/x"),
            ),
            (
                "a=b; Path=/ID/x?",
                Some("a=b; Path=/ID/x/ID/x?"),
                Some("a=b; Path=/ID/x"),
            ),
            ("__Host-a=b; Path=/; Secure", None, None),
        ] {
            for (prefix, expected) in [(Prefix::Strip, stripped), (Prefix::Keep, kept)] {
                assert_eq!(
                    cookie(value, &hop(&spec(prefix))).as_deref(),
                    expected,
                    "{value} {prefix:?}"
                );
            }
        }
    }
}
