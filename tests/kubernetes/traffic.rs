//! Traffic while pods come and go: websockets, and addresses that two pods claim.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use futures_util::{SinkExt, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use session_gateway::session::SessionId;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

use super::{repair::stops, shape::starts};
use crate::support::{
    DEADLINE,
    cluster::{API, Relay},
    serve::Serve,
};

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A port of all pods that takes websockets: each first hears the address that it came to, then what it says itself.
pub(super) async fn sockets() -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let address = stream.local_addr().expect("it is connected").ip();
            tokio::spawn(async move {
                // A probe connects and says nothing.
                let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else {
                    return;
                };
                let mut message = Message::text(address.to_string());
                while socket.send(message).await.is_ok() {
                    match socket.next().await {
                        Some(Ok(said)) if !said.is_close() => message = said,
                        _ => return,
                    }
                }
            });
        }
    });
    port
}

pub(super) async fn open(gateway: &Serve, id: SessionId) -> (Socket, String) {
    let url = format!("ws://{}/{id}/vscode/", gateway.address);
    let connect = tokio_tungstenite::connect_async(url);
    let (mut socket, _) = timeout(DEADLINE, connect)
        .await
        .expect("in time")
        .expect("it opens");
    let address = next(&mut socket)
        .await
        .into_text()
        .expect("text")
        .to_string();
    (socket, address)
}

async fn next(socket: &mut Socket) -> Message {
    let message = timeout(DEADLINE, socket.next()).await.expect("in time");
    message.expect("it is open").expect("it is well")
}

/// Waits until a websocket ends, in whatever way.
async fn ends(socket: &mut Socket) {
    let end = async {
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() {
                return;
            }
        }
    };
    timeout(DEADLINE, end).await.expect("it ends");
}

/// A websocket starts the session and goes on for as long as its pod does; its client comes again and reaches the new
/// one.
#[tokio::test]
async fn a_websocket_starts_its_session_and_ends_with_its_pod() {
    let relay = Relay::apart().await;
    let port = sockets().await;
    let gateway = relay
        .gateway(&[&format!("service.vscode.port={port}")])
        .await;
    let id = SessionId::random();
    let (mut socket, address) = open(&gateway, id).await;
    assert_eq!(Some(&address), address_of(&relay, id).await.as_ref());
    for _ in 0..100 {
        socket
            .send(Message::text("keystroke"))
            .await
            .expect("it is open");
        assert_eq!(next(&mut socket).await, Message::text("keystroke"));
    }

    let pods = relay.within::<Pod>(&relay.namespace(id));
    let name = format!("dev-session-{id}");
    let deleted = pods
        .delete(&name, &DeleteParams::default().grace_period(0))
        .await;
    deleted.expect("it is deleted");
    ends(&mut socket).await;
    let (mut again, address) = open(&gateway, id).await;
    assert_eq!(
        Some(&address),
        address_of(&relay, id).await.as_ref(),
        "the new pod's"
    );
    // A stop ends it too, and a websocket of a program may start the session again.
    stops(&gateway, id).await;
    ends(&mut again).await;
    open(&gateway, id).await;
}

async fn address_of(relay: &Relay, id: SessionId) -> Option<String> {
    relay.pod(id).await.status.and_then(|status| status.pod_ip)
}

/// While two pods claim one address, neither is sent anything: whose it is, only the network knows.
#[tokio::test]
async fn an_address_that_two_pods_claim_gets_no_request_until_one_has_it() {
    let relay = Relay::apart().await;
    let gateway = relay.gateway(&["spawn.hold=1s"]).await;
    let [one, other] = [SessionId::random(), SessionId::random()];
    for id in [one, other] {
        starts(&gateway, id).await;
    }
    let claimed = address_of(&relay, one).await.expect("it runs");
    let own = address_of(&relay, other).await.expect("it runs");
    claim(&relay, other, &claimed).await;
    // It learns of the claim by its watch.
    let begun = Instant::now();
    for id in [one, other] {
        loop {
            let reply = gateway.send("GET", &format!("/{id}/chat/"), API).await;
            if reply.status == 503 {
                break;
            }
            let by = reply.text().split(' ').next().unwrap_or_default();
            let before = if id == one { &claimed } else { &own };
            assert_eq!(by, before, "{reply:?}");
            assert!(begun.elapsed() < DEADLINE, "{id} is still answered");
        }
    }
    claim(&relay, other, &own).await;
    for (id, address) in [(one, claimed), (other, own)] {
        let by = starts(&gateway, id).await;
        assert!(by.starts_with(&address), "{by}");
    }
}

/// Gives the pod of a session this address.
async fn claim(relay: &Relay, id: SessionId, address: &str) {
    let pods = relay.within::<Pod>(&relay.namespace(id));
    let status = json!({ "status": { "podIP": address, "podIPs": [{ "ip": address }] } });
    let name = format!("dev-session-{id}");
    let patched = pods
        .patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
        .await;
    patched.expect("it is patched");
}

/// Pods are deleted under steady traffic of other sessions: those notice nothing, and of the session itself every
/// request is answered, by its old pod or its new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_vanishes_under_traffic_disturbs_nobody() {
    let relay = Arc::new(Relay::apart().await);
    let gateway = Arc::new(relay.gateway(&[]).await);
    let [steady, struck] = [SessionId::random(), SessionId::random()];
    for id in [steady, struck] {
        starts(&gateway, id).await;
    }
    let home: IpAddr = address_of(&relay, steady)
        .await
        .expect("it runs")
        .parse()
        .expect("one");
    let (done, sent) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let clients = [steady, struck].map(|id| {
        let (gateway, done, sent) = (Arc::clone(&gateway), Arc::clone(&done), Arc::clone(&sent));
        tokio::spawn(async move {
            while !done.load(Ordering::Relaxed) {
                let reply = gateway.send("GET", &format!("/{id}/chat/"), API).await;
                assert_eq!(reply.status, 200, "{reply:?}");
                let by: IpAddr = reply
                    .text()
                    .split(' ')
                    .next()
                    .expect("one")
                    .parse()
                    .expect("one");
                assert_eq!(by == home, id == steady, "{id} is answered by {by}");
                sent.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    let pods = relay.within::<Pod>(&relay.namespace(struck));
    let name = format!("dev-session-{struck}");
    for _ in 0..10 {
        let before = relay.pod(struck).await.metadata.uid;
        let gone = pods
            .delete(&name, &DeleteParams::default().grace_period(0))
            .await;
        gone.expect("it is deleted");
        let begun = Instant::now();
        loop {
            let pod = pods.get_opt(&name).await.expect("an answer");
            if pod.is_some_and(|pod| pod.metadata.uid != before && runs(&pod)) {
                break;
            }
            assert!(begun.elapsed() < DEADLINE, "no new pod");
        }
    }
    done.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("every request is answered");
    }
    assert!(sent.load(Ordering::Relaxed) > 100, "there was traffic");
}

fn runs(pod: &Pod) -> bool {
    pod.status
        .as_ref()
        .is_some_and(|status| status.phase.as_deref() == Some("Running"))
}
