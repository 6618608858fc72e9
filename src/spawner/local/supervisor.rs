//! The hidden command `supervise`: one process per service of a local session, which never leaves anything behind.
//!
//! The gateway starts it, and keeps the other end of its stdin. When that end closes, because the service is to be
//! stopped or because the gateway has gone, even by SIGKILL, everything the service has started is ended: asked
//! first, killed after `grace`. As a child subreaper it becomes the parent of every process whose own parent ends, so
//! that none gets away, whatever sessions and groups it makes for itself. When the service's main process ends by
//! itself, what that one leaves behind is ended as well.
//!
//! It exits with 0 when it has written the service's outcome into the lock file, and otherwise with 1 and a
//! message on stderr.

use std::{
    ffi::OsString,
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use rustix::process::{Pid, getpid, set_child_subreaper};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe,
    runtime::Builder,
    signal::unix::{self, SignalKind},
    time::{Instant, sleep},
};

use super::{
    outcome::Outcome,
    processes::{self, PAUSE},
};
use family::Family;

mod family;

/// What the supervisor is called in lists of processes: not `session-gateway`, or whoever kills all processes of the
/// gateway's name would kill those too that clean up after it.
const NAME: &str = "session-superv";
/// How much longer than `grace` a supervisor may take to end: it kills what is left, waits for that for [`KILL`] at
/// most, and writes.
///
/// [`KILL`]: super::processes::KILL
pub(super) const MARGIN: Duration = Duration::from_secs(7);

/// What a supervisor runs, and how: the command line of `supervise`.
#[derive(Debug, Clone)]
pub struct Order {
    /// File whose lock is held while anything of the service runs, and into which its outcome is written.
    pub lock: PathBuf,
    /// How long the service may take to end before it is killed.
    pub grace: Duration,
    /// Where the service is started.
    pub folder: PathBuf,
    /// The service's program and its arguments.
    pub command: Vec<OsString>,
}

#[derive(Debug, thiserror::Error)]
enum SuperviseError {
    #[error("the service cannot be supervised")]
    System(#[source] io::Error),
    #[error("stdin has to be a pipe, whose end is the sign to end")]
    Stdin(#[source] io::Error),
    #[error("{} cannot be locked", .0.display())]
    Lock(PathBuf, #[source] io::Error),
    #[error("an earlier run of this service still holds {} after {}", .0.display(), humantime::format_duration(*.1))]
    Busy(PathBuf, Duration),
    #[error("processes of the service do not end, though they were killed: {0:?}")]
    Unending(Vec<i32>),
}

/// Runs the service to its end. The exit code says whether the outcome is in the lock file.
#[must_use]
pub fn run(order: &Order) -> ExitCode {
    let runtime = Builder::new_current_thread().enable_all().build();
    let outcome = runtime
        .map_err(SuperviseError::System)
        .and_then(|runtime| runtime.block_on(supervise(order)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause = std::error::Error::source(&error);
            let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
            // Nobody may be there any more to read it.
            let _ = writeln!(io::stderr(), "session-gateway supervise: {error}{cause}");
            ExitCode::FAILURE
        }
    }
}

async fn supervise(order: &Order) -> Result<(), SuperviseError> {
    // Only for lists of processes: a /proc that cannot be written to is no reason not to run.
    let _ = fs::write("/proc/self/comm", NAME);
    set_child_subreaper(Some(getpid())).map_err(|error| SuperviseError::System(error.into()))?;
    let exits = unix::signal(SignalKind::child()).map_err(SuperviseError::System)?;
    let mut end = End::listen()?;
    let lock = tokio::select! {
        lock = take_lock(&order.lock, order.grace + MARGIN) => lock?,
        // Nothing was started: nothing is to be told.
        () = end.asked() => return Ok(()),
    };
    // Whoever bears the mark of a lock that is held here was left by a supervisor that was itself killed.
    let left = processes::end_marked(&order.lock).await;
    let left = left.map_err(SuperviseError::System)?;
    if !left.is_empty() {
        return Err(SuperviseError::unending(left));
    }
    let outcome = match Family::start(&order.command, &order.folder, exits) {
        Ok(family) => live(family, &mut end, order.grace).await?,
        Err(error) => Outcome::Unrunnable(error),
    };
    outcome
        .write(&lock)
        .map_err(|error| SuperviseError::Lock(order.lock.clone(), error))
}

/// From the start of the main process until nothing of the service is left.
async fn live(
    mut family: Family,
    end: &mut End,
    grace: Duration,
) -> Result<Outcome, SuperviseError> {
    let ended = tokio::select! {
        ended = family.main_ended() => Some(ended),
        () = end.asked() => None,
    };
    let Some(ended) = ended else {
        family.end(grace).await?;
        return Ok(Outcome::Stopped);
    };
    if family.settled().await {
        return Ok(Outcome::Exited(ended));
    }
    family.end(grace).await?;
    Ok(Outcome::Abandoned(ended))
}

/// Whatever asks the supervisor to end.
struct End {
    stdin: pipe::Receiver,
    signals: [unix::Signal; 3],
}

impl End {
    fn listen() -> Result<Self, SuperviseError> {
        let stdin = rustix::io::dup(io::stdin())
            .map_err(io::Error::from)
            .and_then(pipe::Receiver::from_owned_fd)
            .map_err(SuperviseError::Stdin)?;
        let signal = |kind| unix::signal(kind).map_err(SuperviseError::System);
        let signals = [
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
        ];
        Ok(Self { stdin, signals })
    }

    async fn asked(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.signals;
        let mut byte = [0];
        tokio::select! {
            // The gateway writes nothing: whatever comes is the end of the pipe.
            _ = self.stdin.read(&mut byte) => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Takes the lock, waiting for an earlier supervisor of the same service, one of a gateway that was killed, to end
/// its processes; and empties the file.
async fn take_lock(path: &Path, patience: Duration) -> Result<File, SuperviseError> {
    let failed = |error| SuperviseError::Lock(path.to_owned(), error);
    let mut options = File::options();
    let lock = options.create(true).truncate(false).write(true).open(path);
    let lock = lock.map_err(failed)?;
    let deadline = Instant::now() + patience;
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(PAUSE).await,
            Err(TryLockError::WouldBlock) => {
                return Err(SuperviseError::Busy(path.to_owned(), patience));
            }
        }
    }
    lock.set_len(0).map_err(failed)?;
    Ok(lock)
}

impl SuperviseError {
    fn unending(left: Vec<Pid>) -> Self {
        Self::Unending(
            left.into_iter()
                .map(Pid::as_raw_nonzero)
                .map(i32::from)
                .collect(),
        )
    }
}
