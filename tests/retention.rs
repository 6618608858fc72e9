//! Sessions of this machine that nobody has used for long: listed first, then removed with their files.

use std::{fs, path::Path};

use jiff::Timestamp;
use serde_json::Value;
use session_gateway::session::SessionId;
use tempfile::tempdir;

use crate::{
    age::status,
    sessions::sessions,
    support::{serve::Serve, until},
};

/// A gateway whose sessions are processes that do nothing, with this setting.
fn gateway(data: &Path, setting: &str) -> Serve {
    let commands = ["preview", "chat", "vscode"]
        .map(|name| format!("local.services.{name}.command={{sleep,1000}}"));
    Serve::start(data, &[&commands[..], &[setting.to_owned()]].concat())
}

async fn starts(gateway: &Serve, id: SessionId) {
    let path = format!("/{id}/-/start");
    let started = gateway.send("POST", &path, &[]).await;
    assert_eq!(started.status, 202, "{started:?}");
    gateway.place(id, "chat").await;
}

/// Says in the session's record when it was used last.
fn used(data: &Path, id: SessionId, when: Timestamp) {
    let folder = data.join(format!("sessions/{id}"));
    let (record, new) = (folder.join("session.json"), folder.join("new"));
    let mut told: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    told["used"] = when.to_string().into();
    fs::write(&new, told.to_string()).unwrap();
    fs::rename(new, record).unwrap();
}

#[tokio::test]
async fn what_nobody_used_for_long_is_listed_and_then_removed_and_all_else_is_kept() {
    let data = tempdir().unwrap();
    let data = data.path();
    let file = |id| data.join(format!("sessions/{id}/workspace/kept"));
    // Looked at in this order.
    let mut ids = [(); 4].map(|()| SessionId::random());
    ids.sort();
    let [protected, recent, runs, unused] = ids;
    let long_ago: Timestamp = "2020-01-01T00:00:00Z".parse().unwrap();

    let shows = gateway(data, "retention.after=24h");
    for id in ids {
        starts(&shows, id).await;
        fs::write(file(id), "mine").unwrap();
        if id != runs {
            let stopped = shows.send("POST", &format!("/{id}/-/stop"), &[]).await;
            assert_eq!(stopped.status, 200, "{stopped:?}");
        }
    }
    fs::write(data.join(format!("sessions/{protected}/keep")), "").unwrap();
    for id in [protected, runs, unused] {
        used(data, id, long_ago);
    }
    let listed = sessions(shows.admin, &["list", "--unused"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    let rows: Vec<[&str; 2]> = listed.lines().skip(1).map(first_and_last).collect();
    let expected = [(protected, "yes"), (unused, "no")].map(|(id, is)| (id.to_string(), is));
    assert_eq!(rows, expected.each_ref().map(|(id, is)| [id, *is]));
    assert!(ids.iter().all(|id| file(*id).exists()), "it is only shown");

    drop(shows);
    for id in ids {
        used(data, id, Timestamp::now());
    }
    let removes = gateway(data, "retention.after=20s,retention.per_minute=10000");
    starts(&removes, runs).await;
    for id in [protected, runs, unused] {
        used(data, id, long_ago);
    }
    until("it is removed", || {
        !data.join(format!("sessions/{unused}")).exists()
    })
    .await;
    for id in [protected, recent, runs] {
        assert_eq!(fs::read_to_string(file(id)).unwrap(), "mine");
    }
    let state = status(&removes, runs).await["state"].clone();
    assert!(state == "running" || state == "starting", "{state}");
    starts(&removes, unused).await;
    assert!(!file(unused).exists(), "it is another one");
}

fn first_and_last(row: &str) -> [&str; 2] {
    let mut words = row.split_whitespace();
    [words.next().unwrap(), words.next_back().unwrap()]
}
