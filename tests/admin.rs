//! The operators' port: what it tells, what it does, what it refuses.

mod events;

use std::io::Write;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use session_gateway::session::{Found, SessionId};

use crate::support::{Gateway, Reply, Service, client, until};

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
async fn a_list_is_of_what_was_asked_for() {
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &[]);
    let mut stopped: Vec<SessionId> = (0..4).map(|_| SessionId::random()).collect();
    stopped.sort();
    for id in &stopped {
        gateway.sessions.record(*id, Found::Stopped);
    }
    let running = gateway.runs().await;
    gateway.sessions.record(running, Found::Vanished);
    let list = async |query: &str| {
        let path = format!("/api/sessions?{query}");
        let page = value(&ask(&gateway, "GET", &path, &[]).await);
        let sessions = page["sessions"].as_array().unwrap().iter();
        let ids: Vec<String> = sessions
            .map(|one| one["id"].as_str().unwrap().to_owned())
            .collect();
        (ids, page["next"].as_str().map(str::to_owned))
    };
    let named = |ids: &[SessionId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(list("state=running").await, (named(&[running]), None));
    let (some, next) = list("state=stopped&limit=3&user=42&project=7").await;
    assert_eq!(some, named(&stopped[..3]));
    let rest = format!("state=stopped&limit=3&after={}", next.unwrap());
    assert_eq!(list(&rest).await, (named(&stopped[3..]), None));
    // As many as there are: no page after it.
    assert_eq!(list("state=stopped&limit=4").await, (named(&stopped), None));
    for nobody in ["user=41", "project=8", "state=failed"] {
        assert_eq!(list(nobody).await, (vec![], None), "{nobody}");
    }
}

#[tokio::test]
async fn what_is_to_be_removed_is_listed_before_it_is() {
    let service = Service::echo().await;
    let mut listed: Vec<Vec<Value>> = Vec::new();
    for after in ["1h", "0s"] {
        let retention = format!("retention.after={after}");
        let gateway = Gateway::with(service.address, &[&retention]);
        let mut ids = [(); 2].map(|()| SessionId::random());
        ids.sort();
        let [protected, unused] = ids;
        for id in ids {
            gateway.sessions.record(id, Found::Stopped);
        }
        gateway.sessions.protected.set(protected).unwrap();
        let running = gateway.runs().await;
        gateway.sessions.record(running, Found::Vanished);
        let path = "/api/sessions?unused=true";
        let page = value(&ask(&gateway, "GET", path, &[]).await);
        let page = page["sessions"].as_array().unwrap();
        let (found, marks) = page
            .iter()
            .map(|one| (one["id"].clone(), one["protected"].clone()))
            .unzip::<_, _, Vec<_>, _>();
        let expected = ids.map(|id| json!(id.to_string()));
        assert!(found.is_empty() || found == expected, "{page:#?}");
        listed.push(marks);
        // Of others it is not said.
        let shown = value(&ask(&gateway, "GET", "/api/sessions", &[]).await);
        assert_eq!(shown["sessions"][0].get("protected"), None, "{shown}");
        let rest = format!("{path}&after={unused}");
        let page = value(&ask(&gateway, "GET", &rest, &[]).await);
        assert_eq!(page, json!({"sessions": [], "next": null}));
        assert_eq!(gateway.sessions.found(unused), Found::Stopped);
    }
    // With retention those that do not run, and without it none.
    assert_eq!(listed, [vec![json!(true), json!(false)], vec![]]);
}

#[tokio::test]
async fn a_start_is_shown_and_explained_with_its_place_in_the_queue() {
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &["spawn.concurrent=1"]);
    gateway.sessions.gate(false);
    let (first, second) = (SessionId::random(), SessionId::random());
    for id in [first, second] {
        let start = format!("/api/sessions/{id}/start");
        assert_eq!(ask(&gateway, "POST", &start, &[]).await.status, 202);
        until("its start has begun", || gateway.slot(id).start.is_some()).await;
    }
    gateway.until_at(second, 1).await;
    let path = format!("/api/sessions/{second}");
    let shown = value(&ask(&gateway, "GET", &path, &[]).await);
    let stages: Vec<_> = shown["stages"].as_array().unwrap().iter().collect();
    let stands = |at: usize| (&stages[at]["stage"], &stages[at]["state"]);
    assert_eq!(stands(0), (&json!("queue"), &json!("now")));
    assert_eq!(stands(3), (&json!("port"), &json!("later")));
    let preview = &shown["services"][0];
    assert_eq!(
        (&preview["stage"], &preview["position"]),
        (&json!("queue"), &json!(1))
    );

    let explain = format!("{path}/explain");
    let told = value(&ask(&gateway, "GET", &explain, &[]).await);
    assert_eq!(
        told["summary"],
        "Waiting for a free place: number 1 in the queue"
    );
    let states: Vec<(&str, &str)> = told["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| {
            (
                step["step"].as_str().unwrap(),
                step["state"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("id", "done"),
        ("project", "done"),
        ("record", "done"),
        ("former", "done"),
        ("request", "done"),
        ("limits", "done"),
        ("queue", "now"),
        ("disk", "later"),
        ("process", "later"),
        ("port", "later"),
        ("port", "later"),
        ("port", "later"),
    ];
    assert_eq!(states, expected);
}

#[tokio::test]
async fn a_failed_start_is_shown_and_explained_with_its_reason() {
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &[]);
    gateway.sessions.fail(true);
    let id = SessionId::random();
    let path = format!("/api/sessions/{id}");
    let explain = format!("{path}/explain");
    ask(&gateway, "POST", &format!("{path}/start"), &[]).await;
    until("it has failed", || gateway.slot(id).failure.is_some()).await;
    let told = value(&ask(&gateway, "GET", &explain, &[]).await);
    let step = &told["steps"][7];
    let expected = json!({
        "step": "disk", "state": "failed", "title": "Preparing the workspace", "code": "workspace_unusable",
        "reason": "the session's workspace cannot be used", "detail": "no space left on device",
        "waiting_helps": false, "retry": step["retry"],
    });
    assert_eq!((step, step["retry"].is_string()), (&expected, true));
    assert_eq!(told["summary"], expected["reason"]);
    let shown = value(&ask(&gateway, "GET", &path, &[]).await);
    let chat = &shown["services"][1];
    assert_eq!(
        (&shown["state"], &chat["code"]),
        (&json!("failed"), &expected["code"])
    );
    assert_eq!(chat["detail"], expected["detail"]);
}

#[tokio::test]
async fn an_announced_stop_is_shown_and_taken_back() {
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &[]);
    let id = gateway.runs().await;
    let uid = gateway.slot(id).instance.unwrap().uid();
    let stop: jiff::Timestamp = "2100-01-02T03:04:05Z".parse().unwrap();
    gateway.sessions.facts().announced(id, uid, Some(stop));
    let path = format!("/api/sessions/{id}");
    let shown = value(&ask(&gateway, "GET", &path, &[]).await);
    assert_eq!(shown["stop"], "2100-01-02T03:04:05Z");
    let kept = ask(&gateway, "POST", &format!("{path}/keep"), &[]).await;
    assert_eq!(
        (kept.status, &value(&kept)["stop"]),
        (StatusCode::OK, &Value::Null)
    );
    assert_eq!(gateway.slot(id).stop, None);
    // Of one that does not run nothing is kept, and nothing started.
    let other = format!("/api/sessions/{}/keep", SessionId::random());
    let kept = value(&ask(&gateway, "POST", &other, &[]).await);
    assert_eq!(
        (&kept["state"], gateway.sessions.starts()),
        (&json!("absent"), 0)
    );
}

#[tokio::test]
async fn with_a_token_the_api_is_for_those_who_have_it() {
    let service = Service::echo().await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"a-token-of-operators\n").unwrap();
    let setting = format!("admin.token_file={}", file.path().display());
    let gateway = Gateway::with(service.address, &[&setting]);
    let right = ("authorization", "Bearer a-token-of-operators");
    let wrong = ("authorization", "Bearer a-token-of-operatorz");
    let stop = format!("/api/sessions/{}/stop", SessionId::random());
    for (method, path) in [("GET", "/api/sessions"), ("POST", &stop)] {
        for headers in [&[][..], &[wrong]] {
            let refused = ask(&gateway, method, path, headers).await;
            assert_eq!(
                (refused.status.as_u16(), refused.code()),
                (401, "unauthorized".to_owned())
            );
            assert_eq!(refused.headers["www-authenticate"], "Bearer");
        }
        // Whoever has it may be anywhere, behind a name or in a page that was given it.
        let page = [
            right,
            ("host", "admin.example"),
            ("origin", "https://admin.example"),
        ];
        assert_eq!(
            ask(&gateway, method, path, &page).await.status,
            StatusCode::OK
        );
    }
    for path in ["/livez", "/readyz", "/metrics", "/openapi.json"] {
        assert_eq!(
            ask(&gateway, "GET", path, &[]).await.status,
            StatusCode::OK,
            "{path}"
        );
    }
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
        ("GET", "/api/sessions?state=dead", &[], 400, "invalid_query"),
        (
            "GET",
            "/api/sessions?stat=failed",
            &[],
            400,
            "invalid_query",
        ),
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
