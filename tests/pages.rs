//! What people see of a session that is not there, over real sockets; how it looks is for a browser.

mod events;

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use session_gateway::{
    activator::{InstanceUid, Observed, Progress},
    session::{ExitStatus, Found, Intent, Reason, SessionId},
};
use tokio::time::Instant;
use uuid::Uuid;

use crate::support::{
    DEADLINE, Gateway, Reply, Service, Way, client, kept::nothing, sample, serve::Serve,
};

/// Opens the preview of a session as a person does.
async fn open(gateway: &Gateway, id: SessionId) -> Reply {
    let headers = sample(Intent::Navigation).1;
    gateway
        .send("GET", &format!("/{id}/preview/"), &headers)
        .await
}

/// After how many seconds a page asks again by itself, if it does.
fn refresh(page: &Reply) -> Option<u64> {
    let (_, rest) = page
        .text()
        .split_once(r#"<meta http-equiv="refresh" content=""#)?;
    rest.split('"').next()?.parse().ok()
}

#[tokio::test]
async fn the_page_of_a_failure_that_may_pass_looks_again_and_finds_the_service() {
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &[]);
    let id = gateway.runs().await;
    let facts = gateway.sessions.facts();
    let uid = gateway.slot(id).instance.expect("it runs").uid();

    let status = ExitStatus::Code(3);
    let output = "no such module".into();
    let exited = Reason::Exited { status, output };
    facts.broke(id, uid, gateway.service("preview"), exited);
    let page = open(&gateway, id).await;
    assert_eq!((page.state(), refresh(&page)), ("failed", None), "{page:?}");
    assert!(!page.text().contains("by itself, and opens"), "{page:?}");

    // The same in a cluster: a pod that waits for a machine.
    facts.gone(id, uid);
    let (uid, error) = (InstanceUid(Uuid::new_v4()), "0/3 nodes: insufficient cpu");
    let error = error.into();
    let stuck = Progress::Stuck(Arc::new(Reason::Unschedulable { error }));
    facts.pending(id, uid, stuck);
    let page = open(&gateway, id).await;
    assert_eq!(
        (page.state(), refresh(&page)),
        ("failed", Some(5)),
        "{page:?}"
    );
    for part in ["looks again by itself", "unschedulable", "insufficient cpu"] {
        assert!(page.text().contains(part), "{part}: {page:?}");
    }
    facts.saw(id, Observed::new(uid, vec![service.address; 3]));
    gateway.until_running(id).await;
    let page = open(&gateway, id).await;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(gateway.sessions.starts(), 0, "it was there all the time");
}

/// The policy of a page, without the nonce that makes it this page's; its own style and script have the same one.
fn policy(page: &Reply, nonces: &mut BTreeSet<String>) -> String {
    let policy = page.header("content-security-policy");
    let (_, rest) = policy.split_once("'nonce-").expect(policy);
    let nonce = rest.split('\'').next().expect(policy);
    assert_eq!(nonce.len(), 32, "{policy}");
    assert!(nonces.insert(nonce.to_owned()), "{nonce} is used again");
    for tag in ["<style", "<script"] {
        for rest in page.text().split(tag).skip(1) {
            let start = format!(" nonce=\"{nonce}\">");
            assert!(rest.starts_with(&start), "{tag}{rest}");
        }
    }
    policy.replace(nonce, "N")
}

#[tokio::test]
async fn every_page_of_our_own_may_load_nothing_but_its_own_style_and_script() {
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &["spawn.limits.starts_per_client=1"]);
    let (sessions, id) = (&gateway.sessions, gateway.runs().await);
    let navigation = sample(Intent::Navigation).1;
    let submission = sample(Intent::Submission).1;
    let foreign = [
        &navigation[..1],
        &[
            ("sec-fetch-dest", "iframe"),
            ("sec-fetch-site", "cross-site"),
        ],
    ]
    .concat();
    let [stopped, ending, failed, starting, limited] = [(); 5].map(|()| SessionId::random());
    sessions.record(stopped, Found::Stopped);
    let uid = InstanceUid(Uuid::new_v4());
    let addresses = vec![service.address; 3];
    sessions.facts().saw(ending, Observed::new(uid, addresses));
    sessions.facts().ending(ending, uid);
    let (error, is_stuck) = ("no such image".into(), InstanceUid(Uuid::new_v4()));
    let stuck = Progress::Stuck(Arc::new(Reason::Unschedulable { error }));
    sessions.facts().pending(failed, is_stuck, stuck);
    sessions.gate(false);
    let mut nonces = BTreeSet::new();
    for (method, path, headers, state) in [
        ("GET", format!("/{id}/"), &navigation, "running"),
        ("GET", format!("/{stopped}/"), &navigation, "stopped"),
        ("GET", format!("/{starting}/chat/"), &navigation, "starting"),
        ("GET", format!("/{ending}/chat/"), &navigation, "stopping"),
        ("GET", format!("/{failed}/chat/"), &navigation, "failed"),
        ("GET", format!("/{limited}/chat/"), &navigation, "limited"),
        ("POST", format!("/{stopped}/chat/"), &submission, "stopped"),
        ("GET", "/nothing".to_owned(), &navigation, "not_found"),
        ("GET", format!("/{id}/chat/"), &foreign, "cross_site"),
    ] {
        let page = gateway.send(method, &path, headers).await;
        assert_eq!(page.state(), state, "{path}: {page:?}");
        assert_eq!(
            policy(&page, &mut nonces),
            "default-src 'none'; style-src 'nonce-N'; script-src 'nonce-N'; connect-src 'self'; form-action 'self'; \
             frame-ancestors 'none'; base-uri 'none'",
            "{path}"
        );
    }
    let dashboard = gateway.request(
        "GET",
        "/",
        &[("host", &gateway.admin.to_string())],
        Bytes::new(),
    );
    let dashboard = client::send(gateway.admin, dashboard).await;
    assert_eq!(
        dashboard.header("content-security-policy"),
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    );
}

/// RFC 9110 section 9.3.2: what GET would get, without its content.
#[tokio::test]
async fn a_head_gets_the_head_of_the_gateways_own_answers() {
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &[]);
    let id = SessionId::random();
    for way in [Way::Http1, Way::Http2] {
        let mut line = way.plain(gateway.address).await.unwrap();
        for path in [
            format!("/{id}/"),
            format!("/{id}/-/status"),
            format!("/{id}/chat/"),
            "/nothing".to_owned(),
        ] {
            let mut lengths = Vec::new();
            for (method, whole) in [("GET", true), ("HEAD", false)] {
                let asked = line
                    .ask(method, &path)
                    .header("sec-fetch-site", "same-origin");
                let answer = line.send(asked.body(nothing()).unwrap()).await.unwrap();
                lengths.push(answer.headers()["content-length"].clone());
                let body = answer.into_body().collect().await;
                let body = body.expect("HTTP/2 has no content after a HEAD").to_bytes();
                let length = lengths[0].to_str().unwrap().parse().unwrap();
                assert_eq!(
                    body.len(),
                    if whole { length } else { 0 },
                    "{method} {path}"
                );
            }
            assert_eq!(lengths[0], lengths[1], "{path}");
        }
    }
}

/// The last lines of what runs, which is asked no more than once in two seconds, as text and nothing else.
#[tokio::test]
async fn the_sessions_page_shows_what_its_services_said_last() {
    let data = tempfile::tempdir().unwrap();
    let said = "for n in 1 2 3 4 5 6; do echo line $n of '<b>'; done; exec sleep 1000";
    let gateway = Serve::start(
        data.path(),
        &[format!("local.services.chat.command={{sh,-c,{said}}}")],
    );
    let id = gateway.id;
    let navigation = sample(session_gateway::session::Intent::Navigation).1;
    let page = async || {
        let page = gateway.send("GET", &format!("/{id}/"), &navigation).await;
        assert_eq!(page.status, StatusCode::OK);
        page.text().to_owned()
    };
    assert!(!page().await.contains("said last"));
    gateway
        .send("GET", &format!("/{id}/preview/"), &navigation)
        .await;
    let begun = Instant::now();
    let shown = loop {
        let page = page().await;
        if page.contains("line 6 of") {
            break page;
        }
        assert!(begun.elapsed() < DEADLINE, "{page}");
    };
    let lines = "line 2 of &#60;b&#62;\nline 3 of &#60;b&#62;\nline 4";
    let is_whole = shown.contains("chat said last") && shown.contains(lines);
    assert!(is_whole && !shown.contains("line 1 of"), "{shown}");
    let stopped = gateway.send("POST", &format!("/{id}/-/stop"), &[]).await;
    assert_eq!(stopped.status, StatusCode::OK);
    assert!(!page().await.contains("said last"));
}
