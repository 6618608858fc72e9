//! A session as it was deployed before, by Helm: found, routed and listed, and never changed.

use std::process::Command;

use k8s_openapi::api::{
    core::v1::{Namespace, ServiceAccount},
    networking::v1::Ingress,
};
use kube::api::ListParams;
use serde_json::Value;
use session_gateway::session::SessionId;

use super::{IMAGE, answered};
use crate::support::cluster::{API, Relay, helm};

const CHART: &str = "./deploy/charts/dev-session-template";
const PROGRAM: &str = env!("CARGO_BIN_EXE_session-gateway");

/// The words after `helm install` for a session.
fn install(id: SessionId, more: &[&str]) -> Vec<String> {
    let sets = [
        &format!("project.uuid={id}"),
        "project.id=7",
        "user.id=42",
        "image.repository=docker.io/library/dev-session",
        "image.tag=test",
        "image.pullPolicy=Never",
    ];
    let mut words = vec![
        "install".to_owned(),
        format!("dev-session-{id}"),
        CHART.to_owned(),
        format!("--namespace={id}"),
        "--create-namespace".to_owned(),
    ];
    for set in sets.iter().chain(more) {
        words.extend(["--set".to_owned(), (*set).to_owned()]);
    }
    words
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn a_session_of_the_chart_is_routed_and_listed_and_left_alone() {
    let relay = Relay::new().await;
    let gateway = relay.gateway(&IMAGE).await;
    let id = SessionId::random();
    let dry = [install(id, &[]), vec!["--dry-run=server".to_owned()]].concat();
    helm(&dry);
    // Ports of a chart's release may differ from those that the gateway is configured with.
    helm(&install(
        id,
        &["ingress.enabled=true", "ingress.host=sessions.example"],
    ));
    let pods = relay.within::<k8s_openapi::api::core::v1::Pod>(&id.to_string());
    until_async("the chart's pod runs", async || {
        let all = pods.list(&ListParams::default()).await.expect("a list");
        all.items.iter().any(|pod| {
            let status = pod.status.as_ref();
            status.and_then(|status| status.phase.as_deref()) == Some("Running")
        })
    })
    .await;
    let accounts = relay.within::<ServiceAccount>(&id.to_string());
    let name = format!("dev-session-{id}");
    let before = accounts
        .get(&name)
        .await
        .expect("it is there")
        .metadata
        .resource_version;
    let reply = gateway.send("GET", &format!("/{id}/chat/x"), API).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(answered(reply.text(), "session"), id.to_string());
    let listed = gateway.ask("GET", "/api/sessions?limit=1000").await;
    let listed: Value = serde_json::from_slice(&listed.body).expect("a list");
    let listed = listed["sessions"].as_array().expect("sessions");
    let found = listed
        .iter()
        .find(|one| one["id"] == id.to_string())
        .expect("it is listed");
    assert_eq!(
        (&found["state"], &found["project"], &found["user"]),
        (&"running".into(), &"7".into(), &"42".into())
    );

    let stop = gateway.send("POST", &format!("/{id}/-/stop"), API).await;
    assert!(!stop.status.is_success(), "{stop:?}");
    assert!(
        relay.writes().await.is_empty(),
        "{:#?}",
        relay.writes().await
    );
    assert_eq!(
        accounts
            .get(&name)
            .await
            .expect("it is there")
            .metadata
            .resource_version,
        before
    );
    let ingresses = relay.within::<Ingress>(&id.to_string());
    assert!(
        !ingresses
            .list(&ListParams::default())
            .await
            .expect("a list")
            .items
            .is_empty()
    );

    helm(&[
        "uninstall".to_owned(),
        name,
        format!("--namespace={id}"),
        "--wait".to_owned(),
    ]);
    assert!(
        relay.objects(id).await.is_empty(),
        "{:?}",
        relay.objects(id).await
    );
    assert!(
        ingresses
            .list(&ListParams::default())
            .await
            .expect("a list")
            .items
            .is_empty()
    );
    let namespaces: kube::Api<Namespace> = relay.namespaces();
    namespaces
        .get(&id.to_string())
        .await
        .expect("the namespace stays");
}

/// What only one of the two has: who made it, and how it is kept.
const APART: [&str; 4] = [
    "app.kubernetes.io/managed-by",
    "helm.sh/chart",
    "app.kubernetes.io/version",
    "dev-session/plan",
];

/// The names, labels and specs of what both make, without what is apart.
fn comparable(kind: &str, mut object: Value) -> Option<(String, Value)> {
    let metadata = object["metadata"].take();
    let mut labels = metadata["labels"].clone();
    let mut spec = object["spec"].take();
    let mut name = metadata["name"].as_str()?.to_owned();
    if kind == "Deployment" {
        labels = spec["template"]["metadata"]["labels"].take();
        spec = spec["template"]["spec"].take();
        name = format!("Pod {name}");
    } else {
        name = format!("{kind} {name}");
    }
    if let Some(labels) = labels.as_object_mut() {
        labels.retain(|key, _| !APART.contains(&key.as_str()));
    }
    Some((name, serde_json::json!([labels, spec])))
}

#[test]
fn the_chart_and_the_gateway_make_the_same_session() {
    let id = SessionId::random();
    let mut words = install(id, &[]);
    words[0] = "template".to_owned();
    let chart = objects(&helm(&words));
    let rendered = Command::new(PROGRAM)
        .args([
            "render",
            &id.to_string(),
            "--set",
            "project.id=7,user.id=42",
        ])
        .args(IMAGE.iter().flat_map(|set| ["--set", *set]))
        .output()
        .expect("the program runs");
    assert!(rendered.status.success(), "{rendered:?}");
    let gateway = objects(&String::from_utf8(rendered.stdout).expect("text"));
    let mut both = 0;
    for (name, object) in &chart {
        let ours = gateway.iter().find(|(other, _)| other == name);
        let (_, ours) = ours.unwrap_or_else(|| panic!("the gateway does not make {name}"));
        assert_eq!(ours, object, "{name}");
        both += 1;
    }
    assert_eq!(both, 7, "account, claim, pod and four Services");
}

fn objects(text: &str) -> Vec<(String, Value)> {
    let documents = text.split("\n---").filter(|text| text.contains("kind:"));
    documents
        .filter_map(|text| {
            let node =
                session_gateway::settings::yaml::parse(text.trim_start_matches("---"), &|_| {
                    session_gateway::settings::Origin::Default
                });
            let object = node.expect("it is YAML").value.json();
            let kind = object["kind"].as_str()?.to_owned();
            comparable(&kind, object)
        })
        .collect()
}

/// Asks again and again until something is true.
async fn until_async(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = tokio::time::Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < crate::support::DEADLINE, "not so: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
