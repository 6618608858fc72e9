//! What an address leads to, and what is refused before anything is looked up or started for it.

use http::StatusCode;
use session_gateway::{
    gateway::Code,
    session::{Intent, SessionId},
};

use crate::support::{Gateway, Reply, Service, raw, sample};

/// Heads that are refused, with their status. `ID` is the session, `HOST` the gateway's own address.
const UNFIT: &[(&str, u16)] = &[
    ("GET /ID/preview/ HTTP/1.1", 400),
    ("GET /ID/preview/ HTTP/1.1|Host: HOST|Host: HOST", 400),
    ("GET /ID/preview/ HTTP/1.1|Host: evil.test", 421),
    ("GET /ID/preview/../chat/ HTTP/1.1|Host: HOST", 400),
    ("GET /ID/preview/%2e%2e/ HTTP/1.1|Host: HOST", 400),
    ("GET http://HOST/ID/preview/ HTTP/1.1|Host: HOST", 400),
    ("CONNECT HOST HTTP/1.1|Host: HOST", 405),
    ("TRACE /ID/preview/ HTTP/1.1|Host: HOST", 405),
    (
        "POST /ID/preview/ HTTP/1.1|Host: HOST|Transfer-Encoding: gzip, chunked",
        501,
    ),
    ("POST /ID/preview/ HTTP/1.1|Host: HOST|Expect: tea", 417),
    (
        "GET /ID/chat/ HTTP/1.1|Host: HOST|Upgrade: websocket|Connection: upgrade|Sec-WebSocket-Version: 13",
        400,
    ),
    (
        "GET /ID/preview/ HTTP/1.1|Host: HOST|Origin: http://evil.test",
        403,
    ),
    (
        "GET /ID/preview/ HTTP/1.1|Host: HOST|Sec-Fetch-Site: cross-site|Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: iframe",
        403,
    ),
    (
        "GET /ID/preview/ HTTP/1.1|Host: HOST|Content-Length: 1|Content-Length: 2",
        400,
    ),
    ("GET /ID/preview/ HTTP/1.1| Host: HOST", 400),
];

/// A malformed request, or one of another site, must not start a session.
#[tokio::test]
async fn what_is_unfit_starts_nothing() {
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &[]);
    let (id, host) = (SessionId::random().to_string(), gateway.address.to_string());
    for (head, status) in UNFIT {
        let head = head.replace("ID", &id).replace("HOST", &host);
        let head = format!("{}\r\nConnection: close\r\n\r\n", head.replace('|', "\r\n"));
        let answer = raw(gateway.address, head.as_bytes()).await;
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{head}\n{answer}");
    }
    assert_eq!(gateway.sessions.starts(), 0);
}

/// One session has one URL, and the rest of a path is no part of it.
#[tokio::test]
async fn an_address_that_is_none_leads_nowhere() {
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &[]);
    let id = SessionId::random().to_string();
    for path in [
        format!("/{}/preview/", id.to_uppercase()),
        format!("/%7B{id}%7D/preview/"),
        format!("/urn:uuid:{id}/preview/"),
        format!("/{}/preview/", id.replace('-', "")),
        format!("/%{:x}{}/preview/", id.as_bytes()[0], &id[1..]),
        format!("/{id}/previews/"),
        format!("/{id}/-/nothing"),
        "/".to_owned(),
    ] {
        let reply = gateway.send("GET", &path, &[]).await;
        let expected = (StatusCode::NOT_FOUND, "not_found");
        assert_eq!((reply.status, reply.code().as_str()), expected, "{path}");
        let navigation = sample(Intent::Navigation).1;
        let page = gateway.send("GET", &path, &navigation).await;
        assert_eq!((page.status, page.state()), expected, "{path}");
    }
    assert_eq!(gateway.sessions.starts(), 0);
}

#[tokio::test]
async fn an_address_without_its_slash_is_led_to_it() {
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &[]);
    let id = SessionId::random();
    for (path, expected) in [
        (format!("/{id}"), format!("/{id}/")),
        (format!("/{id}?a=%20b"), format!("/{id}/?a=%20b")),
        (format!("/{id}/vscode?x=/y"), format!("/{id}/vscode/?x=/y")),
        (format!("/{id}/chat"), format!("/{id}/chat/")),
    ] {
        let reply = gateway.send("POST", &path, &[]).await;
        let led = (reply.status, reply.header("location"));
        assert_eq!(led, (StatusCode::PERMANENT_REDIRECT, &*expected));
    }
    assert_eq!(gateway.sessions.starts(), 0);
    let path = format!("/{id}/preview");
    let kept = gateway.send("GET", &path, &[]).await;
    assert_eq!(
        kept.text(),
        path,
        "where it keeps its prefix the service decides"
    );
}

fn state(reply: &Reply) -> String {
    let status: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    status["state"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_session_has_a_page_and_an_api() {
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &[]);
    let id = SessionId::random();
    let (own, status) = (format!("/{id}/"), format!("/{id}/-/status"));
    let (start, stop) = (format!("/{id}/-/start"), format!("/{id}/-/stop"));
    assert_eq!(state(&gateway.send("GET", &status, &[]).await), "absent");
    let page = gateway
        .send("GET", &own, &sample(Intent::Navigation).1)
        .await;
    assert_eq!(page.state(), "absent");
    assert_eq!(gateway.sessions.starts(), 0, "its page starts nothing");

    let wrong = gateway.send("GET", &start, &[]).await;
    let allowed = (wrong.status, wrong.header("allow"));
    assert_eq!(allowed, (StatusCode::METHOD_NOT_ALLOWED, "POST"));
    let started = gateway.send("POST", &start, &[]).await;
    assert_eq!(started.status, StatusCode::ACCEPTED);
    gateway.until_running(id).await;
    assert_eq!(state(&gateway.send("GET", &status, &[]).await), "running");

    // Buttons: back to the page they were on, if it is one of this session.
    let form = sample(Intent::Submission).1;
    let stopped = gateway.send("POST", &stop, &form).await;
    let led = (stopped.status, stopped.header("location"));
    assert_eq!(led, (StatusCode::SEE_OTHER, &*own));
    let preview = format!("/{id}/preview/?q");
    let page = format!("http://{}{preview}", gateway.address);
    for (referer, expected) in [(&*page, &*preview), ("http://evil.test/", &own)] {
        let form = [&form[..], &[("referer", referer)]].concat();
        let started = gateway.send("POST", &start, &form).await;
        assert_eq!(started.header("location"), expected);
    }
}

/// Programs rely on the list: the README has every code with its status, and no other.
#[test]
fn the_readme_lists_every_code() {
    let readme = std::fs::read_to_string("README.md").unwrap();
    let (_, list) = readme.split_once("### Problem codes").unwrap();
    let (list, _) = list.split_once("The operators' port has problems").unwrap();
    let mut listed = Vec::new();
    for row in list.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = row.split('|').skip(1);
        let (names, status) = (cells.next().unwrap(), cells.next().unwrap().trim());
        for name in names.split(',') {
            listed.push((
                name.trim().trim_matches('`').to_owned(),
                status.parse::<u16>().unwrap(),
            ));
        }
    }
    let code = |code: &Code| (code.name().to_owned(), code.status().as_u16());
    let mut codes: Vec<_> = Code::ALL.iter().map(code).collect();
    listed.sort();
    codes.sort();
    assert_eq!(listed, codes);
}
