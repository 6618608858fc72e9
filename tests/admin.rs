//! The operators' port: what it tells, what it does, what it refuses.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use session_gateway::session::{Found, SessionId};

use crate::support::{Gateway, Reply, Service, client};

async fn ask(gateway: &Gateway, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
    let host = gateway.admin.to_string();
    let mut request = Request::builder().method(method).uri(path);
    if headers.iter().all(|(name, _)| *name != "host") {
        request = request.header("host", host);
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::new())).unwrap();
    client::send(gateway.admin, request).await
}

fn value(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap()
}

#[tokio::test]
async fn sessions_are_listed_by_pages_shown_started_and_stopped() {
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &[]);
    let mut ids: Vec<SessionId> = (0..5).map(|_| SessionId::random()).collect();
    ids.sort();
    for id in &ids {
        gateway.sessions.record(*id, Found::Stopped);
    }
    let mut listed = Vec::new();
    let mut path = "/api/sessions?limit=2".to_owned();
    loop {
        let page = value(&ask(&gateway, "GET", &path, &[]).await);
        let sessions = page["sessions"].as_array().unwrap();
        assert!(
            sessions
                .iter()
                .all(|one| one["state"] == "stopped" && one["project"] == "7")
        );
        listed.extend(
            sessions
                .iter()
                .map(|one| one["id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else {
            break;
        };
        path = format!("/api/sessions?limit=2&after={next}");
    }
    assert_eq!(
        listed,
        ids.iter().map(ToString::to_string).collect::<Vec<_>>()
    );

    let path = format!("/api/sessions/{}", ids[0]);
    let started = ask(&gateway, "POST", &format!("{path}/start"), &[]).await;
    assert_eq!(started.status, StatusCode::ACCEPTED);
    gateway.until_running(ids[0]).await;
    let shown = value(&ask(&gateway, "GET", &path, &[]).await);
    let preview = json!({
        "name": "preview", "state": "running", "address": service.address.to_string(), "reason": null
    });
    assert_eq!(
        (&shown["state"], &shown["services"][0]),
        (&json!("running"), &preview)
    );
    let stopped = ask(&gateway, "POST", &format!("{path}/stop"), &[]).await;
    assert_eq!(stopped.status, StatusCode::OK);
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &[]);
    let id = SessionId::random();
    let start = format!("/api/sessions/{id}/start");
    for (method, path, headers, status, code) in [
        ("GET", "/api/sessions/7", &[][..], 400, "invalid_id"),
        ("GET", "/api/sessions?limit=0", &[], 400, "invalid_query"),
        ("GET", "/api/sessions?limit=x", &[], 400, "invalid_query"),
        ("GET", "/api/sessions?after=x", &[], 400, "invalid_id"),
        ("GET", "/nothing", &[], 404, "not_found"),
        ("DELETE", "/api/sessions", &[], 405, "method_not_allowed"),
        ("GET", &start, &[], 405, "method_not_allowed"),
        (
            "POST",
            &start,
            &[("origin", "http://localhost")],
            403,
            "cross_site",
        ),
        (
            "POST",
            &start,
            &[("sec-fetch-site", "same-origin")],
            403,
            "cross_site",
        ),
        (
            "GET",
            "/api/sessions",
            &[("host", "evil.test")],
            403,
            "cross_site",
        ),
    ] {
        let reply = ask(&gateway, method, path, headers).await;
        let told = (reply.status.as_u16(), reply.code());
        assert_eq!(told, (status, code.to_owned()), "{method} {path}");
    }
    assert_eq!(gateway.sessions.starts(), 0);
}

#[tokio::test]
async fn health_and_figures_are_told() {
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &[]);
    assert_eq!(ask(&gateway, "GET", "/livez", &[]).await.text(), "ok\n");
    assert_eq!(ask(&gateway, "GET", "/readyz", &[]).await.text(), "ready\n");
    let id = SessionId::random();
    gateway.send("GET", &format!("/{id}/chat/"), &[]).await;
    gateway.send("GET", "/nowhere", &[]).await;
    let metrics = ask(&gateway, "GET", "/metrics", &[]).await;
    for line in [
        r#"session_gateway_requests_total{service="chat",by="service",class="2xx"} 1"#,
        r#"session_gateway_requests_total{service="none",by="gateway",class="4xx"} 1"#,
        r#"session_gateway_starts_total{outcome="ok"} 1"#,
        r#"session_gateway_sessions{state="running"} 1"#,
        "session_gateway_requests_in_flight 0",
    ] {
        assert!(
            metrics.text().lines().any(|one| one == line),
            "{line} is missing in\n{}",
            metrics.text()
        );
    }
}
