//! The folder of all local sessions, held by one gateway at a time, and what lies where in it.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use crate::session::SessionId;

/// Why sessions cannot be kept in a folder.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be made or written to.
    #[error("sessions cannot be kept in {}: set local.data to a folder that can be written to", .0.display())]
    Folder(PathBuf, #[source] io::Error),
    /// Another gateway has it.
    #[error("folder {folder} is in use by the gateway with pid {1}: stop it, or give this one another with local.data", folder = .0.display())]
    InUse(PathBuf, String),
}

/// The folder, for as long as this gateway holds its lock.
#[derive(Debug)]
pub(super) struct DataFolder {
    path: PathBuf,
    /// The kernel gives the lock back with the process, however that ends.
    _lock: File,
}

/// What the folder of a session that is being removed is called, before its id.
const REMOVED: &str = ".removed-";

/// Where one session's things are.
#[derive(Debug, Clone)]
pub(super) struct SessionFolder(PathBuf);

impl DataFolder {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the folder if it is missing, and takes its lock. Blocks for a moment.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |error| OpenError::Folder(path.to_owned(), error);
        // For its owner alone: the workspaces hold people's sources and keys.
        let mut folders = DirBuilder::new();
        let folders = folders.recursive(true).mode(0o700);
        folders.create(path.join("sessions")).map_err(failed)?;
        // Supervisors and services are started elsewhere, and are told absolute paths.
        let path = path.canonicalize().map_err(failed)?;
        let mut options = File::options();
        let options = options.create(true).truncate(false).read(true).write(true);
        let mut lock = options.open(path.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                lock.read_to_string(&mut holder).map_err(failed)?;
                return Err(OpenError::InUse(path, holder.trim().to_owned()));
            }
        }
        lock.set_len(0).map_err(failed)?;
        writeln!(lock, "{}", std::process::id()).map_err(failed)?;
        let folder = Self { path, _lock: lock };
        folder.end_removals().map_err(failed)?;
        Ok(folder)
    }

    /// Ends what an earlier gateway did not come to the end of.
    fn end_removals(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.sessions())? {
            let entry = entry?;
            if entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(REMOVED.as_bytes())
            {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    /// Where the session's things are, or will be.
    pub(super) fn session(&self, id: SessionId) -> SessionFolder {
        SessionFolder(self.sessions().join(id.to_string()))
    }

    /// The folder that has one folder per session, named by its id.
    pub(super) fn sessions(&self) -> PathBuf {
        self.path.join("sessions")
    }
}

impl SessionFolder {
    /// The session's own folder.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// What the session's user works in. Survives stops.
    pub(super) fn workspace(&self) -> PathBuf {
        self.0.join("workspace")
    }

    /// The durable record.
    pub(super) fn record(&self) -> PathBuf {
        self.0.join("session.json")
    }

    /// Whether somebody wants it kept, used or not.
    pub(super) fn is_kept(&self) -> bool {
        self.0.join("keep").exists()
    }

    /// Removes all of it. However that ends, nothing of it is found any more. Returns whether there was any. Blocks.
    pub(super) fn remove(&self) -> io::Result<bool> {
        let name = self.0.file_name().expect("it is named by the id");
        let mut removed = OsString::from(REMOVED);
        removed.push(name);
        let removed = self.0.with_file_name(removed);
        match fs::rename(&self.0, &removed) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        fs::remove_dir_all(removed).map(|()| true)
    }

    /// What the supervisor of this service locks.
    pub(super) fn lock(&self, service: &str) -> PathBuf {
        self.0.join(format!("{service}.lock"))
    }
}
