//! The image of the Dockerfile, installed by its chart: only with `--long`, since it is compiled for it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Service},
};
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;
use session_gateway::session::SessionId;
use tokio::time::{Instant, sleep};

use super::answered;
use crate::support::{
    DEADLINE,
    cluster::{Relay, helm},
    serve::try_send,
};

const CHART: &str = "./deploy/charts/session-gateway";
const NAMESPACE: &str = "gateways";
const NAME: &str = "session-gateway";
/// Clients that ask all the time.
const CLIENTS: usize = 8;

fn install() {
    let sets = [
        "auth.none_is_fine=true",
        "replicas=1",
        "image.repository=docker.io/library/session-gateway",
        "image.tag=test",
        "image.pullPolicy=Never",
        "config.image.repository=docker.io/library/dev-session",
        "config.image.tag=test",
        "config.image.pullPolicy=Never",
    ];
    let mut words: Vec<String> = [
        "install",
        NAME,
        CHART,
        "--create-namespace",
        "--wait",
        "--timeout=60s",
    ]
    .map(str::to_owned)
    .to_vec();
    words.push(format!("--namespace={NAMESPACE}"));
    words.extend(
        sets.iter()
            .flat_map(|set| ["--set".to_owned(), (*set).to_owned()]),
    );
    helm(&words);
}

/// What clients saw since they began.
#[derive(Default)]
struct Seen {
    ends: AtomicBool,
    well: AtomicUsize,
    failed: AtomicUsize,
}

async fn ask_all_the_time(address: SocketAddr, id: SessionId, seen: Arc<Seen>) {
    while !seen.ends.load(Ordering::Relaxed) {
        let reply = try_send(address, "GET", &format!("/{id}/chat/")).await;
        let well = reply.is_some_and(|reply| reply.status == 200);
        let count = if well { &seen.well } else { &seen.failed };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sets how many gateways there should be, and waits until there are as many, and no other.
async fn scale(relay: &Relay, replicas: usize) {
    let deployments = relay.within::<Deployment>(NAMESPACE);
    let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
    deployments
        .patch(NAME, &PatchParams::default(), &patch)
        .await
        .expect("it is scaled");
    let pods = relay.within::<Pod>(NAMESPACE);
    let begun = Instant::now();
    loop {
        let all = pods
            .list(&ListParams::default())
            .await
            .expect("a list")
            .items;
        let ready = all.iter().filter(|pod| {
            let conditions = pod
                .status
                .iter()
                .flat_map(|status| status.conditions.iter().flatten());
            conditions
                .into_iter()
                .any(|one| one.type_ == "Ready" && one.status == "True")
        });
        if ready.count() == replicas && all.len() == replicas {
            return;
        }
        // An end takes its time: pods are given seconds to become unknown to everybody.
        assert!(
            begun.elapsed() < 3 * DEADLINE,
            "{replicas} gateways: {all:#?}"
        );
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_image_serves_by_its_service_and_scaling_fails_no_request() {
    let relay = Relay::new().await;
    install();
    let service = relay
        .within::<Service>(NAMESPACE)
        .get(NAME)
        .await
        .expect("it is there");
    let spec = service.spec.expect("a spec");
    let address: IpAddr = spec
        .cluster_ip
        .and_then(|ip| ip.parse().ok())
        .expect("an address");
    let address = SocketAddr::new(address, 80);
    let id = SessionId::random();
    let first = try_send(address, "GET", &format!("/{id}/chat/x"))
        .await
        .expect("an answer");
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(answered(first.text(), "session"), id.to_string());

    let seen = Arc::new(Seen::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| tokio::spawn(ask_all_the_time(address, id, Arc::clone(&seen))))
        .collect();
    scale(&relay, 2).await;
    let with_two = seen.well.load(Ordering::Relaxed);
    scale(&relay, 1).await;
    seen.ends.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("it ends");
    }
    let (well, failed) = (
        seen.well.load(Ordering::Relaxed),
        seen.failed.load(Ordering::Relaxed),
    );
    eprintln!(
        "measured: {well} requests while gateways were scaled from 1 to 2 to 1, {failed} failed"
    );
    assert!(
        with_two > 0 && well > with_two,
        "{with_two} and {well} requests"
    );
    assert_eq!(failed, 0, "of {well}");
}
