//! The supervisor of one service's processes: `session-gateway supervise`, started by the local spawner.
//!
//! It ends with everything that descends from its command, or not at all. Its standard input is a pipe that the
//! gateway holds: the end of it means *stop*, and comes however the gateway ends, SIGKILL included. It is the reaper of
//! every descendant (a child subreaper), so none can hide from it by `setsid` or by losing its parents. What became of
//! the command is left in a report file, since an exit code could not tell it.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{
    Pid, Signal, WaitOptions, kill_process, kill_process_group, set_child_subreaper, wait,
};
use serde::{Deserialize, Serialize};
use tokio::{
    signal::unix::{Signal as Signals, SignalKind, signal},
    sync::oneshot,
    time::{Instant, sleep, timeout_at},
};

/// How long beyond the grace an earlier supervisor of the service may take to end, whose gateway was killed.
const PREDECESSOR: Duration = Duration::from_secs(10);
/// How often the lock of an earlier supervisor is tried, and what is left of the descendants looked for.
const TICK: Duration = Duration::from_millis(20);

/// What a supervisor runs, and how.
#[derive(Debug, Clone)]
pub struct Order {
    /// Held while any process of the service lives, so that two incarnations of it never share a workspace.
    pub lock: PathBuf,
    /// Where the report is left.
    pub report: PathBuf,
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// The command and its arguments; not empty.
    pub command: Vec<String>,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "ended")]
pub enum Report {
    /// It ended by itself; `abandoned`: and left processes behind, which were ended.
    Exited {
        /// The code it returned.
        code: Option<i32>,
        /// Or the signal that killed it.
        signal: Option<i32>,
        /// Whether it left processes behind.
        abandoned: bool,
    },
    /// It could not be run.
    Unrunnable {
        /// The operating system's words.
        error: String,
    },
    /// It was ended because the gateway said so, or ended itself.
    Stopped,
}

impl Report {
    /// Reads the report of a supervisor that has ended; none if it was killed before it could write one.
    #[must_use]
    pub fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let draft = path.with_extension("draft");
        fs::write(&draft, serde_json::to_vec(self)?)?;
        fs::rename(draft, path)
    }
}

/// Runs the command to its end, or until standard input ends or SIGTERM or SIGINT comes.
///
/// # Errors
/// If the operating system refuses what a supervisor needs. Then the command was not started.
pub fn run(order: &Order) -> io::Result<()> {
    set_child_subreaper(Some(rustix::process::getpid()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(supervise(order))?;
    report.write(&order.report)
}

async fn supervise(order: &Order) -> io::Result<Report> {
    // Before the command starts, or the end of a short one would be missed.
    let mut children = signal(SignalKind::child())?;
    let mut stop = Stop::listen()?;
    let _lock = tokio::select! {
        lock = lock(&order.lock, order.grace + PREDECESSOR) => lock?,
        () = stop.said() => return Ok(Report::Stopped),
    };
    let command = Command::new(&order.command[0])
        .args(&order.command[1..])
        .stdin(Stdio::null())
        .process_group(0)
        .spawn();
    let main = match command {
        Ok(child) => Pid::from_child(&child),
        Err(error) => {
            return Ok(Report::Unrunnable {
                error: format!("{}: {error}", order.command[0]),
            });
        }
    };
    let report = tokio::select! {
        status = main_ended(main, &mut children) => {
            let abandoned = !descendants().is_empty();
            Report::Exited { code: status.code(), signal: status.signal(), abandoned }
        }
        () = stop.said() => Report::Stopped,
    };
    end(main, order.grace, &mut children).await;
    Ok(report)
}

/// Waits for the main process; other descendants that end meanwhile are reaped.
async fn main_ended(main: Pid, children: &mut Signals) -> std::process::ExitStatus {
    loop {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == main {
                return std::process::ExitStatus::from_raw(status.as_raw());
            }
        }
        children.recv().await;
    }
}

/// Ends all descendants: SIGTERM to the command's group, and after the grace SIGKILL to whatever is left, again and
/// again, until nobody is.
async fn end(main: Pid, grace: Duration, children: &mut Signals) {
    // The group is gone already if the command ended alone.
    let _ = kill_process_group(main, Signal::TERM);
    for pid in descendants() {
        let _ = kill_process(pid, Signal::TERM);
    }
    let deadline = Instant::now() + grace;
    while reap() {
        if timeout_at(deadline, children.recv()).await.is_err() {
            break;
        }
    }
    while reap() {
        for pid in descendants() {
            let _ = kill_process(pid, Signal::KILL);
        }
        tokio::select! {
            _ = children.recv() => {}
            () = sleep(TICK) => {}
        }
    }
}

/// Reaps what has ended; whether anybody is left.
fn reap() -> bool {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// Everything that descends from this process and has not ended. Nobody else reaps them, so none of these numbers can
/// have become another process.
fn descendants() -> Vec<Pid> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok());
        let stat = fs::read_to_string(entry.path().join("stat"));
        if let (Some(pid), Ok(stat)) = (pid, stat)
            // The name may hold anything, brackets too: what follows its last one is fixed.
            && let Some((_, rest)) = stat.rsplit_once(") ")
            && let [state, parent, ..] = rest.split(' ').collect::<Vec<_>>()[..]
            && state != "Z"
            && let Ok(parent) = parent.parse::<i32>()
        {
            parents.push((pid, parent));
        }
    }
    let mut found = vec![rustix::process::getpid().as_raw_nonzero().get()];
    let mut at = 0;
    while at < found.len() {
        let children = parents
            .iter()
            .filter(|(_, parent)| *parent == found[at])
            .map(|(pid, _)| *pid);
        let children: Vec<i32> = children.collect();
        found.extend(children);
        at += 1;
    }
    found[1..]
        .iter()
        .filter_map(|pid| Pid::from_raw(*pid))
        .collect()
}

/// What asks a supervisor to stop.
struct Stop {
    terminate: Signals,
    interrupt: Signals,
    gateway: oneshot::Receiver<()>,
}

impl Stop {
    fn listen() -> io::Result<Self> {
        let (ended, gateway) = oneshot::channel();
        // A thread of its own: a pipe that another process shares must not be made non-blocking.
        thread::Builder::new()
            .name("lifeline".into())
            .spawn(move || {
                let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
                let _ = ended.send(());
            })?;
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            gateway,
        })
    }

    async fn said(&mut self) {
        tokio::select! {
            _ = &mut self.gateway => {}
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The lock, once an earlier supervisor has given it back.
async fn lock(path: &Path, patience: Duration) -> io::Result<File> {
    let file = File::create(path)?;
    let deadline = Instant::now() + patience;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(TICK).await,
            Err(TryLockError::WouldBlock) => {
                let error = format!(
                    "{} is held by another supervisor of this service",
                    path.display()
                );
                return Err(io::Error::other(error));
            }
        }
    }
}
