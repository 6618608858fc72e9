//! The operators' commands about sessions of a cluster, as people see them.

use std::process::Output;

use serde_json::json;
use session_gateway::session::SessionId;

use super::{
    import::{SETTINGS, install},
    retention::unused,
};
use crate::{
    sessions::{TWO, sessions, told, until_shown, watch},
    support::{client::scraped, cluster::Relay, serve::Serve},
};

/// The starts that are over, and went well.
const STARTS: &str = r#"session_gateway_starts_total{outcome="ok"}"#;

/// Each column beside the one before: how wide the pods' addresses are depends on how many pods there were. What is
/// further in than the line before stays so.
fn squeezed(text: &str) -> String {
    let line = |line: &str| {
        let indent = line.len() - line.trim_start().len();
        let cells = line
            .split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty());
        " ".repeat(indent) + &cells.collect::<Vec<_>>().join("  ")
    };
    text.lines().map(|text| line(text) + "\n").collect()
}

/// What was told, by the ids that every run has.
struct Shown {
    ids: [String; 2],
    all: String,
}

impl Shown {
    fn add(&mut self, command: &[&str], output: &Output) {
        let [id, other] = &self.ids;
        let text = told(command, output, id).replace(other, TWO);
        self.all += &squeezed(&text);
        self.all += "\n";
    }

    fn run(&mut self, gateway: &Serve, command: &[&str]) {
        self.add(command, &sessions(gateway.admin, command));
    }

    /// What a person who watches a session sees of it as it stands, and when the gateway ends.
    fn watch(&mut self, gateway: Serve, id: &str) {
        let command = ["watch", id];
        let (child, mut lines) = watch(gateway.admin, &command[1..]);
        let first: Vec<String> = lines.by_ref().take(2).collect();
        gateway.signal("TERM");
        let all: Vec<String> = first.into_iter().chain(lines).collect();
        let ended = child.wait_with_output().expect("it ends");
        let output = Output {
            stdout: (all.join("\n") + "\n").into_bytes(),
            ..ended
        };
        self.add(&command, &output);
    }
}

#[tokio::test]
async fn each_command_tells_of_sessions_in_a_cluster() {
    let relay = Relay::apart().await;
    let settings = "project.id=7,user.id=42,retention.after=24h";
    let gateway = relay.gateway(&[settings]).await;
    let fail = "podTemplate.metadata.annotations.cluster\\.test/fail=unschedulable";
    let full = relay.gateway(&["project.id=8", fail]).await;
    // In this order they are listed.
    let mut ids = [(); 2].map(|()| SessionId::random());
    ids.sort();
    let first = ids[0];
    let ids = ids.map(|id| id.to_string());
    let [id, other] = ids.each_ref().map(String::as_str);
    let mut shown = Shown {
        ids: ids.clone(),
        all: String::new(),
    };
    shown.run(&gateway, &["explain", id]);
    // As long as it is refused, the start stays where it is, and so do those of all services.
    let refused = json!({ "status": 429, "verb": "create", "resource": "namespaces" });
    relay.faults(json!({ "answer": refused })).await;
    sessions(gateway.admin, &["start", id]);
    until_shown(gateway.admin, id, r#""stage": "namespace""#, 4);
    shown.run(&gateway, &["start", id]);
    relay.faults(json!({})).await;
    // As a whole, and each of its services.
    until_shown(gateway.admin, id, r#""state": "running""#, 4);
    // As long as a start is under way its stages have their times.
    scraped(gateway.admin, &format!("{STARTS} 1")).await;
    shown.run(&gateway, &["start", id]);
    scraped(gateway.admin, &format!("{STARTS} 2")).await;
    for command in ["show", "explain", "keep"] {
        shown.run(&gateway, &[command, id]);
    }
    for output in ["json", "yaml"] {
        for command in ["show", "explain"] {
            shown.run(&gateway, &[command, id, "-o", output]);
        }
        shown.run(&gateway, &["list", "-o", output]);
    }
    shown.watch(relay.gateway(&[settings]).await, id);
    for command in ["stop", "show"] {
        shown.run(&gateway, &[command, id]);
    }
    // Of a pod that no node takes: the words of the scheduler.
    sessions(full.admin, &["start", other]);
    until_shown(full.admin, other, "unschedulable", 3);
    for command in ["show", "explain"] {
        shown.run(&full, &[command, other]);
    }
    unused(&relay, first).await;
    shown.run(&full, &["list"]);
    shown.run(&full, &["list", "--project", "8"]);
    shown.run(&gateway, &["list", "--unused"]);
    shown.run(&full, &["delete", other, "--yes"]);
    shown.run(&gateway, &["delete", id, "--yes"]);
    insta::assert_snapshot!("commands", shown.all);
}

/// By an operator, without a gateway.
#[tokio::test]
async fn the_import_tells_of_a_session_of_the_chart_before_and_after_each_step() {
    let relay = Relay::apart().await;
    let operator = relay.operator().await;
    let id = SessionId::random();
    let different = "image.tag=old,env.KEY=secret,nodeSelector.disk=fast";
    install(&relay, id, &[different]);
    let id = id.to_string();
    let mut all = String::new();
    for more in [&[][..], &["--take-over"], &[], &["--remove-ingress"], &[]] {
        let command = [&["import", &id], more].concat();
        let output = operator.command(&[&["sessions"], &command[..]].concat(), &[SETTINGS]);
        all += &told(&command, &output, &id);
        all += "\n";
    }
    insta::assert_snapshot!("import", all);
}
