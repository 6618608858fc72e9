//! Becomes code-server, if there is one that works.
//!
//! A code-server on the wrong Node starts, prints its version and says that it is healthy, while its page is a 500.
//! So it is started once for a look at its page. The verdict is kept beside the workspace, by program and Node, so
//! that only the first start pays for it.

use std::{
    ffi::{OsStr, OsString},
    fmt::Write as _,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::super::Environment;

/// A cold start on a busy machine takes seconds; after this the built-in editor is the better answer.
const LOOK_FOR: Duration = Duration::from_secs(20);

/// Between two looks while it starts.
const PAUSE: Duration = Duration::from_millis(100);

/// The workbench's page is 30 KiB.
const LARGEST_PAGE: u64 = 1 << 20;

/// Why it was not code-server.
#[derive(Debug, thiserror::Error)]
pub(in crate::demo) enum Unfit {
    #[error("code-server at {} shows no workbench with the Node it runs on", .0.display())]
    Broken(PathBuf),
    #[error("code-server at {} ended before it showed a page", .0.display())]
    Ended(PathBuf),
    #[error("code-server at {} was not ready within {} s", .0.display(), LOOK_FOR.as_secs())]
    Slow(PathBuf),
    #[error("cannot run code-server at {}", program.display())]
    Run {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Replaces this process by code-server. Returns only if there is none (`None`) or it does not work.
///
/// The first time this takes as long as its start, at most 20 s. Dropping the future ends what it started.
pub(in crate::demo) async fn take_over(
    environment: &Environment,
    workspace: &Path,
) -> Option<Unfit> {
    let program = find(&environment.path, "code-server")?;
    match works(&program, environment, workspace).await {
        Ok(()) => {}
        Err(unfit) => return Some(unfit),
    }
    let address = SocketAddr::new(environment.host, environment.port);
    let source = command(&program, address, &state(workspace), workspace).exec();
    Some(Unfit::Run { program, source })
}

/// Where code-server keeps its settings and extensions: beside the workspace, so that they are no files of the user.
fn state(workspace: &Path) -> PathBuf {
    let name = workspace
        .file_name()
        .unwrap_or(OsStr::new("workspace"))
        .to_string_lossy();
    workspace.with_file_name(format!(".{name}.code-server"))
}

fn command(program: &Path, address: SocketAddr, state: &Path, workspace: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["--auth", "none", "--bind-addr", &address.to_string()]);
    command.args([
        "--disable-telemetry",
        "--disable-update-check",
        "--disable-workspace-trust",
    ]);
    // Its own proxy would show every port of this machine, the gateway's admin port too, under the session's address.
    command.args(["--disable-getting-started-override", "--disable-proxy"]);
    command.arg("--config").arg(state.join("config.yaml"));
    command.arg("--user-data-dir").arg(state.join("data"));
    command
        .arg("--extensions-dir")
        .arg(state.join("extensions"));
    // It prefers PORT to the address it is told.
    command.arg(workspace).env_remove("PORT");
    command
}

fn find(path: &OsStr, name: &str) -> Option<PathBuf> {
    let programs = std::env::split_paths(path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name));
    let runs = |program: &PathBuf| {
        fs::metadata(program)
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    programs.into_iter().find(runs)
}

async fn works(program: &Path, environment: &Environment, workspace: &Path) -> Result<(), Unfit> {
    let run = |source| Unfit::Run {
        program: program.to_owned(),
        source,
    };
    let state = state(workspace);
    fs::create_dir_all(&state).map_err(run)?;
    let memory = state.join("verdict");
    let subject = subject(program, &environment.path);
    match fs::read_to_string(&memory) {
        Ok(known) if known == format!("works\n{subject}") => return Ok(()),
        Ok(known) if known == format!("broken\n{subject}") => {
            return Err(Unfit::Broken(program.to_owned()));
        }
        Ok(_) | Err(_) => {}
    }
    let Ok(verdict) = timeout(LOOK_FOR, try_out(program, &state)).await else {
        // Not remembered: the machine may have been busy.
        return Err(Unfit::Slow(program.to_owned()));
    };
    // Not remembered either: another program may have taken the port it was to try.
    let Some(works) = verdict.map_err(run)? else {
        return Err(Unfit::Ended(program.to_owned()));
    };
    let word = if works { "works" } else { "broken" };
    // Without a memory the next start looks again, which is slow but right.
    let _ = fs::write(&memory, format!("{word}\n{subject}"));
    if works {
        Ok(())
    } else {
        Err(Unfit::Broken(program.to_owned()))
    }
}

/// What the verdict is about: the installed program and the Node it finds, each by its real path, time and size.
fn subject(program: &Path, path: &OsString) -> String {
    let node = find(path, "node");
    let mut subject = String::new();
    for file in [Some(program.to_owned()), node].into_iter().flatten() {
        let real = file.canonicalize().unwrap_or(file);
        let (time, size) =
            fs::metadata(&real).map_or((0, 0), |found| (found.mtime(), found.size()));
        // Writing to a string does not fail.
        let _ = writeln!(subject, "{} {time} {size}", real.display());
    }
    subject
}

/// A code-server that ends with all its children when this is dropped.
struct Trial(std::process::Child);

impl Drop for Trial {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            // Gone already is as good.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

/// Whether its page, on a free port, is the workbench; `None` if it ended before it showed one.
async fn try_out(program: &Path, state: &Path) -> io::Result<Option<bool>> {
    let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = free.local_addr()?;
    drop(free);
    let folder = state.join("trial");
    fs::create_dir_all(&folder)?;
    let mut command = command(program, address, &folder, &folder);
    command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut trial = Trial(command.spawn()?);
    let verdict = loop {
        if trial.0.try_wait()?.is_some() {
            break None;
        }
        match look(address, "/").await {
            Ok(verdict) => break Some(verdict),
            Err(_) => sleep(PAUSE).await,
        }
    };
    drop(trial);
    // What is left of it is harmless.
    let _ = fs::remove_dir_all(&folder);
    Ok(verdict)
}

/// Asks for the page and follows one redirect, which code-server makes to name its folder.
async fn look(address: SocketAddr, path: &str) -> io::Result<bool> {
    let page = fetch(address, path).await?;
    let Some(place) = page
        .lines()
        .find_map(|line| line.strip_prefix("Location: ./"))
    else {
        return Ok(shows_workbench(&page));
    };
    let page = fetch(address, &format!("/{}", place.trim())).await?;
    Ok(shows_workbench(&page))
}

fn shows_workbench(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200 ") && answer.contains("workbench")
}

async fn fetch(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: text/html\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LARGEST_PAGE).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
