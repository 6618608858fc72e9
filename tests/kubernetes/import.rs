//! Sessions of the chart that become the gateway's own, whatever breaks off on the way.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod, networking::v1::Ingress};
use kube::api::ListParams;
use serde_json::{Value, json};
use session_gateway::session::SessionId;
use tokio::time::{Duration, Instant, sleep};

use super::shape::starts;
use crate::support::{
    DEADLINE,
    cluster::{API, Relay, helm},
    serve::Serve,
};

const CHART: &str = "./deploy/charts/dev-session-template";
/// Sessions of the chart are none of a gateway's business, unused or not.
pub(super) const SETTINGS: &str = "image.tag=test,idle.after=2s,idle.countdown=1s";

/// Installs a session with Ingress objects, as the platform did.
pub(super) fn install(relay: &Relay, id: SessionId, more: &[&str]) {
    let [preview, chat, vscode] = relay.ports();
    let mut words = vec![
        "install".to_owned(),
        format!("dev-session-{id}"),
        CHART.to_owned(),
        format!("--namespace={}", relay.namespace(id)),
        "--create-namespace".to_owned(),
    ];
    let sets = [
        format!("project.uuid={id},project.id=7,user.id=42"),
        "image.repository=dev-session,image.tag=test".to_owned(),
        format!(
            "service.preview.port={preview},service.chat.port={chat},service.vscode.port={vscode}"
        ),
        "ingress.enabled=true,ingress.host=sessions.example".to_owned(),
    ];
    let more = more.iter().map(|&set| set.to_owned());
    for set in sets.into_iter().chain(more) {
        words.extend(["--set".to_owned(), set]);
    }
    helm(&words);
}

/// What `sessions import` prints as JSON.
fn import(relay: &Relay, words: &[&str]) -> Result<Vec<Value>, String> {
    let words = [&["sessions", "import", "--output=json"], words].concat();
    let ended = relay.command(&words, &[SETTINGS]);
    if !ended.status.success() {
        return Err(String::from_utf8(ended.stderr).expect("text"));
    }
    Ok(serde_json::from_slice(&ended.stdout).expect("JSON"))
}

/// Those of these sessions that are listed: others of the cluster are of other tests.
fn listed(relay: &Relay, ids: &[SessionId]) -> Vec<Value> {
    let mut all = import(relay, &[]).expect("a list");
    all.retain(|one| ids.iter().any(|id| one["id"] == id.to_string()));
    all
}

async fn ingresses(relay: &Relay, id: SessionId) -> usize {
    let ingresses = relay.within::<Ingress>(&relay.namespace(id));
    let list = ingresses.list(&ListParams::default()).await;
    list.expect("a list").items.len()
}

/// Routed as before, and once the gateway's own: one pod, on the same disk, and nothing of Helm's but the Ingress.
async fn is_taken(relay: &Relay, gateway: &Serve, id: SessionId, before: &str) {
    starts(gateway, id).await;
    assert_eq!(relay.disk(id).await, before);
    let namespace = relay.namespace(id);
    let pods = relay.within::<Pod>(&namespace);
    let pods = pods.list(&ListParams::default()).await.expect("a list");
    let names = pods.items.into_iter().filter_map(|pod| pod.metadata.name);
    let names: Vec<_> = names.collect();
    assert_eq!(names, [format!("dev-session-{id}")]);
    let deployments = relay.within::<Deployment>(&namespace);
    let left = deployments.list(&ListParams::default()).await;
    assert!(left.expect("a list").items.is_empty());
    let releases = ["list", "--short", "--namespace", &namespace].map(str::to_owned);
    assert_eq!(helm(&releases).trim(), "");
    assert_eq!(ingresses(relay, id).await, 2, "it goes on request only");
}

async fn until_stopped(gateway: &Serve, id: SessionId) {
    let begun = Instant::now();
    loop {
        let reply = gateway.send("GET", &format!("/{id}/-/status"), API).await;
        let told: Value = serde_json::from_slice(&reply.body).expect("a status");
        if told["state"] == "stopped" {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "it is not stopped: {told}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// What is told before anything is done.
fn is_told(operator: &Relay, ids: [SessionId; 3]) {
    let found = listed(operator, &ids);
    let differences: Vec<_> = found.iter().map(|one| &one["differences"]).collect();
    let image = ("dev-session:old", "dev-session:test");
    let different = json!([
        { "field": "containers.session.env.KEY", "release": "(not shown)", "gateway": null },
        { "field": "containers.session.image", "release": image.0, "gateway": image.1 },
        { "field": "nodeSelector", "release": { "disk": "fast" }, "gateway": null },
    ]);
    assert_eq!(differences, [&json!([]), &different, &json!([])]);
    let same = ids[0];
    let leads = ["/preview", "/chat(/|$)(.*)", "/vscode(/|$)(.*)"].map(|path| {
        let service = path.split('(').next().expect("it begins with it");
        json!({
            "ingress": format!("dev-session-{same}{}", if service == path { "" } else { "-strip" }),
            "from": format!("sessions.example/{same}{path}"),
            "to": format!("/{same}{service}/"),
        })
    });
    assert_eq!(found[0]["addresses"], json!(leads));
    let asked = import(operator, &["--take-over"]).unwrap_err();
    assert!(asked.contains("--all"), "{asked}");
}

/// Takes a session over by one step more at a time: the first write is always that which makes Helm forget it, and
/// nothing is heard after the second. Whether it is still found each time is asked of one alone: a list is of all the
/// cluster.
async fn is_taken_step_by_step(operator: &Relay, id: SessionId, is_looked_for: bool) {
    let mut steps = 0;
    let cut = json!({ "cut": { "write": 2, "when": "after" } });
    loop {
        operator.faults(cut.clone()).await;
        let taken = import(operator, &["--take-over", &id.to_string()]);
        operator.faults(json!({})).await;
        steps += 1;
        if taken.is_ok() {
            break;
        }
        assert!(steps < 20, "it does not come to an end: {taken:?}");
        let found = !is_looked_for || listed(operator, &[id]).len() == 1;
        assert!(found, "it is not found again");
    }
    // Deployment, four Services, disk, namespace and account.
    assert!(steps >= 8, "{steps}");
}

/// Nothing is heard after the first of two is deleted: the next call deletes the other.
async fn loses_its_ingresses_step_by_step(operator: &Relay, id: SessionId) {
    let words = ["--remove-ingress", &id.to_string()];
    operator
        .faults(json!({ "cut": { "write": 1, "when": "after" } }))
        .await;
    import(operator, &words).expect_err("it breaks off");
    operator.faults(json!({})).await;
    assert_eq!(ingresses(operator, id).await, 1);
    assert_eq!(listed(operator, &[id]).len(), 1, "it is found again");
    let removed = import(operator, &words).expect("they are removed");
    let name = format!("Ingress dev-session-{id}-strip deleted");
    assert_eq!(removed[0]["done"], json!([name]));
    assert_eq!(ingresses(operator, id).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_the_chart_are_taken_over_with_their_disks_whatever_breaks_off() {
    let relay = Relay::apart().await;
    let operator = relay.operator().await;
    let gateway = relay.gateway(&[SETTINGS]).await;
    let mut ids = [(); 3].map(|()| SessionId::random());
    ids.sort();
    let different = ["image.tag=old,env.KEY=secret,nodeSelector.disk=fast"];
    let mut disks = Vec::new();
    for (number, id) in ids.into_iter().enumerate() {
        install(&relay, id, if number == 1 { &different } else { &[] });
        disks.push(relay.disk(id).await);
    }
    starts(&gateway, ids[0]).await;
    starts(&gateway, ids[2]).await;
    is_told(&operator, ids);

    for (id, before) in ids.into_iter().zip(&disks) {
        is_taken_step_by_step(&operator, id, id == ids[0]).await;
        is_taken(&relay, &gateway, id, before).await;
    }
    let [_, other, last] = ids.map(|id| id.to_string());
    let again = import(&operator, &["--take-over", &other, &last]).expect("nothing is to be done");
    for one in &again {
        assert_eq!((&one["taken"], &one["done"]), (&json!(true), &json!([])));
    }

    loses_its_ingresses_step_by_step(&operator, ids[0]).await;
    let found = listed(&operator, &ids);
    let found: Vec<_> = found.iter().map(|one| &one["id"]).collect();
    assert_eq!(
        found,
        [&json!(other), &json!(last)],
        "while an Ingress is left"
    );
    for id in ids {
        until_stopped(&gateway, id).await;
    }
}
