//! One service's program as the gateway sees it: a supervisor, started with a pipe, until that has ended.

use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    pin::pin,
    process::{self, Stdio},
    time::Duration,
};

use futures_util::future::{Either, select};
use rustix::process::{Pid, Signal};
use tokio::{
    net::unix::pipe,
    process::{Child, ChildStdin, Command},
    sync::oneshot,
    time::timeout,
};
use tracing::warn;

use super::{outcome::Outcome, output::Output, processes, supervisor::MARGIN};
use crate::session::{ExitStatus, Reason};

/// How long the pipe is read on once the supervisor has ended: what is in it comes at once, and only a process that
/// is none of the service's any more can hold it open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// All that one service is started with.
pub(super) struct Launch {
    /// This program, whose command `supervise` is run.
    pub(super) supervisor: PathBuf,
    /// What the supervisor locks.
    pub(super) lock: PathBuf,
    pub(super) grace: Duration,
    /// Where the command is started.
    pub(super) folder: PathBuf,
    pub(super) command: Vec<OsString>,
    /// The whole environment.
    pub(super) environment: Vec<(OsString, OsString)>,
}

/// A supervisor that runs. Dropping it ends the service, without anybody who waits for that.
pub(super) struct Supervised {
    child: Child,
    stdin: ChildStdin,
    output: pipe::Receiver,
    lock: PathBuf,
    grace: Duration,
}

/// How a service came to its end.
pub(super) enum Ended {
    /// It was asked to. These are still there, though they were killed.
    Asked(Vec<Pid>),
    /// It was not asked to.
    ByItself(Reason),
}

/// How a supervisor came to its end.
enum Life {
    Asked { in_order: bool },
    Ended(io::Result<process::ExitStatus>),
}

impl Launch {
    /// Starts the supervisor, which starts the command. Does not wait for either.
    ///
    /// # Errors
    /// If this machine starts no process.
    pub(super) fn start(self) -> io::Result<Supervised> {
        let (ours, theirs) = io::pipe()?;
        let mut command = Command::new(&self.supervisor);
        command
            .arg("supervise")
            .arg("--lock")
            .arg(&self.lock)
            .arg("--grace")
            .arg(humantime::format_duration(self.grace).to_string())
            .arg("--folder")
            .arg(&self.folder)
            .arg("--")
            .args(&self.command)
            .env_clear()
            .envs(self.environment)
            .stdin(Stdio::piped())
            .stdout(theirs.try_clone()?)
            .stderr(theirs)
            // Ctrl-C in a terminal is for the gateway alone, which then ends its services in order.
            .process_group(0);
        let mut child = command.spawn()?;
        let stdin = child.stdin.take().expect("it was asked for as a pipe");
        Ok(Supervised {
            child,
            stdin,
            output: pipe::Receiver::from_owned_fd(ours.into())?,
            lock: self.lock,
            grace: self.grace,
        })
    }
}

impl Supervised {
    /// Takes in the service's output until it has ended: by itself, or because `asked` was sent to or dropped. Then
    /// it takes at most `grace` and some seconds.
    pub(super) async fn run(self, asked: oneshot::Receiver<()>, output: &Output) -> Ended {
        let Self {
            mut child,
            stdin,
            output: pipe,
            lock,
            grace,
        } = self;
        let life = async {
            tokio::select! {
                status = child.wait() => Life::Ended(status),
                _ = asked => {
                    drop(stdin);
                    let status = timeout(grace + MARGIN, child.wait()).await;
                    Life::Asked { in_order: matches!(status, Ok(Ok(status)) if status.success()) }
                }
            }
        };
        let followed = pin!(output.follow(pipe));
        let life = match select(pin!(life), followed).await {
            Either::Left((life, followed)) => {
                let _ = timeout(LAST_WORDS, followed).await;
                life
            }
            Either::Right((_, life)) => life.await,
        };
        match life {
            Life::Asked { in_order: true } => Ended::Asked(Vec::new()),
            Life::Asked { in_order: false } => {
                warn!(lock = %lock.display(), output = output.tail(), "a supervisor did not end its service in order");
                // If it hangs, it is itself among them.
                Ended::Asked(processes::end_marked(&lock).await.unwrap_or_default())
            }
            Life::Ended(status) => Ended::ByItself(reason(status, &lock, output).await),
        }
    }
}

async fn reason(status: io::Result<process::ExitStatus>, lock: &Path, output: &Output) -> Reason {
    let said = || output.tail().into();
    let status = match status {
        Ok(status) => status,
        Err(error) => return unrunnable(&error),
    };
    if !status.success() {
        // It was killed, or cannot go on. What it kept, and an earlier one that holds its lock, is found by the mark.
        let _ = processes::end_marked(lock).await;
    }
    if let Some(signal) = status.signal() {
        let status = ExitStatus::Signal(signal);
        return Reason::Exited {
            status,
            output: said(),
        };
    }
    if !status.success() {
        let said = output.tail();
        // Its last line says why.
        return Reason::Unrunnable {
            error: said.lines().last().unwrap_or_default().into(),
        };
    }
    match Outcome::read(lock).await {
        Ok(Outcome::Exited(end)) => Reason::Exited {
            status: end.into(),
            output: said(),
        },
        Ok(Outcome::Abandoned(end)) => Reason::Abandoned {
            status: end.into(),
            output: said(),
        },
        Ok(Outcome::Unrunnable(error)) => Reason::Unrunnable {
            error: error.into(),
        },
        // Somebody else sent the supervisor a signal.
        Ok(Outcome::Stopped) => Reason::Exited {
            status: ExitStatus::Signal(Signal::TERM.as_raw()),
            output: said(),
        },
        Err(error) => unrunnable(&error),
    }
}

fn unrunnable(error: &io::Error) -> Reason {
    Reason::Unrunnable {
        error: error.to_string().into(),
    }
}
