//! The durable record of one session, `session.json`: what a restarted gateway knows of it.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::folder::{DataFolder, SessionFolder};
use crate::{
    activator::{Listed, Seen, SpawnError},
    session::{Found, Plan, Reason, SessionId, clock},
};

/// The form of the record that is written here, and the only one that is read.
const VERSION: u32 = 1;

/// What is recorded of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    intended: Intended,
    plan: Plan,
    created: Timestamp,
    used: Option<Timestamp>,
}

/// What a session is meant to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Intended {
    /// To run: if it does not, it is started by the next request.
    Run,
    /// To be stopped.
    Stop,
}

/// Why a record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    #[error("{}", .0.display())]
    Storage(PathBuf, #[source] io::Error),
    #[error("{} is no record of a session, and is left as it is: mend it, or move it away", .0.display())]
    Broken(PathBuf, #[source] serde_json::Error),
    #[error("{path} has version {1}, and this program reads version {VERSION}", path = .0.display())]
    Version(PathBuf, u32),
}

impl Record {
    /// Reads the record; `None` if there is none. Blocks.
    pub(super) fn read(folder: &SessionFolder) -> Result<Option<Self>, RecordError> {
        #[derive(Deserialize)]
        struct Form {
            version: u32,
        }
        let path = folder.record();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(RecordError::Storage(path, error)),
        };
        let broken = |error| RecordError::Broken(path.clone(), error);
        // By itself and first: a later form may lack what is read below.
        let Form { version } = serde_json::from_slice(&text).map_err(broken)?;
        if version != VERSION {
            return Err(RecordError::Version(path, version));
        }
        serde_json::from_slice(&text).map(Some).map_err(broken)
    }

    /// Makes the session's folders where they are missing, and records that it is to run, made from `plan`. That is a
    /// use: what runs may end before it is used again. Blocks until it is on the disk.
    pub(super) fn run(folder: &SessionFolder, plan: &Plan) -> Result<(), RecordError> {
        fs::create_dir_all(folder.workspace())
            .map_err(|error| RecordError::Storage(folder.workspace(), error))?;
        let earlier = Self::read(folder)?;
        let now = Self {
            version: VERSION,
            intended: Intended::Run,
            plan: plan.clone(),
            created: earlier.as_ref().map_or_else(clock::now, |it| it.created),
            used: earlier.and_then(|it| it.used).max(Some(clock::now())),
        };
        now.write(folder)
    }

    /// Changes the record by `change` if there is one and that makes a difference. Blocks until it is on the disk.
    pub(super) fn change(
        folder: &SessionFolder,
        change: impl FnOnce(&mut Self),
    ) -> Result<(), RecordError> {
        let Some(earlier) = Self::read(folder)? else {
            return Ok(());
        };
        let mut now = earlier.clone();
        change(&mut now);
        if now == earlier {
            return Ok(());
        }
        now.write(folder)
    }

    /// It is meant to be stopped.
    pub(super) fn stop(&mut self) {
        self.intended = Intended::Stop;
    }

    /// It was used at this time, or later if that is known.
    pub(super) fn stamp(&mut self, used: Timestamp) {
        self.used = self.used.max(Some(used));
    }

    /// Whether it was neither used nor made since then.
    pub(super) fn is_left(&self, since: Timestamp) -> bool {
        self.used.unwrap_or(self.created) < since
    }

    /// The session as it is listed, if it is on record. Blocks.
    pub(super) fn listed(
        folder: &SessionFolder,
        id: SessionId,
    ) -> Result<Option<Listed>, RecordError> {
        let record = Self::read(folder)?;
        Ok(record.map(|record| Listed {
            id,
            seen: Self::seen(Some(&record)),
            made: Some(record.created),
            is_kept: folder.is_kept(),
            plan: record.plan,
        }))
    }

    /// What it says of a session of which nothing runs.
    pub(super) fn seen(record: Option<&Self>) -> Seen {
        Seen {
            found: match record.map(|record| record.intended) {
                None => Found::Absent,
                Some(Intended::Stop) => Found::Stopped,
                Some(Intended::Run) => Found::Vanished,
            },
            used: record.and_then(|record| record.used),
        }
    }

    /// Atomically and durably: a reader, and a machine that loses its power, has the earlier record or this one.
    fn write(&self, folder: &SessionFolder) -> Result<(), RecordError> {
        let (path, new) = (folder.record(), folder.path().join("session.json.new"));
        let written = serde_json::to_vec_pretty(self)
            .map_err(io::Error::from)
            .and_then(|text| {
                let mut file = File::create(&new)?;
                file.write_all(&text)?;
                file.sync_all()?;
                fs::rename(&new, &path)?;
                sync_folder(folder.path())
            });
        written.map_err(|error| RecordError::Storage(path, error))
    }
}

/// The records of the sessions after `after`, by id, at most `limit`. Those that cannot be read are left out, and
/// do not count. Blocks.
pub(super) fn list(
    folder: &DataFolder,
    after: Option<SessionId>,
    limit: usize,
) -> Result<Vec<Listed>, RecordError> {
    let failed = |error| RecordError::Storage(folder.sessions(), error);
    let mut ids = Vec::new();
    for entry in fs::read_dir(folder.sessions()).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        // Whatever else lies there is none of ours.
        if let Ok(id) = SessionId::from_bytes(name.as_encoded_bytes()) {
            ids.push(id);
        }
    }
    ids.retain(|&id| Some(id) > after);
    ids.sort_unstable();
    let listed = ids.into_iter().filter_map(|id| {
        let listed = Record::listed(&folder.session(id), id);
        listed
            .inspect_err(|error| warn!(%error, "session not listed"))
            .ok()?
    });
    Ok(listed.take(limit).collect())
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

impl From<RecordError> for SpawnError {
    fn from(error: RecordError) -> Self {
        let cause = std::error::Error::source(&error);
        let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
        let reason = Reason::Storage {
            error: format!("{error}{cause}").into(),
        };
        Self::because(reason, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            project: "p".to_owned(),
            user: "u".to_owned(),
            profile: Plan::default_profile(),
        }
    }

    fn folder(data: &tempfile::TempDir) -> SessionFolder {
        DataFolder::open(data.path())
            .unwrap()
            .session(SessionId::random())
    }

    #[test]
    fn a_record_tells_absent_stopped_and_vanished_apart() {
        let data = tempfile::tempdir().unwrap();
        let folder = folder(&data);
        let found = || Record::seen(Record::read(&folder).unwrap().as_ref()).found;
        assert_eq!(found(), Found::Absent);
        Record::change(&folder, Record::stop).unwrap();
        assert_eq!(found(), Found::Absent, "a stop made a record");
        Record::run(&folder, &plan()).unwrap();
        assert_eq!(found(), Found::Vanished);
        Record::change(&folder, Record::stop).unwrap();
        assert_eq!(found(), Found::Stopped);
        let created = Record::read(&folder).unwrap().unwrap().created;
        Record::run(&folder, &plan()).unwrap();
        assert_eq!(Record::read(&folder).unwrap().unwrap().created, created);
    }

    #[test]
    fn an_older_stamp_changes_nothing() {
        let data = tempfile::tempdir().unwrap();
        let folder = folder(&data);
        let (early, late) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
        Record::change(&folder, |it| it.stamp(late)).unwrap();
        assert_eq!(
            Record::read(&folder).unwrap(),
            None,
            "a stamp made a record"
        );
        let begun = clock::now();
        Record::run(&folder, &plan()).unwrap();
        let used = || Record::read(&folder).unwrap().unwrap().used;
        assert!(used() >= Some(begun), "a start is a use");
        for stamp in [early, late, early] {
            Record::change(&folder, |it| it.stamp(stamp)).unwrap();
        }
        assert_eq!(used(), Some(late));
    }

    #[test]
    fn a_broken_record_takes_no_place_in_a_list() {
        let data = tempfile::tempdir().unwrap();
        let sessions = DataFolder::open(data.path()).unwrap();
        let mut ids: Vec<SessionId> = (0..4).map(|_| SessionId::random()).collect();
        ids.sort_unstable();
        for id in &ids {
            Record::run(&sessions.session(*id), &plan()).unwrap();
        }
        fs::write(sessions.session(ids[1]).record(), "broken").unwrap();
        let list = |after| {
            let listed = list(&sessions, after, 2).unwrap();
            listed.iter().map(|one| one.id).collect::<Vec<_>>()
        };
        assert_eq!(list(None), [ids[0], ids[2]]);
        assert_eq!(list(Some(ids[2])), [ids[3]]);
    }

    #[test]
    fn a_broken_record_is_named_and_kept() {
        let data = tempfile::tempdir().unwrap();
        let folder = folder(&data);
        Record::run(&folder, &plan()).unwrap();
        for broken in ["", "{\"version\":1", "{\"version\":1}", "{\"version\":2}"] {
            fs::write(folder.record(), broken).unwrap();
            let errors = [
                Record::read(&folder).unwrap_err(),
                Record::run(&folder, &plan()).unwrap_err(),
                Record::change(&folder, Record::stop).unwrap_err(),
            ];
            for error in errors {
                let path = folder.record().display().to_string();
                assert!(error.to_string().contains(&path), "{error}");
            }
            assert_eq!(fs::read_to_string(folder.record()).unwrap(), broken);
        }
    }
}
