//! What is wrong with the settings: everything at once, each with where it was said.

use std::fmt;

use super::tree::Origin;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    origin: Origin,
    /// The key with its sections, or nothing if the whole source is meant.
    path: String,
    message: String,
}

/// All that is wrong. Displays one problem on each line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problem {
    /// `message` about the value at `path`.
    #[must_use]
    pub fn new(origin: &Origin, path: &str, message: impl Into<String>) -> Self {
        Self {
            origin: origin.clone(),
            path: path.to_owned(),
            message: message.into(),
        }
    }

    /// Whether it says the same of the same place, under whatever key.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.origin, &self.message) == (&other.origin, &other.message)
    }

    /// Whether it is about the value at `path` or one below it.
    #[must_use]
    pub fn is_at(&self, path: &str) -> bool {
        let below = self.path.strip_prefix(path);
        below.is_some_and(|below| below.is_empty() || below.starts_with(['.', '[']))
    }
}

impl Problems {
    /// Puts the problems of a file in the order of its lines, before all others. What is said twice, by two readers of
    /// one section, is kept once.
    #[must_use]
    pub fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| match &problem.origin {
            Origin::File(_, line) => (0, *line),
            Origin::Path(_) => (0, 0),
            Origin::Default | Origin::Variable(_) | Origin::CommandLine => (1, 0),
        });
        problems.dedup();
        Self(problems)
    }
}

impl Extend<Problems> for Vec<Problem> {
    fn extend<T: IntoIterator<Item = Problems>>(&mut self, all: T) {
        all.into_iter()
            .for_each(|problems| self.extend_from_slice(&problems.0));
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
