//! A head of HTTP/2, written as HTTP/1.1 would have it: past this point nobody asks how a request came.

use http::{HeaderValue, Method, Uri, Version, header, request::Parts};
use hyper::ext::Protocol;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;

use super::AdmitError;

/// Rewrites the head of a request that came over HTTP/2 (RFC 9113 section 8.3.1) and leaves any other alone. The
/// handshake of a websocket (RFC 8441 section 4) becomes the `GET` of RFC 6455, with a key of our own.
///
/// # Errors
/// If it names two hosts, or connects to anything but a websocket.
pub(in crate::gateway) fn flatten(head: &mut Parts) -> Result<(), AdmitError> {
    if head.version != Version::HTTP_2 {
        return Ok(());
    }
    authority(head)?;
    trim(head);
    crumbs(head)?;
    if head.method == Method::CONNECT {
        connect(head)?;
    }
    let target = head
        .uri
        .path_and_query()
        .cloned()
        .ok_or(AdmitError::Target)?;
    head.uri = Uri::from(target);
    head.version = Version::HTTP_11;
    Ok(())
}

/// `:authority` stands for `Host`; one that differs from it would let two readers see two hosts.
fn authority(head: &mut Parts) -> Result<(), AdmitError> {
    let Some(authority) = head.uri.authority().map(|authority| authority.as_str()) else {
        return Ok(());
    };
    let differs = |host: &HeaderValue| !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes());
    if authority.contains('@') || head.headers.get_all(header::HOST).iter().any(differs) {
        return Err(AdmitError::Host);
    }
    let host = HeaderValue::from_str(authority).map_err(|_| AdmitError::Host)?;
    head.headers.insert(header::HOST, host);
    Ok(())
}

/// Spaces around a value mean nothing in HTTP/1.1, and must not be there in HTTP/2 (RFC 9113 section 8.2.1).
fn trim(head: &mut Parts) {
    for value in head.headers.values_mut() {
        let trimmed = value.as_bytes().trim_ascii();
        if trimmed.len() != value.len()
            && let Ok(trimmed) = HeaderValue::from_bytes(trimmed)
        {
            *value = trimmed;
        }
    }
}

/// Cookies come as one line each, for the sake of compression; HTTP/1.1 has one line (RFC 9113 section 8.2.3).
fn crumbs(head: &mut Parts) -> Result<(), AdmitError> {
    let lines: Vec<&[u8]> = head
        .headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if lines.len() > 1 {
        let whole =
            HeaderValue::from_bytes(&lines.join(&b"; "[..])).map_err(|_| AdmitError::Target)?;
        head.headers.insert(header::COOKIE, whole);
    }
    Ok(())
}

fn connect(head: &mut Parts) -> Result<(), AdmitError> {
    let protocol = head.extensions.remove::<Protocol>();
    if protocol.is_none_or(|protocol| protocol.as_str() != "websocket") {
        return Err(AdmitError::Method);
    }
    head.method = Method::GET;
    let key = HeaderValue::try_from(generate_key()).map_err(|_| AdmitError::Upgrade)?;
    for (name, value) in [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_KEY, key),
    ] {
        head.headers.insert(name, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn flat(request: http::request::Builder) -> Result<Parts, AdmitError> {
        let request = request.version(Version::HTTP_2).body(()).unwrap();
        let mut head = request.into_parts().0;
        flatten(&mut head).map(|()| head)
    }

    #[test]
    fn a_head_of_http2_becomes_one_of_http1() {
        let request = Request::get("https://gw.test:8443/a%2Fb?c")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("x-a", " b\t");
        let head = flat(request).unwrap();
        assert_eq!(head.uri, "/a%2Fb?c");
        assert_eq!(head.version, Version::HTTP_11);
        assert_eq!(head.headers["host"], "gw.test:8443");
        assert_eq!(head.headers["x-a"], "b");
        let cookies: Vec<_> = head.headers.get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=1; b=2"]);
    }

    #[test]
    fn a_request_of_two_hosts_is_refused() {
        let get = || Request::get("https://gw.test/");
        assert!(flat(get().header("host", "GW.test")).is_ok());
        let refused = |request| flat(request).unwrap_err();
        assert_eq!(refused(get().header("host", "other")), AdmitError::Host);
        let userinfo = Request::get("https://user@gw.test/");
        assert_eq!(refused(userinfo), AdmitError::Host);
    }

    #[test]
    fn of_connects_only_a_websocket_is_served() {
        let connect = || {
            Request::builder()
                .method("CONNECT")
                .uri("https://gw.test/x")
        };
        assert_eq!(flat(connect()).unwrap_err(), AdmitError::Method);
        let other = connect().extension(Protocol::from_static("connect-udp"));
        assert_eq!(flat(other).unwrap_err(), AdmitError::Method);
        let socket = connect()
            .extension(Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13");
        let head = flat(socket).unwrap();
        assert_eq!(head.method, Method::GET);
        assert!(
            super::super::admit(&head, &super::super::fixture::PEER, 8192)
                .unwrap()
                .upgrade
                .is_some()
        );
    }
}
