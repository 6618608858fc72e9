//! The machine's processes, read off `/proc`: who is whose child, and who belongs to a service.

use std::{
    fs::{self, File},
    io,
    path::Path,
    time::Duration,
};

use rustix::process::{Pid, Signal, getpid, kill_process};
use tokio::time::{Instant, sleep};

/// The variable every process of a service inherits: the path of the service's lock file, which no other service of
/// any gateway has. By it processes are found again whose supervisor was killed.
pub(super) const MARK: &str = "SESSION_LOCK";

/// Pause between two looks at what cannot be waited for.
pub(super) const PAUSE: Duration = Duration::from_millis(10);
/// How long processes may stay on that were killed, by which time only a defect of the machine keeps them.
pub(super) const KILL: Duration = Duration::from_secs(5);

/// The direct children of this process, those included that were left to it by a process that ended. None of their
/// ids can be used again before this process has reaped it, so it is safe to signal them.
pub(super) fn children() -> io::Result<Vec<Pid>> {
    let parent = getpid();
    let is_child = |&pid: &Pid| parent_of(pid) == Some(parent);
    Ok(all()?.filter(is_child).collect())
}

/// Kills all processes but this one that bear the mark of this lock file; returns those that are still there after
/// [`KILL`]. Blocks for some milliseconds at a time, to read the environment of every process it may read.
///
/// The net below the supervisors, for when one of them was itself killed: a process that has another environment
/// falls through it.
pub(super) async fn end_marked(lock: &Path) -> io::Result<Vec<Pid>> {
    let deadline = Instant::now() + KILL;
    loop {
        let marked = marked(lock)?;
        if marked.is_empty() || Instant::now() >= deadline {
            return Ok(marked);
        }
        signal(marked, Signal::KILL);
        sleep(PAUSE).await;
    }
}

/// Waits, at most for `patience`, until no supervisor holds this lock file, then kills what bears its mark; returns
/// what is still there. A lock file that was never made has had no processes.
pub(super) async fn end_left(lock: &Path, patience: Duration) -> io::Result<Vec<Pid>> {
    let file = match File::open(lock) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let deadline = Instant::now() + patience;
    // Shared, and given back with the file: nobody is kept from anything by our having looked.
    while file.try_lock_shared().is_err() && Instant::now() < deadline {
        sleep(PAUSE).await;
    }
    drop(file);
    end_marked(lock).await
}

fn marked(lock: &Path) -> io::Result<Vec<Pid>> {
    let mark = [MARK.as_bytes(), b"=", lock.as_os_str().as_encoded_bytes()].concat();
    let bears_mark = |&pid: &Pid| {
        // One that has ended meanwhile, or is somebody else's, bears no mark.
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|environment| environment.split(|&b| b == 0).any(|entry| entry == mark))
    };
    let own = getpid();
    Ok(all()?
        .filter(|&pid| pid != own)
        .filter(bears_mark)
        .collect())
}

/// Signals each of them. One that has ended is none to signal.
pub(super) fn signal(pids: impl IntoIterator<Item = Pid>, signal: Signal) {
    for pid in pids {
        let _ = kill_process(pid, signal);
    }
}

fn all() -> io::Result<impl Iterator<Item = Pid>> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries.filter_map(|entry| {
        let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
        Pid::from_raw(pid)
    }))
}

fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parent_in(&stat)
}

/// `proc_pid_stat(5)`: id, name in parentheses, state, parent. The name may hold anything, parentheses included.
fn parent_in(stat: &[u8]) -> Option<Pid> {
    let end_of_name = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = str::from_utf8(&stat[end_of_name + 1..]).ok()?;
    let parent = rest.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Pid::from_raw(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_read_past_any_name() {
        for name in ["sh", "a b", "x) R 7 (y", "\u{e9}) S"] {
            let stat = format!("12 ({name}) S 345 12 12 0 -1 4194304");
            assert_eq!(parent_in(stat.as_bytes()), Pid::from_raw(345), "{name}");
        }
        assert_eq!(parent_in(b"12 (kthread) S 0 0 0"), None);
        assert_eq!(parent_in(b""), None);
    }
}
