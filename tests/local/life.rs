//! Sessions that are started, stopped, found again and mended.

use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};

use jiff::Timestamp;
use rustix::process::{Pid, getpgid, getpgrp};
use session_gateway::{
    activator::{Inspect, Spawner},
    session::{Found, Reason, SessionId},
    spawner::local::Command,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    local::bench::{Bench, IDLE, plan},
    support::processes::{self, PATIENCE, eventually},
};

#[tokio::test]
async fn a_session_runs_its_commands_with_their_environment() {
    let commands =
        ["app", "my-term"].map(|name| (name.to_owned(), that_shows_its_environment(name)));
    let bench = Bench::with(commands.into(), Duration::from_secs(30));
    let id = bench.id;
    assert_eq!(bench.found().await, Found::Absent);
    bench.start().await;
    assert_eq!(
        bench.found().await,
        Found::Vanished,
        "it is recorded to run"
    );

    let instance = bench.slot().instance.unwrap();
    let port = |name| instance.address(bench.service(name)).port();
    let inherited = std::env::vars_os()
        .find(|(name, _)| name == "PATH")
        .unwrap()
        .1;
    let workspace = bench.workspace().canonicalize().unwrap();
    for name in ["app", "my-term"] {
        bench.file(&format!("{name}.ready")).await;
        let text = fs::read_to_string(workspace.join(format!("{name}.env"))).unwrap();
        let environment: BTreeMap<&str, &str> = text
            .split('\0')
            .filter_map(|it| it.split_once('='))
            .collect();
        let table = [
            ("PORT", port(name).to_string()),
            ("HOST", "127.0.0.1".to_owned()),
            ("BASE_PATH", format!("/{id}/{name}")),
            ("SESSION_UUID", id.to_string()),
            ("PROJECT_ID", "project 7".to_owned()),
            ("USER_ID", "of the operator".to_owned()),
            ("WORKSPACE", workspace.display().to_string()),
            ("APP_PORT", port("app").to_string()),
            ("APP_BASE_PATH", format!("/{id}/app")),
            ("MY_TERM_PORT", port("my-term").to_string()),
            ("MY_TERM_BASE_PATH", format!("/{id}/my-term")),
            ("PATH", inherited.to_str().unwrap().to_owned()),
        ];
        for (variable, value) in table {
            assert_eq!(
                environment.get(variable),
                Some(&value.as_str()),
                "{variable}"
            );
        }
        let secret = environment
            .keys()
            .find(|it| it.starts_with("SESSION_GATEWAY__"));
        assert_eq!(secret, None);
        // It listens, and serves the workspace it was started in.
        let page = http_get(port(name), "/app.ready").await;
        assert!(page.starts_with("HTTP/1.0 200"), "{page}");
    }
    bench.stop().await;
    assert_eq!(bench.found().await, Found::Stopped);
}

/// Writes its environment into the workspace, then serves that.
fn that_shows_its_environment(name: &str) -> Command {
    let script = "env -0 > $NAME.env; echo > $NAME.ready; \
                  exec python3 -m http.server \"$PORT\" --bind \"$HOST\"";
    let own = [("NAME", name), ("USER_ID", "of the operator")];
    Command {
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: own
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        cwd: None,
    }
}

async fn http_get(port: u16, path: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    let mut stream = loop {
        match TcpStream::connect(("127.0.0.1", port)).await {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_stopped_session_finds_its_files_again() {
    let script = "test -e kept && echo again || echo first; echo mine > kept; exec sleep 1000";
    let bench = Bench::new(&[("app", script)]);
    bench.start().await;
    bench.said("app", "first").await;
    bench.file("kept").await;
    let first = bench.slot().instance.unwrap().uid();
    bench.stop().await;
    assert_eq!(bench.found().await, Found::Stopped);
    bench.start().await;
    bench.said("app", "again").await;
    assert_ne!(bench.slot().instance.unwrap().uid(), first);
    bench.stop().await;
}

/// Whether both who lists sessions and who looks at one are told that it is protected.
async fn is_protected(bench: &Bench) -> bool {
    let listed = bench.spawner.list(None, 2).await.unwrap();
    let found = bench.spawner.find(bench.id).await.unwrap();
    assert_eq!(listed, found.as_slice());
    bench.spawner.is_protected(&listed[0]).await.unwrap()
}

#[tokio::test]
async fn a_removed_session_leaves_nothing_and_one_in_use_is_not_removed_for_want_of_it() {
    let bench = Bench::new(&[("app", IDLE)]);
    let folder = bench.workspace().parent().unwrap().to_owned();
    let delete = async |unused| {
        let deleted = bench.spawner.delete(bench.id, unused, &bench.facts).await;
        deleted.unwrap()
    };
    let (long_ago, to_come) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
    bench.start().await;
    assert!(!delete(Some(to_come)).await, "it runs");
    bench.stop().await;
    assert!(!delete(Some(long_ago)).await, "it was made since");
    fs::write(folder.join("keep"), "").unwrap();
    assert!(!delete(Some(to_come)).await, "it is protected");
    assert!(is_protected(&bench).await);
    fs::remove_file(folder.join("keep")).unwrap();
    assert!(!is_protected(&bench).await);
    assert!(delete(Some(to_come)).await);
    assert_eq!(bench.found().await, Found::Absent);
    assert!(!delete(None).await, "there is nothing");

    bench.start().await;
    fs::write(bench.workspace().join("file"), "text").unwrap();
    assert!(delete(None).await, "whoever says so removes also what runs");
    assert!(bench.slot().instance.is_none());
    let left = processes::of(bench.id);
    assert!(left.is_empty(), "left behind: {left:?}");
    let sessions = fs::read_dir(folder.parent().unwrap()).unwrap();
    assert_eq!(sessions.count(), 0);
    bench.start().await;
    assert!(!bench.workspace().join("file").exists());
    bench.stop().await;
}

#[tokio::test]
async fn a_failed_service_is_started_again_at_its_port_and_the_others_are_left() {
    let bench = Bench::new(&[
        (
            "app",
            "echo $PORT >> starts; test -e healthy || exit 1; echo well; exec sleep 1000",
        ),
        ("other", "echo $$ >> others; exec sleep 1000"),
    ]);
    bench.start().await;
    bench.broken("app").await;
    let before = bench.slot().instance.unwrap();
    let others = bench.file("others").await;
    fs::write(bench.workspace().join("healthy"), "").unwrap();
    bench.start().await;
    bench.said("app", "well").await;
    let slot = bench.slot();
    assert!(slot.broken(bench.service("app")).is_none());
    assert_eq!(slot.instance.unwrap().uid(), before.uid());
    let port = before.address(bench.service("app")).port();
    assert_eq!(bench.file("starts").await, format!("{port}\n{port}\n"));
    assert_eq!(bench.file("others").await, others);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_and_stops_at_once_end_in_order() {
    let bench = Bench::new(&[("app", IDLE), ("other", IDLE)]);
    for round in 0..50 {
        let plan = plan();
        let start = bench.spawner.ensure(bench.id, &plan, &bench.facts);
        let stop = bench.spawner.stop(bench.id, &bench.facts);
        let (started, stopped) = match round % 3 {
            0 => tokio::join!(start, stop),
            1 => {
                let (stopped, started) = tokio::join!(stop, start);
                (started, stopped)
            }
            // A caller that leaves changes nothing: the start goes on.
            _ => {
                let stopped = stop.await;
                let _left = timeout(Duration::ZERO, start).await;
                let runs = || bench.slot().instance.ok_or("nothing runs");
                eventually("the start of one who left", runs).await;
                (Ok(()), stopped)
            }
        };
        started.unwrap();
        stopped.unwrap();
        let runs = bench.slot().instance.is_some();
        // A supervisor's child looks like it until it has become the program.
        eventually("as many supervisors as services", || {
            let processes = processes::of(bench.id);
            let count = processes.iter().filter(|it| it.is_supervisor()).count();
            let expected = if runs { 2 } else { 0 };
            if count == expected {
                Ok(())
            } else {
                Err(processes)
            }
        })
        .await;
        let found = if runs {
            Found::Vanished
        } else {
            Found::Stopped
        };
        assert_eq!(bench.found().await, found, "round {round}");
    }
    bench.stop().await;
}

#[tokio::test]
async fn ending_the_gateway_ends_all_and_forgets_nothing() {
    let bench = Bench::new(&[("app", IDLE)]);
    bench.start().await;
    let other = SessionId::random();
    bench
        .spawner
        .ensure(other, &plan(), &bench.facts)
        .await
        .unwrap();
    bench.spawner.close().await;
    assert!(processes::of(bench.id).is_empty());
    assert!(processes::of(other).is_empty());
    let refused = bench.spawner.ensure(other, &plan(), &bench.facts).await;
    assert!(matches!(
        *refused.unwrap_err().reason,
        Reason::Unavailable { .. }
    ));
    let Bench {
        spawner, data, id, ..
    } = bench;
    drop(spawner);

    let commands = BTreeMap::from([("app".to_owned(), Command::default())]);
    let next = eventually("the folder", || {
        Bench::open(&data, commands.clone(), PATIENCE)
    })
    .await;
    let mut listed = next.spawner.list(None, 10).await.unwrap();
    assert!(
        listed
            .iter()
            .all(|it| it.seen.found == Found::Vanished && it.plan == plan())
    );
    assert!(listed.is_sorted_by_key(|it| it.id));
    let mut expected = [id, other];
    expected.sort_unstable();
    assert_eq!(listed.iter().map(|it| it.id).collect::<Vec<_>>(), expected);
    listed = next.spawner.list(Some(expected[0]), 10).await.unwrap();
    assert_eq!(
        listed.iter().map(|it| it.id).collect::<Vec<_>>(),
        expected[1..]
    );
}

#[tokio::test]
async fn a_second_gateway_on_one_folder_is_refused() {
    let bench = Bench::new(&[("app", IDLE)]);
    let commands = BTreeMap::from([("app".to_owned(), Command::default())]);
    let refused = Bench::open(&bench.data, commands, PATIENCE).err().unwrap();
    let folder = bench.data.path().join("data").canonicalize().unwrap();
    let expected = format!(
        "folder {} is in use by the gateway with pid {}: stop it, or give this one another with local.data",
        folder.display(),
        std::process::id()
    );
    assert_eq!(refused.to_string(), expected);
}

#[tokio::test]
async fn a_broken_record_stops_the_start_and_is_kept() {
    let bench = Bench::new(&[("app", IDLE)]);
    bench.start().await;
    bench.stop().await;
    let record = bench.workspace().with_file_name("session.json");
    fs::write(&record, "{").unwrap();
    let refused = bench.spawner.ensure(bench.id, &plan(), &bench.facts).await;
    let reason = Arc::clone(&refused.unwrap_err().reason);
    let Reason::Storage { error } = &*reason else {
        panic!("{reason:?}");
    };
    let path = record.canonicalize().unwrap();
    assert!(error.contains(&path.display().to_string()), "{error}");
    assert_eq!(fs::read_to_string(record).unwrap(), "{");
    assert!(bench.spawner.list(None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_a_terminal_sends_to_the_gateway_does_not_reach_its_services() {
    let bench = Bench::new(&[("app", "sleep 1000 & echo up; wait")]);
    bench.start().await;
    bench.said("app", "up").await;
    let processes = processes::of(bench.id);
    assert!(processes.len() >= 3, "{processes:?}");
    for process in processes {
        let group = getpgid(Pid::from_raw(process.pid)).unwrap();
        assert_ne!(group, getpgrp(), "{process:?} is in the gateway's group");
    }
    bench.stop().await;
}
