//! What a new session is made from is the platform's word: each way it can answer, or not, with local sessions.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Response, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use session_gateway::session::{Intent, SessionId};
use tempfile::tempdir;
use tokio::net::TcpSocket;

use crate::support::{
    Reply, Service,
    serve::Serve,
    service::{Answer, text},
    until,
};

/// How the platform answers for a session.
#[derive(Debug, Clone)]
pub(crate) enum Says {
    /// With this status and text.
    Text(u16, String),
    /// With the way to an address where a good answer is.
    Redirect,
    /// Not at all.
    Nothing,
}

/// The platform, which answers for each session as told: 404 where it was told nothing.
pub(crate) struct Platform {
    pub(crate) address: SocketAddr,
    says: Arc<Mutex<HashMap<String, Says>>>,
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Platform {
    pub(crate) async fn new() -> Self {
        let says: Arc<Mutex<HashMap<String, Says>>> = Arc::default();
        let asked: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
        let (told, counted) = (Arc::clone(&says), Arc::clone(&asked));
        let service = Service::new(move |request| {
            let path = request.uri().path().to_owned();
            *counted.lock().unwrap().entry(path.clone()).or_default() += 1;
            let says = told.lock().unwrap().get(&path).cloned();
            async move {
                match says {
                    None => answer(404, "{}"),
                    Some(Says::Text(status, body)) => answer(status, &body),
                    Some(Says::Redirect) => {
                        let mut answer = answer(302, "");
                        let elsewhere = "/elsewhere".parse().expect("a value");
                        answer.headers_mut().insert(header::LOCATION, elsewhere);
                        answer
                    }
                    Some(Says::Nothing) => std::future::pending().await,
                }
            }
        });
        let platform = Self {
            address: service.await.address,
            says,
            asked,
        };
        platform.tell("/elsewhere", Says::Text(200, plan("7", "42").to_string()));
        platform
    }

    /// From now on it says this for the session.
    pub(crate) fn says(&self, id: SessionId, says: Says) {
        self.tell(&path(id), says);
    }

    fn tell(&self, path: &str, says: Says) {
        self.says.lock().unwrap().insert(path.to_owned(), says);
    }

    /// How often it was asked at a path.
    fn asked(&self, path: &str) -> usize {
        self.asked.lock().unwrap().get(path).copied().unwrap_or(0)
    }

    /// The setting by which a gateway asks it.
    pub(crate) fn setting(&self) -> String {
        format!("resolver.url=http://{}/internal/", self.address)
    }
}

/// A good answer.
pub(crate) fn plan(project: &str, user: &str) -> Value {
    json!({ "project": { "id": project, "name": "ours" }, "user": { "id": user } })
}

fn path(id: SessionId) -> String {
    format!("/internal/{id}")
}

fn answer(status: u16, body: &str) -> Answer {
    let (mut head, body) = text(body.to_owned()).into_parts();
    head.status = StatusCode::from_u16(status).expect("a status");
    Response::from_parts(head, BodyExt::boxed(body))
}

/// A gateway that asks this platform, with services that only run.
fn gateway(data: &Path, resolver: String, more: &[&str]) -> Serve {
    let mut settings: Vec<String> = ["preview", "chat", "vscode"]
        .map(|name| format!("local.services.{name}.command={{sleep,1000}}"))
        .to_vec();
    settings.extend([
        resolver,
        "resolver.timeout=300ms,project.id=default-project,user.id=default-user".to_owned(),
    ]);
    settings.extend(more.iter().map(|&one| one.to_owned()));
    Serve::start(data, &settings)
}

/// The record of a session, once it is made.
fn record(data: &Path, id: SessionId) -> Option<Value> {
    let text = std::fs::read(folder(data, id).join("session.json")).ok()?;
    Some(serde_json::from_slice(&text).expect("a record"))
}

/// What is first made of a session.
fn folder(data: &Path, id: SessionId) -> PathBuf {
    data.join("sessions").join(id.to_string())
}

pub(crate) async fn ask(gateway: &Serve, id: SessionId, intent: Intent) -> Reply {
    let (method, headers) = crate::support::sample(intent);
    let path = format!("/{id}/preview/");
    gateway.send(method, &path, &headers).await
}

/// The reason that a program is given for a session that failed.
pub(crate) fn reason(reply: &Reply) -> String {
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "session_failed")
    );
    let problem: Value = serde_json::from_slice(&reply.body).expect("JSON");
    problem["reason"]["code"].as_str().expect("one").to_owned()
}

async fn started_as(gateway: &Serve, data: &Path, id: SessionId, project: &str, user: &str) {
    ask(gateway, id, Intent::Navigation).await;
    until("it is on record", || record(data, id).is_some()).await;
    let plan = &record(data, id).unwrap()["plan"];
    assert_eq!(
        (plan["project"].as_str(), plan["user"].as_str()),
        (Some(project), Some(user))
    );
}

#[tokio::test]
async fn a_session_is_made_from_what_the_platform_says() {
    let (data, platform) = (tempdir().unwrap(), Platform::new().await);
    let gateway = gateway(data.path(), platform.setting(), &[]);
    for (body, project, user) in [
        (plan("p-1", "u@example"), "p-1", "u@example"),
        (
            json!({ "project": { "id": 7 }, "user": { "id": 42 }, "profile": null }),
            "7",
            "42",
        ),
        (
            json!({ "project": { "id": "a" }, "user": { "id": "b" }, "profile": "default" }),
            "a",
            "b",
        ),
    ] {
        let id = SessionId::random();
        platform.says(id, Says::Text(200, body.to_string()));
        started_as(&gateway, data.path(), id, project, user).await;
        assert_eq!(platform.asked(&path(id)), 1, "its answer was remembered");
    }
}

/// Asks in every way for a session of a project that is not there.
pub(crate) async fn is_not_found(gateway: &Serve, id: SessionId) {
    for intent in Intent::ALL {
        let reply = ask(gateway, id, intent).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{intent:?}");
        assert_eq!(reply.header("session-gateway-code"), "no_such_project");
        assert_eq!(reply.header("retry-after"), "");
        if intent.wants_page() {
            assert_eq!(reply.state(), "no_such_project");
        } else if intent != Intent::Passive {
            assert_eq!(reply.code(), "no_such_project");
        }
    }
    for (method, path) in [
        ("GET", format!("/{id}/")),
        ("GET", format!("/{id}/-/status")),
        ("POST", format!("/{id}/-/start")),
    ] {
        let reply = gateway.send(method, &path, &[]).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (StatusCode::NOT_FOUND, "no_such_project"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_project_that_is_not_there_is_not_found_and_nothing_is_made_of_it() {
    let (data, platform) = (tempdir().unwrap(), Platform::new().await);
    let gateway = gateway(data.path(), platform.setting(), &[]);
    let id = SessionId::random();
    is_not_found(&gateway, id).await;
    assert!(!folder(data.path(), id).exists());
    let asked = platform.asked(&path(id));
    assert!((1..=2).contains(&asked), "asked {asked} times");
    // It is made meanwhile, and known once the old answer is too old.
    platform.says(id, Says::Text(200, plan("7", "42").to_string()));
    let made = async {
        while ask(&gateway, id, Intent::Navigation).await.status == 404 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(crate::support::DEADLINE, made)
        .await
        .expect("it is found");
    started_as(&gateway, data.path(), id, "7", "42").await;
}

/// What is no answer: what the platform says, and what of it people are told.
pub(crate) fn failures() -> Vec<(Says, &'static str)> {
    let text = |status, body: &str| Says::Text(status, body.to_owned());
    let long =
        json!({ "project": { "id": "7", "name": "x".repeat(100_000) }, "user": { "id": "42" } });
    vec![
        (Says::Nothing, "resolver_failed"),
        (Says::Redirect, "resolver_failed"),
        (text(500, "{}"), "resolver_failed"),
        (text(204, ""), "resolver_failed"),
        (text(410, ""), "resolver_failed"),
        (text(200, ""), "resolver_failed"),
        (text(200, "<html>"), "resolver_failed"),
        (text(200, r#"{"project": {"id": "7"}}"#), "resolver_failed"),
        (text(200, &plan("", "42").to_string()), "resolver_failed"),
        (text(200, &plan("7", "a\nb").to_string()), "resolver_failed"),
        (
            text(200, &plan("7", &"u".repeat(257)).to_string()),
            "resolver_failed",
        ),
        (text(200, &long.to_string()), "resolver_failed"),
    ]
}

#[tokio::test]
async fn without_an_answer_nothing_is_started() {
    let (data, platform) = (tempdir().unwrap(), Platform::new().await);
    let gateway = gateway(data.path(), platform.setting(), &[]);
    for (says, expected) in failures() {
        let id = SessionId::random();
        platform.says(id, says.clone());
        let reply = ask(&gateway, id, Intent::Api).await;
        assert_eq!(reason(&reply), expected, "{says:?}");
        assert_eq!(reply.header("retry-after"), "1", "{says:?}");
        assert!(
            !reply.text().contains(&platform.address.to_string()),
            "the platform's address is its own: {}",
            reply.text()
        );
        assert!(!folder(data.path(), id).exists(), "{says:?}");
    }
    assert_eq!(platform.asked("/elsewhere"), 0, "no redirect is followed");
    let id = SessionId::random();
    let answer = json!({ "project": { "id": "7" }, "user": { "id": "42" }, "profile": "huge" });
    platform.says(id, Says::Text(200, answer.to_string()));
    let reply = ask(&gateway, id, Intent::Api).await;
    assert_eq!(reason(&reply), "no_such_profile");
    assert!(reply.text().contains("huge"), "{}", reply.text());
    assert!(!folder(data.path(), id).exists());
    // It answers again: the next request starts the session.
    platform.says(id, Says::Text(200, plan("7", "42").to_string()));
    let started = async {
        while record(data.path(), id).is_none() {
            gateway.send("POST", &format!("/{id}/-/start"), &[]).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(crate::support::DEADLINE, started)
        .await
        .expect("it is started");
}

#[tokio::test]
async fn without_an_answer_the_defaults_count_if_that_is_said() {
    let (data, platform) = (tempdir().unwrap(), Platform::new().await);
    let more = ["resolver.failure=defaults"];
    let gateway = gateway(data.path(), platform.setting(), &more);
    for (says, _) in failures() {
        let id = SessionId::random();
        platform.says(id, says);
        started_as(&gateway, data.path(), id, "default-project", "default-user").await;
    }
    let id = SessionId::random();
    let reply = ask(&gateway, id, Intent::Api).await;
    assert_eq!(reply.code(), "no_such_project", "that is an answer");
    assert!(!folder(data.path(), id).exists());
    assert_eq!(gateway.log.count("the resolver says nothing of use"), 1);
}

/// A port that nothing listens on, kept free of others by being bound, and the setting by which a gateway asks there.
pub(crate) fn down() -> (TcpSocket, String) {
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let setting = format!("resolver.url=http://{}", closed.local_addr().unwrap());
    (closed, setting)
}

#[tokio::test]
async fn a_platform_that_is_down_is_no_answer() {
    let (_closed, setting) = down();
    let data = tempdir().unwrap();
    let refusing = gateway(data.path(), setting.clone(), &[]);
    let id = SessionId::random();
    assert_eq!(
        reason(&ask(&refusing, id, Intent::Api).await),
        "resolver_failed"
    );
    assert!(!folder(data.path(), id).exists());
    drop(refusing);
    let fine = gateway(data.path(), setting, &["resolver.failure=defaults"]);
    started_as(&fine, data.path(), id, "default-project", "default-user").await;
}
