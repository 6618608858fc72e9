//! The operators' commands about sessions of a cluster, as people see them.

use session_gateway::session::SessionId;

use crate::{
    sessions::{sessions, told, until_shown},
    support::{cluster::Relay, serve::Serve},
};

/// Each column beside the one before: how wide the pods' addresses are depends on how many pods there were.
fn squeezed(text: &str) -> String {
    let line = |line: &str| {
        let cells = line
            .split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty());
        cells.collect::<Vec<_>>().join("  ")
    };
    text.lines().map(|text| line(text) + "\n").collect()
}

#[tokio::test]
async fn each_command_tells_of_sessions_in_a_cluster() {
    let relay = Relay::apart().await;
    let gateway = relay.gateway(&["project.id=7,user.id=42"]).await;
    let fail = "podTemplate.metadata.annotations.cluster\\.test/fail=unschedulable";
    let full = relay.gateway(&["project.id=8", fail]).await;
    let (id, other) = (
        SessionId::random().to_string(),
        SessionId::random().to_string(),
    );
    let mut all = String::new();
    let mut run = |gateway: &Serve, id: &str, command: &[&str]| {
        all += &squeezed(&told(command, &sessions(gateway.admin, command), id));
        all += "\n";
    };
    run(&gateway, &id, &["explain", &id]);
    sessions(gateway.admin, &["start", &id]);
    // As a whole, and each of its services.
    until_shown(gateway.admin, &id, r#""state": "running""#, 4);
    for command in ["show", "explain", "keep", "stop", "show"] {
        run(&gateway, &id, &[command, &id]);
    }
    // Of a pod that no node takes: the words of the scheduler.
    sessions(full.admin, &["start", &other]);
    until_shown(full.admin, &other, "unschedulable", 3);
    for command in ["show", "explain"] {
        run(&full, &other, &[command, &other]);
    }
    run(&full, &other, &["list", "--project", "8"]);
    run(&full, &other, &["delete", &other, "--yes"]);
    run(&gateway, &id, &["delete", &id, "--yes"]);
    insta::assert_snapshot!("commands", all);
}
