//! What the settings make of a session, and where its objects may be.

use std::{collections::BTreeMap, process::Command};

use http::Request;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{ListParams, ObjectMeta, PostParams};
use serde_json::{Value, json};
use session_gateway::session::SessionId;
use tokio::time::{Duration, Instant};
use uuid::Uuid;

use super::{OBJECTS, names};
use crate::support::{
    DEADLINE,
    cluster::{API, ASSET, Relay},
    long,
    serve::Serve,
};

/// Every kind of object that a session could have.
const KINDS: [(&str, &str); 11] = [
    ("/api/v1", "configmaps"),
    ("/api/v1", "limitranges"),
    ("/api/v1", "persistentvolumeclaims"),
    ("/api/v1", "pods"),
    ("/api/v1", "resourcequotas"),
    ("/api/v1", "secrets"),
    ("/api/v1", "serviceaccounts"),
    ("/api/v1", "services"),
    ("/apis/apps/v1", "deployments"),
    ("/apis/networking.k8s.io/v1", "networkpolicies"),
    ("/apis/rbac.authorization.k8s.io/v1", "rolebindings"),
];
/// A setting, the objects that it takes away, and those that it adds.
const SETTINGS: [(&str, &[&str], &[&str]); 6] = [
    ("services=full", &[], &[]),
    (
        "services=single",
        &[
            "Service dev-session-UUID-chat",
            "Service dev-session-UUID-preview",
            "Service dev-session-UUID-vscode",
        ],
        &[],
    ),
    (
        "services=none",
        &[
            "Service dev-session-UUID-chat",
            "Service dev-session-UUID-lb",
            "Service dev-session-UUID-preview",
            "Service dev-session-UUID-vscode",
        ],
        &[],
    ),
    (
        "storage.enabled=false",
        &["PersistentVolumeClaim dev-session-UUID-workspace"],
        &[],
    ),
    (
        "networkPolicy.enabled=false",
        &["NetworkPolicy dev-session-UUID"],
        &[],
    ),
    ("quota.pods=2", &[], &["ResourceQuota dev-session-UUID"]),
];

#[tokio::test]
async fn the_settings_choose_which_objects_a_session_has() {
    let relay = Relay::new().await;
    for (setting, without, with) in SETTINGS {
        let gateway = relay.gateway(&[setting]).await;
        let id = SessionId::random();
        starts(&gateway, id).await;
        let mut expected: Vec<&str> = OBJECTS.iter().chain(with).copied().collect();
        expected.retain(|name| !without.contains(name));
        expected.sort_unstable();
        assert_eq!(names(&relay.objects(id).await), expected, "{setting}");
    }
}

#[tokio::test]
async fn every_object_says_whose_it_is() {
    let relay = Relay::new().await;
    let gateway = relay
        .gateway(&["project.id=a b,user.id=42,quota.pods=2"])
        .await;
    let id = SessionId::random();
    starts(&gateway, id).await;
    let all = documents(&relay, id).await;
    assert_eq!(
        all.len(),
        OBJECTS.len() + 2,
        "with the namespace and the quota"
    );
    for object in all.values() {
        let meta = &object["metadata"];
        let labels = &meta["labels"];
        assert_eq!(
            labels["app.kubernetes.io/managed-by"], "session-gateway",
            "{meta}"
        );
        assert_eq!(labels["dev-session/uuid"], id.to_string(), "{meta}");
        assert_eq!(labels["dev-session/user-id"], "42", "{meta}");
        assert!(labels["dev-session/project-id"].is_string(), "{meta}");
        // No label value has a blank: the label has its hash.
        assert_ne!(labels["dev-session/project-id"], "a b", "{meta}");
        assert_eq!(
            meta["annotations"]["dev-session/project-id"], "a b",
            "{meta}"
        );
    }
}

/// All objects of a session as JSON, by the plural of their kind and their name; its namespace included.
pub(super) async fn documents(relay: &Relay, id: SessionId) -> BTreeMap<String, Value> {
    let read = async |path: String| {
        let request = Request::get(path).body(vec![]).expect("a request");
        let answer: Value = relay.client.request(request).await.expect("an answer");
        answer
    };
    let space = relay.namespace(id);
    let namespace = read(format!("/api/v1/namespaces/{space}")).await;
    let mut all = BTreeMap::from([("namespaces UUID".to_owned(), namespace)]);
    for (group, plural) in KINDS {
        let mut list = read(format!("{group}/namespaces/{space}/{plural}")).await;
        for object in list["items"].as_array_mut().expect("a list").drain(..) {
            let name = object["metadata"]["name"].as_str().expect("a name");
            let name = name.replace(&id.to_string(), "UUID");
            all.insert(format!("{plural} {name}"), object);
        }
    }
    // What every namespace has from the cluster itself.
    all.remove("serviceaccounts default");
    all.remove("configmaps kube-root-ca.crt");
    all
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn sessions_that_share_a_namespace_do_not_touch_each_other() {
    // In a shared namespace a Role allows what is done here, and gateways of tests have none.
    let relay = Relay::with_every_secret().await;
    let shared = format!("shared-{}", Uuid::new_v4());
    let gateway = relay.gateway(&[&format!("namespace={shared}")]).await;
    let [one, other] = [SessionId::random(), SessionId::random()];

    // The operator makes it, and nobody else.
    let reply = gateway.send("GET", &format!("/{one}/chat/"), API).await;
    assert_eq!(
        (reply.status.as_u16(), &*reply.code()),
        (503, "session_failed")
    );
    assert!(reply.text().contains(&shared), "{}", reply.text());
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(shared.clone()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    let made = relay
        .namespaces()
        .create(&PostParams::default(), &namespace)
        .await;
    let made = made.expect("it is made").metadata;

    let retry = gateway.send("POST", &format!("/{one}/-/start"), API).await;
    assert!(retry.status.is_success(), "{retry:?}");
    for id in [one, other] {
        starts(&gateway, id).await;
    }
    let pods = relay.within::<Pod>(&shared);
    assert_eq!(
        pods.list(&ListParams::default())
            .await
            .expect("a list")
            .items
            .len(),
        2
    );
    let stopped = gateway.send("POST", &format!("/{one}/-/stop"), API).await;
    assert_eq!(stopped.status, 200, "{stopped:?}");
    let left = pods
        .list(&ListParams::default())
        .await
        .expect("a list")
        .items;
    let left: Vec<_> = left
        .iter()
        .filter_map(|pod| pod.metadata.name.clone())
        .collect();
    assert_eq!(left, [format!("dev-session-{other}")]);
    starts(&gateway, other).await;
    starts(&gateway, one).await;
    let kept = relay
        .namespaces()
        .get(&shared)
        .await
        .expect("it is there")
        .metadata;
    assert_eq!((kept.uid, kept.labels), (made.uid, made.labels));
    let before = relay.objects_in(&shared).await;
    let path = format!("/api/sessions/{one}");
    let deleted = gateway.ask("DELETE", &path).await;
    assert!(deleted.text().contains("true"), "{deleted:?}");
    let begun = tokio::time::Instant::now();
    let others = |all: &BTreeMap<String, String>| {
        let mut all = all.clone();
        all.retain(|name, _| name.contains(&other.to_string()));
        all
    };
    while relay.objects_in(&shared).await != others(&before) {
        assert!(begun.elapsed() < DEADLINE, "it is not deleted");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    starts(&gateway, one).await;
    let after = relay.objects_in(&shared).await;
    assert_eq!(others(&after), others(&before));
    assert_eq!(after.len(), before.len());
    for id in [one, other] {
        let own = relay.namespaces().get_opt(&id.to_string()).await;
        assert_eq!(own.expect("an answer"), None);
    }
}

/// Whoever may make pods somewhere must not take a session's place by their labels.
#[tokio::test]
async fn a_pod_outside_the_sessions_namespace_is_not_the_sessions() {
    let relay = Relay::new().await;
    let gateway = relay.gateway(&[]).await;
    let id = SessionId::random();
    let elsewhere = SessionId::random();
    starts(&gateway, elsewhere).await;
    let pretender: Pod = serde_json::from_value(json!({
        "metadata": {
            "name": format!("dev-session-{id}"),
            "labels": { "app.kubernetes.io/managed-by": "session-gateway", "dev-session/uuid": id.to_string() },
        },
        "spec": { "containers": [{ "name": "session", "image": "x" }] },
    }))
    .expect("a pod");
    let pods = relay.within::<Pod>(&elsewhere.to_string());
    let mut pretender = pods
        .create(&PostParams::default(), &pretender)
        .await
        .expect("it is made");
    while pretender
        .status
        .as_ref()
        .is_none_or(|status| status.pod_ip.is_none())
    {
        pretender = pods
            .get(&format!("dev-session-{id}"))
            .await
            .expect("it is there");
    }
    let taken = pretender
        .status
        .and_then(|status| status.pod_ip)
        .expect("it runs");
    // The watch has shown it, since it shows what came later.
    starts(&gateway, SessionId::random()).await;
    let reply = gateway.send("GET", &format!("/{id}/chat/"), ASSET).await;
    assert_eq!(
        (reply.status.as_u16(), &*reply.code()),
        (503, "session_stopped")
    );
    let reply = gateway.send("GET", &format!("/{id}/chat/"), API).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(
        !reply.text().starts_with(&taken),
        "{} is the pretender's",
        reply.text()
    );
}

#[test]
fn a_setting_that_no_cluster_would_take_ends_the_program_with_its_name() {
    for (setting, told) in [
        ("podTemplate.spec.containerz={a}", "podTemplate"),
        ("podTemplate.spec.hosts={a}", ".spec.hosts"),
        ("podTemplate.spec.hostNetwork=maybe", "podTemplate"),
        ("image.repository=", "image.repository"),
        ("storage.size=much", "storage.size"),
        ("resources.limits.memory=4GB", "resources.limits"),
        ("services=some", "services"),
        ("namespace=Sessions", "namespace"),
        ("tolerations[0].operater=Exists", ".operater"),
        ("auth.none_is_fine=false", "auth.none_is_fine"),
    ] {
        let program = env!("CARGO_BIN_EXE_session-gateway");
        let mut serve = Command::new(program);
        serve.args([
            "serve",
            "--set",
            "spawner=kubernetes,auth.none_is_fine=true",
        ]);
        serve.args(["--set", "image.repository=dev-session", "--set", setting]);
        // Were it taken, it would end for want of a cluster.
        let output = serve
            .env("KUBECONFIG", "/nowhere")
            .output()
            .expect("it is run");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{setting} is taken");
        assert!(stderr.contains(told), "{setting}: {stderr}");
    }
}

/// How long a start may take: a namespace that is being deleted goes first, and the long counts are of many of them.
fn patience() -> Duration {
    DEADLINE * if long() { 10 } else { 2 }
}

/// Starts a session and returns its pod's answer: asks again where that takes longer than requests are held.
pub(super) async fn starts(gateway: &Serve, id: SessionId) -> String {
    let begun = Instant::now();
    loop {
        let reply = gateway.send("GET", &format!("/{id}/chat/"), API).await;
        if reply.status == 200 {
            return reply.text().to_owned();
        }
        let again = reply.code() == "session_starting" && begun.elapsed() < patience();
        assert!(again, "{reply:?}");
    }
}
