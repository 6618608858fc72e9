//! The program as a whole: how it ends, on request and without warning, and what it tells of services that fail.

mod drain;
mod load;

use std::{net::TcpListener, time::Duration};

use futures_util::future::join;
use http::StatusCode;
use session_gateway::session::{Intent, SessionId};
use tempfile::tempdir;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::support::{
    DEADLINE, long, processes, sample,
    serve::{Serve, try_send},
};

/// Starts and stops, while the gateway is killed at a random moment: nothing is left, and the next one goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_outlives_a_gateway_killed_at_any_moment() {
    let rounds = if long() { 200 } else { 20 };
    let data = tempdir().unwrap();
    let id = SessionId::random();
    let mut ports = Vec::new();
    for round in 0..rounds {
        let gateway = Serve::start(data.path(), &["local.grace=300ms".to_owned()]);
        let (address, admin) = (gateway.address, gateway.admin);
        let busy = async {
            let (start, stop) = (format!("/{id}/-/start"), format!("/{id}/-/stop"));
            let mut told = Vec::new();
            while try_send(address, "POST", &start).await.is_some() {
                let session = try_send(admin, "GET", &format!("/api/sessions/{id}")).await;
                told.extend(
                    session
                        .map(|session| addresses(session.text()))
                        .unwrap_or_default(),
                );
                if try_send(address, "POST", &stop).await.is_none() {
                    break;
                }
            }
            told
        };
        // A moment, not a wait for anything: from before the first start to the second or third stop.
        let moment = Duration::from_micros(Uuid::new_v4().as_u64_pair().0 % 250_000);
        let kill = async {
            sleep(moment).await;
            gateway.signal("KILL");
        };
        let (told, ()) = timeout(DEADLINE, join(busy, kill))
            .await
            .expect("it is killed");
        ports.extend(told);
        processes::none_left(id).await;
        for port in ports.drain(..) {
            let free = TcpListener::bind(("127.0.0.1", port));
            assert!(
                free.is_ok(),
                "port {port} is kept, round {round} at {moment:?}"
            );
        }
    }
    let gateway = Serve::start(data.path(), &[]);
    assert_eq!(gateway.id, id, "it offers the session that there is");
    let reply = gateway.send("GET", &format!("/{id}/preview/"), &[]).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
}

fn addresses(session: &str) -> Vec<u16> {
    let session: serde_json::Value = serde_json::from_str(session).unwrap_or_default();
    let services = session["services"].as_array().cloned().unwrap_or_default();
    let ports = services.iter().filter_map(|service| {
        service["address"]
            .as_str()?
            .rsplit(':')
            .next()?
            .parse()
            .ok()
    });
    ports.collect()
}

/// SIGTERM and SIGINT: sessions are ended with the gateway, their files are found by the next.
#[tokio::test]
async fn a_gateway_that_is_asked_to_end_leaves_nothing_and_forgets_nothing() {
    let data = tempdir().unwrap();
    let mut known = None;
    for signal in ["TERM", "INT"] {
        let mut gateway = Serve::start(data.path(), &[]);
        let id = *known.get_or_insert(gateway.id);
        let reply = gateway.send("GET", &format!("/{id}/preview/"), &[]).await;
        assert_eq!((reply.status, gateway.id), (StatusCode::OK, id));
        assert!(!processes::of(id).is_empty());
        gateway.signal(signal);
        assert!(gateway.ended().success(), "SIG{signal}");
        assert_eq!(
            processes::of(id).len(),
            0,
            "nothing is left once it has ended"
        );
        let file = data
            .path()
            .join(format!("sessions/{id}/workspace/index.html"));
        assert!(file.exists(), "the workspace is kept");
    }
}

/// A service that fails is told within a second, with its last words; the others run.
#[tokio::test]
async fn a_service_that_fails_is_told_with_its_last_words() {
    let data = tempdir().unwrap();
    let command =
        "local.services.preview.command={sh,-c,'echo no such thing >&2; exit 3'}".replace('\'', "");
    let missing = "local.services.chat.command={/nowhere/chat}".to_owned();
    let gateway = Serve::start(data.path(), &[command, missing]);
    let id = gateway.id;
    let begun = Instant::now();
    let reply = gateway.send("GET", &format!("/{id}/preview/"), &[]).await;
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "ten times what it may take"
    );
    let problem: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(
        (reply.status, &*reply.code()),
        (StatusCode::SERVICE_UNAVAILABLE, "session_failed")
    );
    assert_eq!(problem["reason"]["code"], "service_exited");
    assert_eq!(
        problem["reason"]["message"],
        "the service ended by itself, exit code 3"
    );
    assert_eq!(problem["reason"]["output"], "no such thing");

    let page = gateway
        .send(
            "GET",
            &format!("/{id}/preview/"),
            &sample(Intent::Navigation).1,
        )
        .await;
    assert_eq!(
        (page.status, page.state()),
        (StatusCode::SERVICE_UNAVAILABLE, "failed")
    );
    for part in [
        "exit code 3",
        "no such thing",
        &format!("action=\"/{id}/-/start\""),
    ] {
        assert!(
            page.text().contains(part),
            "{part} is missing in {}",
            page.text()
        );
    }
    let missing = gateway.send("GET", &format!("/{id}/chat/"), &[]).await;
    assert!(
        missing
            .text()
            .contains("/nowhere/chat: No such file or directory"),
        "{}",
        missing.text()
    );
    let editor = gateway.send("GET", &format!("/{id}/vscode/"), &[]).await;
    assert_eq!(editor.status, StatusCode::OK, "the others run");
    let told = gateway.ask("GET", &format!("/api/sessions/{id}")).await;
    assert!(told.text().contains("no such thing"), "{}", told.text());
}

/// Two gateways: on one folder, and on one port.
#[tokio::test]
async fn a_second_gateway_is_refused_and_told_why() {
    let data = tempdir().unwrap();
    let first = Serve::start(data.path(), &[]);
    let serve = |settings: String| {
        let program = env!("CARGO_BIN_EXE_session-gateway");
        let output = std::process::Command::new(program)
            .args(["serve", "--set", &settings])
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let ports = "listen=127.0.0.1:0,admin.listen=127.0.0.1:0";
    let (code, said) = serve(format!("{ports},local.data={}", data.path().display()));
    assert_eq!(code, Some(1));
    assert!(said.contains("is in use by the gateway with pid"), "{said}");
    let other = tempdir().unwrap();
    let address = first.address;
    let (code, said) = serve(format!(
        "listen={address},admin.listen=127.0.0.1:0,local.data={}",
        other.path().display()
    ));
    assert_eq!(code, Some(1));
    assert!(
        said.contains(&format!("cannot listen on {address}")),
        "{said}"
    );
}
