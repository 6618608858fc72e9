//! A session of this machine that has run for as long as it may, over sockets: told before, ended with a Close, and
//! there again at the next visit.

use std::{fs, path::Path, process::Command};

use futures_util::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use jiff::Timestamp;
use serde_json::{Value, json};
use session_gateway::session::{Intent, SessionId};
use tempfile::tempdir;
use tokio::time::{Duration, sleep, timeout};
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

use crate::support::{
    DEADLINE, Way,
    kept::{Socket, nothing},
    sample,
    serve::Serve,
};

const SETTINGS: &str = "idle.max_age=6s,idle.countdown=3s";
const API: &[(&str, &str)] = &[("accept", "application/json")];

/// A gateway with a session that has a file.
async fn started(data: &Path, settings: &str) -> (Serve, SessionId) {
    let gateway = Serve::start(data, &[settings.to_owned()]);
    let id = gateway.id;
    let begun = gateway.send("GET", &format!("/{id}/chat/"), API).await;
    assert_eq!(begun.status, 200, "{begun:?}");
    let file = data.join(format!("sessions/{id}/workspace/kept"));
    fs::write(file, "mine").unwrap();
    (gateway, id)
}

pub(crate) async fn status(gateway: &Serve, id: SessionId) -> Value {
    let reply = gateway.send("GET", &format!("/{id}/-/status"), API).await;
    serde_json::from_slice(&reply.body).expect("a status")
}

/// Follows the session's events until one tells of a stop, and returns that.
async fn until_told(gateway: &Serve, id: SessionId) -> Value {
    let mut line = Way::Http1.plain(gateway.address).await.unwrap();
    let asked = line.ask("GET", &format!("/{id}/-/events"));
    let mut events = line
        .send(asked.body(nothing()).unwrap())
        .await
        .unwrap()
        .into_body();
    loop {
        let frame = timeout(DEADLINE, events.frame()).await.expect("in time");
        let data = frame.expect("it goes on").unwrap().into_data().unwrap();
        let text = std::str::from_utf8(&data).unwrap();
        let event = text.lines().find_map(|line| line.strip_prefix("data: "));
        let event: Value = serde_json::from_str(event.unwrap_or("{}")).unwrap();
        if event.get("stop").is_some() {
            return event;
        }
    }
}

/// Speaks without a pause until a Close comes; returns that, and how much came before.
async fn busy(mut socket: Socket) -> (CloseCode, usize) {
    let mut got = 0;
    loop {
        // What is sent after the Close is lost.
        let question = json!({ "message": "And then?" }).to_string();
        let _ = socket.send(Message::text(question)).await;
        match timeout(DEADLINE, socket.next()).await.expect("in time") {
            Some(Ok(Message::Close(Some(close)))) => return (close.code, got),
            Some(Ok(_)) => got += 1,
            other => panic!("no Close came, but {other:?}"),
        }
    }
}

/// Its page says why, nothing takes it back, and requests wait for nothing.
async fn not_taken_back(gateway: &Serve, id: SessionId, told: &Value) {
    let page = gateway
        .send("GET", &format!("/{id}/"), &sample(Intent::Navigation).1)
        .await;
    for part in [
        r#"data-why="idle" hidden><button>Keep"#,
        r#"data-why="max_age">starts it again"#,
    ] {
        assert!(page.text().contains(part), "{part}: {}", page.text());
    }
    let kept = gateway.send("POST", &format!("/{id}/-/keep"), API).await;
    assert_eq!(
        (kept.status.as_u16(), &*kept.code()),
        (409, "max_age_reached")
    );
    assert!(
        kept.text().contains("its files are kept"),
        "{}",
        kept.text()
    );
    let form = gateway
        .send("POST", &format!("/{id}/-/keep"), &[("accept", "text/html")])
        .await;
    assert_eq!(
        (form.status.as_u16(), form.state()),
        (409, "max_age_reached")
    );
    assert_eq!(
        gateway
            .send("GET", &format!("/{id}/chat/"), API)
            .await
            .status,
        200
    );
    assert_eq!(
        status(gateway, id).await["stop"],
        told["stop"],
        "used or not"
    );
}

#[tokio::test]
async fn a_session_in_use_is_told_of_its_end_and_is_there_again_at_the_next_visit() {
    let data = tempdir().unwrap();
    let (gateway, id) = started(data.path(), SETTINGS).await;
    let path = format!("/{id}/chat/");
    let mut line = Way::Http1.plain(gateway.address).await.unwrap();
    let socket = line.websocket(&format!("{path}ws")).await.unwrap();
    let busy = tokio::spawn(busy(socket));

    let told = until_told(&gateway, id).await;
    assert_eq!(
        (&told["because"], &told["state"]),
        (&json!("max_age"), &json!("running"))
    );
    assert!(told["left"].as_u64().unwrap() <= 3, "{told}");
    not_taken_back(&gateway, id, &told).await;

    let (code, got) = timeout(DEADLINE, busy).await.unwrap().unwrap();
    // The gateway's, or that of the service, which is told to end a moment later.
    assert_eq!(code, CloseCode::Away);
    assert!(got > 0, "it was in use");
    let stop: Timestamp = told["stop"].as_str().unwrap().parse().unwrap();
    assert!(Timestamp::now() >= stop);
    while status(&gateway, id).await["state"] == "stopping" {
        sleep(Duration::from_millis(10)).await;
    }
    let asset = gateway.send("GET", &path, &sample(Intent::Asset).1).await;
    assert_eq!(
        &*asset.code(),
        "session_stopped",
        "no page of it starts it again"
    );

    assert_eq!(gateway.send("GET", &path, API).await.status, 200);
    let file = data.path().join(format!("sessions/{id}/workspace/kept"));
    assert_eq!(fs::read_to_string(file).unwrap(), "mine");
    assert_eq!(status(&gateway, id).await.get("because"), None);
}

/// The operators' port, the command line, and the dashboard's events say the same.
#[tokio::test]
async fn operators_are_told_why_it_will_be_stopped_and_that_it_is_not_kept() {
    let data = tempdir().unwrap();
    let (gateway, id) = started(data.path(), "idle.max_age=1h,idle.countdown=1h").await;
    until_told(&gateway, id).await;
    let run = |call: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_session-gateway"))
            .args([
                "sessions",
                call,
                &id.to_string(),
                "--admin",
                &gateway.admin.to_string(),
            ])
            .output()
            .expect("the program runs");
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), text)
    };
    let (code, text) = run("show");
    assert!(code == Some(0) && text.contains("Z (max_age)\n"), "{text}");
    let (code, text) = run("keep");
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("has run for as long as a session may"),
        "{text}"
    );
    let told = gateway.ask("GET", &format!("/api/sessions/{id}")).await;
    let told: Value = serde_json::from_slice(&told.body).unwrap();
    assert_eq!(told["because"], "max_age");
    let kept = gateway
        .ask("POST", &format!("/api/sessions/{id}/keep"))
        .await;
    assert_eq!(
        (kept.status.as_u16(), kept.header("content-type")),
        (409, "application/problem+json")
    );
    assert_eq!(status(&gateway, id).await["state"], "running");
}

/// A tab that is left open is told as well, between two frames.
#[tokio::test]
async fn a_quiet_websocket_is_closed_when_nobody_uses_its_session() {
    let data = tempdir().unwrap();
    let settings = "idle.after=1s,idle.countdown=1s";
    let (gateway, id) = started(data.path(), settings).await;
    let mut line = Way::Http1.plain(gateway.address).await.unwrap();
    let mut socket = line.websocket(&format!("/{id}/chat/ws")).await.unwrap();
    assert_eq!(until_told(&gateway, id).await["because"], "idle");
    let end = timeout(DEADLINE, socket.next()).await.expect("in time");
    let Some(Ok(Message::Close(Some(close)))) = end else {
        panic!("no Close came, but {end:?}");
    };
    // The gateway's, or that of the service, which is told to end a moment later.
    assert_eq!(close.code, CloseCode::Away);
}
