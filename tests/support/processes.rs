//! Finds the processes of a session, to prove that none is left, and waits for what nobody announces.

#![allow(
    dead_code,
    reason = "each test file that includes this uses a part of it"
)]

use std::{fmt, fs, path::Path, time::Duration};

use session_gateway::session::SessionId;
use tokio::time::{Instant, sleep};

/// How long a test waits for anything before it fails: ten times what the slowest may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A process of a session, its supervisors included.
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Its command line, the arguments divided by blanks.
    pub(crate) command: String,
}

impl Process {
    pub(crate) fn is_supervisor(&self) -> bool {
        self.command.contains(" supervise --lock ")
    }

    /// Sends it a signal by its name, such as `KILL`.
    pub(crate) fn signal(&self, signal: &str) {
        let kill = std::process::Command::new("kill")
            .args([format!("-{signal}"), self.pid.to_string()])
            .status();
        assert!(kill.unwrap().success(), "{self:?} cannot be signalled");
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pid, self.command)
    }
}

/// All processes that live and have the session's id in their environment: whatever its services started and however
/// they hid it, unless they changed their environment. One that has ended and is not reaped yet has none.
pub(crate) fn of(id: SessionId) -> Vec<Process> {
    with_variable(&format!("SESSION_UUID={id}"))
}

/// All processes that live and have this entry, `NAME=value`, in their environment.
pub(crate) fn with_variable(entry: &str) -> Vec<Process> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|process| {
        let path = process.unwrap().path();
        let pid = path.file_name()?.to_str()?.parse().ok()?;
        // What ends while it is looked at is not there.
        let environment = fs::read(path.join("environ")).ok()?;
        environment
            .split(|&byte| byte == 0)
            .any(|variable| variable == entry.as_bytes())
            .then(|| Process {
                pid,
                command: command_line(&path),
            })
    });
    processes.collect()
}

fn command_line(process: &Path) -> String {
    let line = fs::read(process.join("cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    line.trim().to_owned()
}

/// Waits until nothing of the session runs.
pub(crate) async fn none_left(id: SessionId) {
    eventually("no process of the session", || {
        let left = of(id);
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

/// Looks again and again until there is what is looked for, and fails with what was there instead.
pub(crate) async fn eventually<T, E: fmt::Debug>(what: &str, look: impl Fn() -> Result<T, E>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(instead) if Instant::now() >= deadline => {
                panic!("{what} after {PATIENCE:?}, but {instead:?}")
            }
            Err(_) => sleep(Duration::from_millis(5)).await,
        }
    }
}
