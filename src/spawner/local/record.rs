//! What is kept of local sessions on disk: one folder each, with its record and its workspace.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::session::{Plan, SessionId};

/// The format that this version writes.
const VERSION: u32 = 1;

/// Why the folder of all sessions cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another gateway uses it.
    #[error(
        "the folder {0} is in use by another gateway (process {1}): stop that one, or give this one a folder of its \
         own with local.data"
    )]
    InUse(PathBuf, String),
    /// The operating system refuses it.
    #[error("the folder {0} cannot be used for sessions: local.data sets another")]
    Unusable(PathBuf, #[source] io::Error),
}

/// The folder of all sessions. Locked while it lives: the kernel gives the lock back however the process ends.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    _lock: File,
}

/// The durable record of one session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) version: u32,
    /// What it is made from.
    pub(super) plan: Plan,
    /// Whether it should run.
    pub(super) run: bool,
    /// When it was last used.
    pub(super) used: Option<Timestamp>,
}

impl Record {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            version: VERSION,
            plan,
            run: true,
            used: None,
        }
    }
}

impl Folder {
    /// Makes the folder if it is missing, and takes it for this process.
    pub(super) fn open(root: &Path) -> Result<Self, OpenError> {
        let unusable = |error| OpenError::Unusable(root.to_owned(), error);
        private(root).map_err(unusable)?;
        let root = root.canonicalize().map_err(unusable)?;
        private(&root.join("sessions")).map_err(unusable)?;
        let path = root.join("lock");
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = lock.read_to_string(&mut holder);
                return Err(OpenError::InUse(root, holder.trim().to_owned()));
            }
        }
        let write = lock
            .set_len(0)
            .and_then(|()| write!(lock, "{}", std::process::id()));
        write.map_err(unusable)?;
        Ok(Self { root, _lock: lock })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn session(&self, id: SessionId) -> PathBuf {
        self.root.join("sessions").join(id.to_string())
    }

    pub(super) fn workspace(&self, id: SessionId) -> PathBuf {
        self.session(id).join("workspace")
    }

    fn file(&self, id: SessionId) -> PathBuf {
        self.session(id).join("session.json")
    }

    /// The record of a session; none if it never ran here. One that cannot be read is an error, never overwritten.
    pub(super) fn read(&self, id: SessionId) -> io::Result<Option<Record>> {
        let path = self.file(id);
        let named = |error: &dyn std::fmt::Display| {
            io::Error::other(format!("{}: {error}", path.display()))
        };
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(named(&error)),
        };
        let record: Record = serde_json::from_slice(&text).map_err(|error| named(&error))?;
        if record.version > VERSION {
            return Err(named(&format!(
                "written by a later version of this program (format {})",
                record.version
            )));
        }
        Ok(Some(record))
    }

    /// Makes the session's folder and workspace, and writes its record so that a crash leaves the old or the new one.
    pub(super) fn write(&self, id: SessionId, record: &Record) -> io::Result<()> {
        let folder = self.session(id);
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", folder.display()))
        };
        private(&self.workspace(id)).map_err(named)?;
        let draft = folder.join("session.json.draft");
        let mut file = File::create(&draft).map_err(named)?;
        file.write_all(&serde_json::to_vec_pretty(record)?)
            .map_err(named)?;
        file.sync_all().map_err(named)?;
        fs::rename(&draft, self.file(id)).map_err(named)?;
        File::open(&folder)
            .and_then(|folder| folder.sync_all())
            .map_err(named)
    }

    /// All sessions with a folder here, in order.
    pub(super) fn sessions(&self) -> io::Result<Vec<SessionId>> {
        let entries = fs::read_dir(self.root.join("sessions"))?;
        let names = entries.flatten().map(|entry| entry.file_name());
        let mut ids: Vec<SessionId> = names
            .filter_map(|name| name.to_str()?.parse().ok())
            .collect();
        ids.sort();
        Ok(ids)
    }
}

/// A folder, with its parents, that other users of the machine cannot look into.
fn private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_cannot_be_read_is_an_error_and_stays() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        let id = SessionId::random();
        assert_eq!(folder.read(id).unwrap(), None);
        let record = Record::new(Plan {
            project: "7".into(),
            user: "42".into(),
        });
        folder.write(id, &record).unwrap();
        assert_eq!(folder.read(id).unwrap(), Some(record));
        assert_eq!(folder.sessions().unwrap(), [id]);
        for broken in [
            "{",
            r#"{"version":2,"plan":{"project":"","user":""},"run":true,"used":null}"#,
        ] {
            fs::write(folder.file(id), broken).unwrap();
            let error = folder.read(id).unwrap_err().to_string();
            assert!(error.contains("session.json: "), "{error}");
            assert_eq!(fs::read_to_string(folder.file(id)).unwrap(), broken);
        }
    }
}
