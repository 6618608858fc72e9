//! The workspace's folder and the paths in it. Nothing outside of it is ever read or written, wherever links point.
//!
//! A link that leads out of the workspace is treated as if it were not there; one that stays inside works. Whoever
//! can make links in the workspace while a request runs is the session itself, so checking first is enough.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

/// The folder with a session's files, by its real path.
#[derive(Debug, Clone)]
pub(super) struct Workspace {
    root: PathBuf,
}

/// Why a path is not one of the workspace.
#[derive(Debug, thiserror::Error)]
pub(super) enum PathError {
    /// Empty, absolute, or with empty, `.` or `..` segments or a NUL.
    #[error("{0:?} is not a path inside the workspace")]
    Unfit(String),
    /// Leads out of the workspace by a link.
    #[error("{0:?} leads out of the workspace")]
    Outside(String),
    /// Not there, or not readable.
    #[error("cannot read {path:?}")]
    Io {
        path: String,
        #[source]
        source: io::Error,
    },
}

impl Workspace {
    /// Makes the folder if it is missing.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self {
            root: folder.canonicalize()?,
        })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The real path of something that is there; links are followed.
    pub(super) fn existing(&self, path: &str) -> Result<PathBuf, PathError> {
        self.real(path, &self.root.join(fit(path)?))
    }

    /// The path of an entry that may not be there yet; a link is the entry itself, not what it points to.
    pub(super) fn entry(&self, path: &str) -> Result<PathBuf, PathError> {
        let relative = fit(path)?;
        let (Some(name), Some(parent)) = (relative.file_name(), relative.parent()) else {
            return Err(PathError::Unfit(path.to_owned()));
        };
        Ok(self.real(path, &self.root.join(parent))?.join(name))
    }

    fn real(&self, path: &str, full: &Path) -> Result<PathBuf, PathError> {
        let read = |source| PathError::Io {
            path: path.to_owned(),
            source,
        };
        let real = full.canonicalize().map_err(read)?;
        if real.starts_with(&self.root) {
            Ok(real)
        } else {
            Err(PathError::Outside(path.to_owned()))
        }
    }
}

/// A relative path of plain names.
fn fit(path: &str) -> Result<&Path, PathError> {
    let names = path
        .split('/')
        .all(|name| !matches!(name, "" | "." | "..") && !name.contains('\0'));
    let plain = Path::new(path)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if names && plain {
        Ok(Path::new(path))
    } else {
        Err(PathError::Unfit(path.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_the_workspace_has_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("workspace");
        let workspace = Workspace::open(&root).unwrap();
        fs::write(folder.path().join("secret"), "x").unwrap();
        fs::create_dir(root.join("in")).unwrap();
        fs::write(root.join("in/file"), "x").unwrap();
        std::os::unix::fs::symlink("../secret", root.join("out")).unwrap();
        std::os::unix::fs::symlink("..", root.join("up")).unwrap();
        std::os::unix::fs::symlink("in/file", root.join("link")).unwrap();
        for path in [
            "",
            "/",
            "..",
            "../secret",
            "in/../../secret",
            "in//file",
            "./in",
            "/etc/passwd",
            "in/",
            "a\0",
        ] {
            assert!(
                matches!(workspace.existing(path), Err(PathError::Unfit(_))),
                "{path:?}"
            );
            assert!(
                matches!(workspace.entry(path), Err(PathError::Unfit(_))),
                "{path:?}"
            );
        }
        for path in ["out", "up", "up/secret"] {
            assert!(
                matches!(workspace.existing(path), Err(PathError::Outside(_))),
                "{path:?}"
            );
        }
        assert!(matches!(
            workspace.entry("up/new"),
            Err(PathError::Outside(_))
        ));
        let real = workspace.root();
        assert_eq!(workspace.existing("link").unwrap(), real.join("in/file"));
        assert_eq!(workspace.entry("link").unwrap(), real.join("link"));
        assert_eq!(workspace.entry("in/new").unwrap(), real.join("in/new"));
    }
}
