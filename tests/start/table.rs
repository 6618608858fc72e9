//! The table of who starts a session, who waits and who is refused: every cell, however the request comes.

use futures_util::future::join_all;
use http::{Request, StatusCode};
use http_body_util::Full;
use session_gateway::{
    activator::InstanceUid,
    session::{Found, Intent, SessionId},
};

use crate::support::{
    Gateway, Sample, Service, Way,
    client::{self, EMBEDDER},
    samples,
    table::{Gets, STATES, State, TABLE, ask, check, prepare, seen},
    tls::Localhost,
    until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_gets_what_the_table_says_and_starts_what_it_may_however_it_comes() {
    let localhost = Localhost::new();
    let ways = [Way::Http1, Way::Http2, Way::Tls1, Way::Tls2];
    join_all(ways.map(|way| every_cell(way, &localhost))).await;
}

async fn every_cell(way: Way, localhost: &Localhost) {
    let service = Service::new(|request| async move { seen(&request) }).await;
    let mut settings = vec![format!("embedders={{{EMBEDDER}}}")];
    if way.is_tls() {
        settings.extend(localhost.settings());
    }
    let settings: Vec<&str> = settings.iter().map(|it| &**it).collect();
    let gateway = Gateway::with(service.address, &settings);
    for (intent, row) in TABLE {
        for sample in samples(intent) {
            for (state, cell) in STATES.into_iter().zip(row) {
                let asked = (intent, sample.clone());
                one_cell(&gateway, (way, localhost), asked, state, cell).await;
            }
        }
    }
}

async fn one_cell(
    gateway: &Gateway,
    (way, localhost): (Way, &Localhost),
    (intent, sample): (Intent, Sample),
    state: State,
    (gets, starts): (Gets, usize),
) {
    let id = SessionId::random();
    let ending = enter(gateway, id, state).await;
    let before = gateway.sessions.starts();
    let path = format!("/{id}/preview/x?y");
    let cell = format!("{intent:?} {sample:?} while {state:?} over {way:?}");
    let mut kept = way.connect(gateway.address, localhost).await.unwrap();
    prepare(&mut kept, way, intent).await;
    let send = ask(&mut kept, way, (intent, sample), &path);
    let release = async {
        if gets == Gets::Held {
            gateway.until_held(id, 1).await;
            if let Some(uid) = ending {
                gateway.sessions.facts().gone(id, uid);
            }
            gateway.sessions.gate(true);
        }
    };
    let (reply, ()) = tokio::join!(send, release);
    check(&reply, gets, &path, intent, &cell);
    until(&format!("{starts} starts by {cell}"), || {
        gateway.sessions.starts() - before >= starts
    })
    .await;
    let under_way = gateway.slot(id).start.is_some() && state != State::Starting;
    assert!(starts > 0 || !under_way, "a start by {cell}");
    let begun = gateway.sessions.starts() - before;
    assert_eq!(begun, starts, "starts by {cell}");
    gateway.sessions.gate(true);
    gateway.sessions.fail(false);
}

/// Brings a session into a state; of one that is ending, which instance.
async fn enter(gateway: &Gateway, id: SessionId, state: State) -> Option<InstanceUid> {
    let sessions = &gateway.sessions;
    sessions.gate(false);
    match state {
        State::Absent => {}
        State::Stopped => sessions.record(id, Found::Stopped),
        State::Vanished => sessions.record(id, Found::Vanished),
        State::Starting => {
            let before = sessions.starts();
            start(gateway, id).await;
            until("the start is under way", || sessions.starts() > before).await;
        }
        State::Failed => {
            sessions.fail(true);
            sessions.gate(true);
            start(gateway, id).await;
            until("the start has failed", || {
                gateway.slot(id).failure.is_some()
            })
            .await;
        }
        State::Ending | State::Running => {
            sessions.gate(true);
            start(gateway, id).await;
            gateway.until_running(id).await;
            if state == State::Ending {
                sessions.gate(false);
                let uid = gateway.slot(id).instance.expect("it runs").uid();
                sessions.facts().ending(id, uid);
                return Some(uid);
            }
        }
    }
    None
}

/// Starts it by the operators' port, which is never encrypted.
async fn start(gateway: &Gateway, id: SessionId) {
    let request = Request::post(format!("/api/sessions/{id}/start"));
    let request = request.header("host", gateway.admin.to_string());
    let started = client::send(gateway.admin, request.body(Full::default()).unwrap()).await;
    assert_eq!(started.status, StatusCode::ACCEPTED, "{started:?}");
}
