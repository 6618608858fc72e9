//! One service of a session: its supervisor process, from start to end.

use std::{io, net::SocketAddr, process::Stdio, sync::Arc, time::Duration};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::{
    process::{Child, ChildStdin, Command},
    sync::{oneshot, watch},
    time::{Instant, timeout, timeout_at},
};
use tracing::warn;

use super::{launch::Launch, output::Output};
use crate::{
    session::{ExitStatus, Reason},
    shutdown::Drain,
    supervise::Report,
};

/// How long the streams of a service may stay open after its supervisor: nothing that writes to them is left.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How long beyond the grace a supervisor may take to end.
const MARGIN: Duration = Duration::from_secs(5);

/// A service that was started.
#[derive(Debug)]
pub(super) struct Process {
    /// Where it listens, or will.
    pub(super) address: SocketAddr,
    /// What it wrote.
    pub(super) output: Output,
    supervisor: Pid,
    grace: Duration,
    /// Its end asks the supervisor to stop.
    lifeline: Option<ChildStdin>,
    ended: watch::Receiver<bool>,
}

impl Process {
    /// Starts a supervisor. `on_end` gets why the service ended, unless it was stopped.
    pub(super) fn start(
        launch: &Launch,
        drain: &Drain,
        on_end: impl FnOnce(Reason) + Send + 'static,
    ) -> io::Result<Self> {
        // An old report must not be taken for this one's.
        match std::fs::remove_file(&launch.report) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut child = Command::new(&launch.program)
            .arg("supervise")
            .arg("--lock")
            .arg(&launch.lock)
            .arg("--report")
            .arg(&launch.report)
            .arg("--grace")
            .arg(
                humantime::format_duration(launch.grace)
                    .to_string()
                    .replace(' ', ""),
            )
            .arg("--")
            .args(&launch.command)
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&launch.cwd)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C in the gateway's terminal is for the gateway, which then ends its sessions in order.
            .process_group(0)
            .kill_on_drop(false)
            .spawn()?;
        let supervisor = child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let supervisor = supervisor.ok_or(io::ErrorKind::NotFound)?;
        let lifeline = child.stdin.take();
        let output = Output::default();
        let (tell, ended) = watch::channel(false);
        let (written, report) = (output.clone(), launch.report.clone());
        let readers = readers(&mut child, &output, drain);
        drain.spawn("service", async move {
            let status = child.wait().await;
            let _ = timeout(LAST_WORDS, readers).await;
            // Told first: whoever stops it waits for this, not for what becomes of the reason.
            tell.send_replace(true);
            if let Some(reason) = reason(Report::read(&report), status, &written) {
                on_end(reason);
            }
        });
        Ok(Self {
            address: launch.address,
            output,
            supervisor,
            grace: launch.grace,
            lifeline,
            ended,
        })
    }

    /// Whether it has not ended yet.
    pub(super) fn runs(&self) -> bool {
        !*self.ended.borrow()
    }

    /// Asks it to stop. Returns at once.
    pub(super) fn stop(&mut self) {
        self.lifeline = None;
    }

    /// Waits until nothing of it is left; a supervisor that does not end is killed, with the group of its command.
    pub(super) async fn ended(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + self.grace + MARGIN;
        if timeout_at(deadline, self.ended.wait_for(|ended| *ended))
            .await
            .is_ok()
        {
            return Ok(());
        }
        warn!(
            pid = self.supervisor.as_raw_nonzero().get(),
            "a supervisor does not end and is killed"
        );
        let _ = kill_process_group(self.supervisor, Signal::KILL);
        let _ = kill_process(self.supervisor, Signal::KILL);
        let last = Instant::now() + MARGIN;
        let killed = timeout_at(last, self.ended.wait_for(|ended| *ended)).await;
        killed
            .map(drop)
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "a supervisor does not end"))
    }
}

/// Reads both streams of a supervisor to their end, in tasks; the future is that end.
fn readers(child: &mut Child, output: &Output, drain: &Drain) -> impl Future<Output = ()> + use<> {
    let (done, both) = oneshot::channel::<()>();
    let done = Arc::new(done);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (one, other) = (output.clone(), output.clone());
    let (one_done, other_done) = (Arc::clone(&done), done);
    drain.spawn("output", async move {
        if let Some(stream) = stdout {
            one.drink(stream).await;
        }
        drop(one_done);
    });
    drain.spawn("output", async move {
        if let Some(stream) = stderr {
            other.drink(stream).await;
        }
        drop(other_done);
    });
    async move {
        // The last reader drops the sender.
        let _ = both.await;
    }
}

/// Why a service ended; none if it was stopped.
fn reason(
    report: Option<Report>,
    supervisor: io::Result<std::process::ExitStatus>,
    output: &Output,
) -> Option<Reason> {
    let output = || output.tail().into();
    match report {
        Some(Report::Stopped) => None,
        Some(Report::Unrunnable { error }) => Some(Reason::Unrunnable {
            error: error.into(),
        }),
        Some(Report::Exited {
            code,
            signal,
            abandoned,
        }) => {
            let status = signal.map_or(
                ExitStatus::Code(code.unwrap_or_default()),
                ExitStatus::Signal,
            );
            Some(if abandoned {
                Reason::Abandoned {
                    status,
                    output: output(),
                }
            } else {
                Reason::Exited {
                    status,
                    output: output(),
                }
            })
        }
        None => {
            let said = output();
            let how =
                supervisor.map_or_else(|error| error.to_string(), |status| status.to_string());
            Some(Reason::Unavailable {
                error: format!("its supervisor ended without a report ({how})\n{said}").into(),
            })
        }
    }
}
