//! A service's main process and all that descends from it: started, reaped and ended here.

use std::{
    collections::HashSet,
    ffi::OsString,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitOptions, WaitStatus, kill_process_group, wait},
};
use tokio::{
    signal::unix,
    time::{Instant, sleep, timeout},
};

use super::SuperviseError;
use crate::spawner::local::{
    outcome::End,
    processes::{self, KILL, PAUSE},
};

/// How long the processes of a pipe or a script may outlive the main process before they count as left behind. Short
/// of the second within which an end is to be noticed.
const SETTLE: Duration = Duration::from_millis(250);

/// The processes of one service. This process must be a child subreaper and have no other children.
pub(super) struct Family {
    main: Pid,
    ended: Option<End>,
    /// SIGCHLD.
    exits: unix::Signal,
}

impl Family {
    /// Starts the main process in a group of its own; the error is for people.
    ///
    /// It is std that starts it, since tokio would reap it by itself.
    pub(super) fn start(
        command: &[OsString],
        folder: &Path,
        exits: unix::Signal,
    ) -> Result<Self, String> {
        let [program, arguments @ ..] = command else {
            return Err("there is no command".to_owned());
        };
        let child = Command::new(program)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .process_group(0)
            .spawn();
        match child {
            Ok(child) => Ok(Self {
                main: Pid::from_child(&child),
                ended: None,
                exits,
            }),
            // The same error comes of a folder that is not there.
            Err(error) if !folder.is_dir() => {
                Err(format!("cannot start in {}: {error}", folder.display()))
            }
            Err(error) => Err(format!("{}: {error}", program.display())),
        }
    }

    /// Waits for the main process to end.
    pub(super) async fn main_ended(&mut self) -> End {
        loop {
            self.reap();
            if let Some(ended) = self.ended {
                return ended;
            }
            self.exits.recv().await;
        }
    }

    /// Whether everything has ended, or does within a moment.
    pub(super) async fn settled(&mut self) -> bool {
        let all_ended = async {
            while self.reap() {
                self.exits.recv().await;
            }
        };
        timeout(SETTLE, all_ended).await.is_ok()
    }

    /// Ends everything: asks, and kills what is left after `grace`.
    pub(super) async fn end(&mut self, grace: Duration) -> Result<(), SuperviseError> {
        let mut asked = HashSet::new();
        if self.ended.is_none() {
            // In one go, so that a shell does not see its child go first. A reaped process has no group any more.
            let _ = kill_process_group(self.main, Signal::TERM);
            // One that was halted would not hear it.
            let _ = kill_process_group(self.main, Signal::CONT);
            asked.insert(self.main);
        }
        let mut deadline = Instant::now() + grace;
        while Instant::now() < deadline {
            if !self.reap() {
                return Ok(());
            }
            let new = children()?.into_iter().filter(|&child| asked.insert(child));
            processes::signal(new.collect::<Vec<_>>(), Signal::TERM);
            self.next_exit().await;
        }
        deadline = Instant::now() + KILL;
        // From the top down, so that none can start its children anew: these become ours, and are next.
        while self.reap() {
            let children = children()?;
            if Instant::now() >= deadline {
                return Err(SuperviseError::unending(children));
            }
            processes::signal(children, Signal::KILL);
            self.next_exit().await;
        }
        Ok(())
    }

    /// Waits for a child to end, or a moment: nobody is told of a child that is inherited.
    async fn next_exit(&mut self) {
        tokio::select! {
            _ = self.exits.recv() => {}
            () = sleep(PAUSE) => {}
        }
    }

    /// Takes in all children that have ended; returns whether there are others.
    fn reap(&mut self) -> bool {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.main => self.ended = Some(end_of(status)),
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return true,
                // ECHILD; nothing else can be wrong with such a call.
                Err(_) => return false,
            }
        }
    }
}

fn children() -> Result<Vec<Pid>, SuperviseError> {
    processes::children().map_err(SuperviseError::System)
}

fn end_of(status: WaitStatus) -> End {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => End::Code(code),
        (None, signal) => End::Signal(signal.expect("without WUNTRACED only ends are reported")),
    }
}
