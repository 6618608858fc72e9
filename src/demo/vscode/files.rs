//! What the editor does to files. Each change is one step for whoever reads the file: it is there whole or not at all.

use std::{
    fs,
    hash::{DefaultHasher, Hasher},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde::Serialize;
use uuid::Uuid;

use super::super::workspace::{PathError, Workspace};

/// Above this a text area is no editor any more.
pub(super) const LARGEST_FILE: u64 = 2 << 20;

/// Entries in the tree. More are not shown, which the answer says.
const MOST_ENTRIES: usize = 5000;

/// Folders of tools, which nobody edits by hand.
const UNLISTED: [&str; 3] = [".git", "node_modules", "target"];

/// Files being saved; a crash may leave one.
const SAVING: &str = ".saving-";

/// The workspace for one editor. Changes wait for each other, so that nothing happens between a check and its change.
#[derive(Clone)]
pub(super) struct Files {
    workspace: Workspace,
    changing: Arc<Mutex<()>>,
}

/// One entry of the tree, by its path in the workspace.
#[derive(Serialize)]
pub(super) struct Entry {
    path: String,
    folder: bool,
}

/// The tree, folders before what is in them.
#[derive(Serialize)]
pub(super) struct Tree {
    entries: Vec<Entry>,
    truncated: bool,
}

/// What must be true of a file for a save to be right.
pub(super) enum Expected {
    /// There is no such file yet.
    Absent,
    /// It is as it was when it was opened.
    Tag(String),
}

/// Why a file operation was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("{0:?} was changed or removed since it was opened")]
    Changed(String),
    #[error("{0:?} is there already")]
    Exists(String),
    #[error("{0:?} is not text")]
    Binary(String),
    #[error("{0:?} is larger than 2 MiB")]
    Large(String),
    #[error("{0:?} is a folder")]
    Folder(String),
    #[error("cannot change {path:?}")]
    Io {
        path: String,
        #[source]
        source: io::Error,
    },
}

impl Files {
    pub(super) fn new(workspace: Workspace) -> Self {
        Self {
            workspace,
            changing: Arc::default(),
        }
    }

    /// All entries but those of [`UNLISTED`] folders. Links are shown as what they point to, and not followed.
    pub(super) fn tree(&self) -> Tree {
        let mut entries = Vec::new();
        let mut open = vec![(self.workspace.root().to_owned(), String::new())];
        while let Some((folder, prefix)) = open.pop() {
            if !prefix.is_empty() {
                entries.push(Entry {
                    path: prefix.clone(),
                    folder: true,
                });
            }
            // A folder that cannot be read is shown empty.
            let found = fs::read_dir(&folder).into_iter().flatten().flatten();
            for entry in found {
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                let path = if prefix.is_empty() {
                    name.clone()
                } else {
                    format!("{prefix}/{name}")
                };
                if name.starts_with(SAVING) {
                    continue;
                }
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    if !UNLISTED.contains(&name.as_str()) {
                        open.push((entry.path(), path));
                    }
                } else {
                    entries.push(Entry {
                        path,
                        folder: false,
                    });
                }
                if entries.len() + open.len() >= MOST_ENTRIES {
                    return Tree {
                        entries,
                        truncated: true,
                    };
                }
            }
        }
        Tree {
            entries,
            truncated: false,
        }
    }

    /// A file's text and the tag of this very content.
    pub(super) fn read(&self, path: &str) -> Result<(String, String), FileError> {
        let content = self.content(path)?;
        let tag = tag(&content);
        let text = String::from_utf8(content).map_err(|_| FileError::Binary(path.to_owned()))?;
        if text.contains('\0') {
            return Err(FileError::Binary(path.to_owned()));
        }
        Ok((text, tag))
    }

    fn content(&self, path: &str) -> Result<Vec<u8>, FileError> {
        let real = self.workspace.existing(path)?;
        let found = fs::metadata(&real).map_err(io_error(path))?;
        if found.is_dir() {
            return Err(FileError::Folder(path.to_owned()));
        }
        // A pipe or a device has no end.
        if !found.is_file() {
            return Err(FileError::Binary(path.to_owned()));
        }
        let mut content = Vec::new();
        let file = fs::File::open(&real).map_err(io_error(path))?;
        file.take(LARGEST_FILE + 1)
            .read_to_end(&mut content)
            .map_err(io_error(path))?;
        if content.len() as u64 > LARGEST_FILE {
            return Err(FileError::Large(path.to_owned()));
        }
        Ok(content)
    }

    /// Replaces or makes a file, if it is as expected; returns its new tag. A link's target is written, not the link,
    /// and permissions stay.
    pub(super) fn save(
        &self,
        path: &str,
        content: &[u8],
        expected: &Expected,
    ) -> Result<String, FileError> {
        let _turn = self.turn();
        let target = match expected {
            Expected::Absent => self.new_entry(path)?,
            Expected::Tag(expected) => {
                match self.content(path) {
                    Ok(content) if tag(&content) == *expected => {}
                    Ok(_) | Err(FileError::Large(_)) => {
                        return Err(FileError::Changed(path.to_owned()));
                    }
                    Err(FileError::Path(PathError::Io { source, .. }))
                        if source.kind() == io::ErrorKind::NotFound =>
                    {
                        return Err(FileError::Changed(path.to_owned()));
                    }
                    Err(error) => return Err(error),
                }
                self.workspace.existing(path)?
            }
        };
        replace(&target, content).map_err(io_error(path))?;
        Ok(tag(content))
    }

    /// Makes an empty folder.
    pub(super) fn make_folder(&self, path: &str) -> Result<(), FileError> {
        let _turn = self.turn();
        fs::create_dir(self.new_entry(path)?).map_err(io_error(path))
    }

    /// Gives an entry another name or place. Nothing is overwritten.
    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), FileError> {
        let _turn = self.turn();
        let source = self.workspace.entry(from)?;
        let target = self.new_entry(to)?;
        fs::rename(source, target).map_err(io_error(from))
    }

    /// Removes a file, a link, or a folder with all that is in it.
    pub(super) fn remove(&self, path: &str) -> Result<(), FileError> {
        let _turn = self.turn();
        let target = self.workspace.entry(path)?;
        let found = fs::symlink_metadata(&target).map_err(io_error(path))?;
        let removed = if found.is_dir() {
            fs::remove_dir_all(target)
        } else {
            fs::remove_file(target)
        };
        removed.map_err(io_error(path))
    }

    fn new_entry(&self, path: &str) -> Result<PathBuf, FileError> {
        let target = self.workspace.entry(path)?;
        match fs::symlink_metadata(&target) {
            Ok(_) => Err(FileError::Exists(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(target),
            Err(error) => Err(io_error(path)(error)),
        }
    }

    /// The lock guards no data, so one left by a panic is as good as any.
    fn turn(&self) -> std::sync::MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn io_error(path: &str) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io { path, source }
}

/// By content, since times and sizes miss a change within a clock's tick.
fn tag(content: &[u8]) -> String {
    let mut hash = DefaultHasher::new();
    hash.write(content);
    format!("\"{:016x}-{:x}\"", hash.finish(), content.len())
}

/// Writes beside the target and renames over it. The name begins with a dot, so the preview does not see it.
fn replace(target: &Path, content: &[u8]) -> io::Result<()> {
    let saving = target.with_file_name(format!("{SAVING}{}", Uuid::new_v4().simple()));
    let written = write_new(&saving, target, content).and_then(|()| fs::rename(&saving, target));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&saving);
    }
    written
}

fn write_new(saving: &Path, target: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create_new(saving)?;
    file.write_all(content)?;
    if let Ok(old) = fs::metadata(target) {
        file.set_permissions(old.permissions())?;
    }
    file.sync_all()
}
