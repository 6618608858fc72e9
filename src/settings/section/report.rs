//! What reading brought up: problems, and which keys there are.

use std::collections::{BTreeMap, BTreeSet};

use crate::settings::problems::Problem;
use crate::settings::tree::{Map, Origin, Value};

/// How alike a key must be to one that is known, from 0 to 1, for a spelling mistake to be likelier than another word.
const ALIKE: f64 = 0.8;

/// What reading brought up so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) problems: Vec<Problem>,
    /// The keys that were asked for, by the path of their section.
    pub(super) known: BTreeMap<String, BTreeSet<String>>,
}

impl Report {
    pub(super) fn problem(&mut self, origin: &Origin, path: &str, message: String) {
        self.problems.push(Problem::new(origin, path, message));
    }

    /// Whether something is wrong with the value at `path` or one below it.
    pub(super) fn has_problem(&self, path: &str) -> bool {
        self.problems.iter().any(|problem| problem.is_at(path))
    }

    /// Reports each key of a section that was read which nobody asked for.
    pub(super) fn unknown_keys(&mut self, path: &str, map: &Map) {
        let Some(known) = self.known.get(path).cloned() else {
            return;
        };
        for (key, origin, node) in map.iter() {
            let here = join(path, key);
            if known.contains(key) {
                if let Value::Map(map) = &node.value {
                    self.unknown_keys(&here, map);
                }
            } else {
                let message = match self.nearest(path, &known, key) {
                    Some(near) => format!("unknown key; did you mean {near}?"),
                    None => {
                        let known: Vec<&str> = known.iter().map(String::as_str).collect();
                        format!("unknown key; known here: {}", known.join(", "))
                    }
                };
                self.problem(origin, &here, message);
            }
        }
    }

    /// The known keys that `key` was probably meant to be: the one in its own section that is spelled almost like it,
    /// else those of that name in other sections, as of somebody who forgot to indent.
    fn nearest(&self, path: &str, known: &BTreeSet<String>, key: &str) -> Option<String> {
        let key = key.to_lowercase();
        let likeness = |other: &String| (strsim::jaro_winkler(&key, other), other.clone());
        let near = known
            .iter()
            .map(likeness)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((_, other)) = near.filter(|(likeness, _)| *likeness > ALIKE) {
            return Some(join(path, &other));
        }
        let sections = self.known.iter().filter(|(_, keys)| keys.contains(&key));
        let elsewhere: Vec<String> = sections.map(|(path, _)| join(path, &key)).collect();
        (!elsewhere.is_empty()).then(|| elsewhere.join(" or "))
    }
}

/// The path of `key` in the section at `path`.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
