//! Services that exit, cannot be run, leave processes behind, do not end, or print without end.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use session_gateway::{
    session::{ExitStatus, Reason},
    spawner::local::Command,
};
use tokio::time::Instant;

use crate::{
    local::bench::{Bench, IDLE, STUBBORN},
    support::processes::{self, PATIENCE, eventually},
};

#[tokio::test]
async fn a_service_that_exits_is_told_with_its_code_and_its_last_lines() {
    let bench = Bench::new(&[
        ("once", "echo one; echo two >&2; exit 3"),
        ("later", "echo $$ > pid; exec sleep 1000"),
        ("steady", IDLE),
    ]);
    bench.start().await;
    let exited = |status, output: &str| Reason::Exited {
        status,
        output: output.into(),
    };
    assert_eq!(
        bench.broken("once").await,
        exited(ExitStatus::Code(3), "one\ntwo")
    );
    let pid: i32 = bench.file("pid").await.trim().parse().unwrap();
    let later = processes::of(bench.id).into_iter().find(|it| it.pid == pid);
    let begun = Instant::now();
    later.unwrap().signal("KILL");
    assert_eq!(
        bench.broken("later").await,
        exited(ExitStatus::Signal(9), "")
    );
    println!("noticed after {:?}", begun.elapsed());
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "noticed within a second"
    );
    assert!(bench.slot().broken(bench.service("steady")).is_none());
    bench.stop().await;
}

#[tokio::test]
async fn a_command_that_cannot_be_run_is_told_in_the_systems_words() {
    let command = |command: &[&str], cwd: Option<&str>| Command {
        command: command.iter().map(|&it| it.to_owned()).collect(),
        env: BTreeMap::new(),
        cwd: cwd.map(PathBuf::from),
    };
    let commands = [
        ("missing", command(&["no-such-program", "x"], None)),
        ("folder", command(&["/tmp"], None)),
        ("nowhere", command(&["sh"], Some("no/such/folder"))),
    ];
    let commands = commands.map(|(name, command)| (name.to_owned(), command));
    let bench = Bench::with(commands.into(), Duration::from_secs(30));
    bench.start().await;
    let workspace = bench.workspace().canonicalize().unwrap();
    let nowhere = workspace.join("no/such/folder");
    for (name, expected) in [
        (
            "missing",
            "no-such-program: No such file or directory (os error 2)".to_owned(),
        ),
        ("folder", "/tmp: Permission denied (os error 13)".to_owned()),
        (
            "nowhere",
            format!(
                "cannot start in {}: No such file or directory (os error 2)",
                nowhere.display()
            ),
        ),
    ] {
        let error = expected.into();
        assert_eq!(bench.broken(name).await, Reason::Unrunnable { error });
    }
    bench.stop().await;
}

#[tokio::test]
async fn what_a_main_process_leaves_behind_is_ended() {
    let bench = Bench::new(&[
        ("child", "sleep 1000 & echo gone; exit 5"),
        (
            "daemon",
            "setsid sh -c 'setsid sleep 1000 & touch there; sleep 1000' & until [ -e there ]; do sleep 0.01; done",
        ),
        ("pipe", "echo piped | cat & exit 6"),
    ]);
    bench.start().await;
    let child = bench.broken("child").await;
    assert_eq!(
        child,
        Reason::Abandoned {
            status: ExitStatus::Code(5),
            output: "gone".into()
        }
    );
    let daemon = bench.broken("daemon").await;
    assert!(
        matches!(
            daemon,
            Reason::Abandoned {
                status: ExitStatus::Code(0),
                ..
            }
        ),
        "{daemon:?}"
    );
    // What ends by itself within a moment was not left behind.
    let pipe = bench.broken("pipe").await;
    assert!(
        matches!(
            pipe,
            Reason::Exited {
                status: ExitStatus::Code(6),
                ..
            }
        ),
        "{pipe:?}"
    );
    processes::none_left(bench.id).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_service_that_ignores_the_request_to_end_is_killed_after_its_grace() {
    let grace = Duration::from_millis(300);
    let stubborn = ["sh", "-c", STUBBORN].map(str::to_owned).to_vec();
    // Its child has a session of its own, its grandchild another.
    let hidden = format!("setsid setsid sh -c \"{STUBBORN}\" & {STUBBORN}");
    let hidden = ["sh", "-c", &hidden].map(str::to_owned).to_vec();
    let commands = [("hidden", hidden), ("stubborn", stubborn)].map(|(name, command)| {
        let command = Command {
            command,
            ..Command::default()
        };
        (name.to_owned(), command)
    });
    let mut bench = Bench::with(commands.into(), grace);
    bench.start().await;
    bench.said("hidden", "ready").await;
    bench.said("stubborn", "ready").await;
    bench.grace = PATIENCE;
    let took = bench.stop().await;
    println!("stopped after {took:?}");
    assert!(took >= grace, "{took:?}");
    // Both at once, not one after the other, and the kill does not take long.
    assert!(took < grace + Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn a_halted_service_is_ended_too() {
    let bench = Bench::new(&[("app", IDLE)]);
    bench.start().await;
    let sleeping = || {
        let processes = processes::of(bench.id);
        let app = processes.into_iter().find(|it| it.command == "sleep 1000");
        app.ok_or("no program")
    };
    eventually("the program", sleeping).await.signal("STOP");
    bench.stop().await;
}

#[tokio::test]
async fn a_hundred_megabytes_of_output_neither_block_nor_grow() {
    let script = "head -c 100000000 /dev/zero | tr '\\0' x | fold -w 99; echo; echo the end; exec sleep 1000";
    let bench = Bench::new(&[("app", script)]);
    let before = peak_memory();
    let begun = Instant::now();
    bench.start().await;
    bench.said("app", "the end").await;
    println!(
        "100 MB after {:?}, {} KiB more",
        begun.elapsed(),
        peak_memory() - before
    );
    assert!(
        peak_memory() - before < 32 * 1024,
        "{} KiB more",
        peak_memory() - before
    );
    let tail = bench.tail("app").await;
    assert_eq!(tail.lines().count(), 200);
    assert_eq!(tail.lines().next(), Some("x".repeat(99).as_str()));
    bench.stop().await;
}

fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

#[tokio::test]
async fn a_supervisor_that_is_killed_leaves_nothing_either() {
    let bench = Bench::new(&[(
        "app",
        "setsid sleep 1000 & echo up; while :; do sleep 1000; done",
    )]);
    bench.start().await;
    bench.said("app", "up").await;
    let processes = processes::of(bench.id);
    let supervisor = processes.iter().find(|it| it.is_supervisor()).unwrap();
    supervisor.signal("KILL");
    let reason = bench.broken("app").await;
    assert!(
        matches!(
            reason,
            Reason::Exited {
                status: ExitStatus::Signal(9),
                ..
            }
        ),
        "{reason:?}"
    );
    assert!(processes::of(bench.id).is_empty());
    bench.stop().await;
}
