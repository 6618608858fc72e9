//! The command `supervise` under a gateway that is killed.

use std::{fs, path::Path};

use session_gateway::{activator::Spawner, session::SessionId};
use tempfile::TempDir;

use crate::{
    local::bench::{Bench, IDLE, PROGRAM, STUBBORN},
    support::processes::{self, eventually},
};

/// A supervisor whose pipe is held by another process, as it is by a gateway.
struct Held {
    id: SessionId,
    shell: std::process::Child,
}

impl Held {
    /// The pipe's holder is a `sleep` of its own, found by its time.
    fn start(lock: &Path, id: SessionId, grace: &str, script: &str) -> Self {
        let shell = std::process::Command::new("sh")
            .arg("-c")
            .arg(
                "sleep 4321 | SESSION_LOCK=\"$1\" \"$0\" supervise --lock \"$1\" --grace \"$2\" --folder / -- sh -c \"$3\"",
            )
            .args([PROGRAM.as_ref(), lock.as_os_str(), grace.as_ref(), script.as_ref()])
            .env("SESSION_UUID", id.to_string())
            .spawn()
            .unwrap();
        Self { id, shell }
    }

    async fn process(&self, is: impl Fn(&processes::Process) -> bool) -> processes::Process {
        let look = || {
            let processes = processes::of(self.id);
            let found = processes.into_iter().find(&is);
            found.ok_or("no such process")
        };
        eventually("a process of the session", look).await
    }

    async fn kill(mut self, is: impl Fn(&processes::Process) -> bool) {
        self.process(is).await.signal("KILL");
        // The shell ends with the supervisor.
        let ended = || match self.shell.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}")),
        };
        let shell = std::cell::RefCell::new(ended);
        eventually("the end of the supervisor", || (shell.borrow_mut())()).await;
    }
}

#[tokio::test]
async fn nothing_outlives_a_gateway_that_is_killed() {
    let folder = TempDir::new().unwrap();
    let lock = folder.path().join("app.lock");
    let id = SessionId::random();
    let script = format!("setsid sh -c \"{STUBBORN}\" & {STUBBORN}");
    for _ in 0..3 {
        let gateway = Held::start(&lock, id, "200ms", &script);
        gateway.process(|it| it.command == "sleep 1000").await;
        gateway.kill(|it| it.command == "sleep 4321").await;
        assert!(processes::of(id).is_empty(), "{:?}", processes::of(id));
    }
    assert_eq!(fs::read_to_string(lock).unwrap(), "\"stopped\"");
}

#[tokio::test]
async fn the_next_start_waits_for_what_a_killed_gateway_left() {
    let folder = TempDir::new().unwrap();
    let lock = folder.path().join("app.lock");
    let (killed, next) = (SessionId::random(), SessionId::random());
    let gateway = Held::start(&lock, killed, "500ms", STUBBORN);
    gateway.process(|it| it.command == "sleep 1000").await;
    gateway
        .process(|it| it.command == "sleep 4321")
        .await
        .signal("KILL");
    let second = Held::start(&lock, next, "500ms", IDLE);
    second.process(|it| it.command == "sleep 1000").await;
    // The supervisor itself, and the shell that started it, may take a moment to end.
    let left = processes::of(killed).into_iter();
    let services: Vec<_> = left.filter(|it| !it.is_supervisor()).collect();
    assert!(services.is_empty(), "both ran at once: {services:?}");
    drop(gateway);
    // Also where the supervisor was killed with its gateway: the next one finds what it left by its mark.
    let orphan = second.process(|it| it.command == "sleep 1000").await.pid;
    second
        .process(processes::Process::is_supervisor)
        .await
        .signal("KILL");
    second
        .process(|it| it.command == "sleep 4321")
        .await
        .signal("KILL");
    let last = SessionId::random();
    let third = Held::start(&lock, last, "500ms", IDLE);
    third.process(|it| it.command == "sleep 1000").await;
    assert!(
        processes::of(next).iter().all(|it| it.pid != orphan),
        "an orphan is left"
    );
    third.kill(|it| it.command == "sleep 4321").await;
    assert!(processes::of(last).is_empty());
}

#[tokio::test]
async fn a_stop_waits_for_what_a_killed_gateway_left() {
    for is_started_again in [false, true] {
        let bench = Bench::new(&[("app", IDLE)]);
        bench.start().await;
        bench.stop().await;
        let lock = bench.workspace().with_file_name("app.lock");
        let lock = lock.canonicalize().unwrap();
        // Found by an id of its own: the shell around it bears the id too, and is none of the session's.
        let earlier = SessionId::random();
        let gateway = Held::start(&lock, earlier, "500ms", STUBBORN);
        gateway.process(|it| it.command == "sleep 1000").await;
        let holder = gateway.process(|it| it.command == "sleep 4321").await;
        holder.signal("KILL");
        if is_started_again {
            bench.start().await;
        }
        bench.spawner.stop(bench.id, &bench.facts).await.unwrap();
        let left = processes::of(earlier);
        let left: Vec<_> = left
            .iter()
            .filter(|it| !it.command.starts_with("sh -c sleep 4321"))
            .collect();
        assert!(left.is_empty(), "left after a stop: {left:?}");
    }
}
