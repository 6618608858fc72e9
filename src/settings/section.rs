//! Reads typed values from a tree and collects everything that is wrong with it.
//!
//! A key is known if it was asked for, so no list of keys can be out of date. A value that cannot be read is replaced
//! by some value of its type and reading goes on: the caller looks at the problems before it uses anything.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::ByteSize;

use super::problems::{Problem, Problems};
use super::tree::{Map, Node, Origin, Value};
use report::{Report, join};

mod report;

/// A point in time that is this far away can be computed on every system.
const LONGEST: Duration = Duration::from_hours(366 * 24);

/// One mapping of the tree, with its place in it.
#[derive(Debug)]
pub struct Section<'a> {
    path: String,
    map: &'a Map,
    origin: &'a Origin,
    report: &'a mut Report,
}

/// Reads the whole tree with `read`.
///
/// # Errors
/// If any value is wrong or any key was not asked for.
///
/// # Panics
/// If `read` returns `None` although all values could be read.
pub fn read<T>(
    tree: &Map,
    read: impl FnOnce(&mut Section<'_>) -> Option<T>,
) -> Result<T, Problems> {
    let mut report = Report::default();
    let value = read(&mut Section {
        path: String::new(),
        map: tree,
        origin: &Origin::Default,
        report: &mut report,
    });
    report.unknown_keys("", tree);
    if report.problems.is_empty() {
        Ok(value.expect("a section that is not there is a problem"))
    } else {
        Err(Problems::new(report.problems))
    }
}

impl<'a> Section<'a> {
    /// What `read` makes of the value at `key`, if there is one.
    pub fn optional<T>(&mut self, key: &str, read: impl FnOnce(&mut Self, &str) -> T) -> Option<T> {
        self.known(key);
        let given = self
            .map
            .get(key)
            .is_some_and(|node| node.value != Value::Null);
        given.then(|| read(self, key))
    }

    /// A duration with its unit: `1m 30s`.
    pub fn duration(&mut self, key: &str) -> Duration {
        self.parsed(
            key,
            "a duration with its unit, such as 25s or 10m, of a year at most",
            |text| {
                humantime::parse_duration(text)
                    .ok()
                    .filter(|duration| *duration <= LONGEST)
            },
        )
        .unwrap_or_default()
    }

    /// As [`duration`](Self::duration), of something that takes time: what has none is over before it begins.
    pub fn timeout(&mut self, key: &str) -> Duration {
        self.parsed(
            key,
            "a duration with its unit, such as 25s or 10m, of more than nothing and of a year at most",
            |text| {
                humantime::parse_duration(text)
                    .ok()
                    .filter(|duration| !duration.is_zero() && *duration <= LONGEST)
            },
        )
        .unwrap_or(LONGEST)
    }

    /// A number of bytes with its unit: `32KiB`.
    pub fn bytes(&mut self, key: &str, range: RangeInclusive<ByteSize>) -> usize {
        let expected = format!(
            "bytes with their unit, from {} to {}",
            range.start(),
            range.end()
        );
        let size = self.parsed(key, &expected, |text| {
            text.parse().ok().filter(|size| range.contains(size))
        });
        usize::try_from(size.unwrap_or(*range.start()).as_u64()).unwrap_or(usize::MAX)
    }

    /// An IP address and a port.
    pub fn address(&mut self, key: &str) -> SocketAddr {
        self.parsed(
            key,
            "an IP address and a port, such as 127.0.0.1:8000 or \"[::1]:8000\"",
            |text| text.parse().ok(),
        )
        .unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into())
    }

    /// A whole number in `range`.
    pub fn integer<T>(&mut self, key: &str, range: RangeInclusive<T>) -> T
    where
        T: Copy + Display + PartialOrd + std::str::FromStr,
    {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.value(key, &expected, |value| match value {
            Value::Number(text) => text.parse().ok().filter(|number| range.contains(number)),
            _ => None,
        })
        .unwrap_or(*range.start())
    }

    /// `true` or `false`.
    pub fn bool(&mut self, key: &str) -> bool {
        self.value(key, "true or false", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
        .unwrap_or_default()
    }

    /// One of `choices`, of which there is at least one, by its name.
    pub fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> T {
        let expected = match choices {
            [others @ .., (last, _)] if !others.is_empty() => {
                let others: Vec<&str> = others.iter().map(|(name, _)| *name).collect();
                format!("{} or {last}", others.join(", "))
            }
            [(only, _)] => (*only).to_owned(),
            [..] => "nothing".to_owned(),
        };
        self.parsed(key, &expected, |text| {
            choices
                .iter()
                .find(|(name, _)| *name == text)
                .map(|(_, choice)| *choice)
        })
        .unwrap_or(choices[0].1)
    }

    /// A string. A number or a truth value is taken as it was written.
    pub fn string(&mut self, key: &str) -> String {
        self.value(key, "a string", string).unwrap_or_default()
    }

    /// What `parse` makes of a string. `expected` says what it should be, with an example.
    pub fn parsed<T>(
        &mut self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        self.value(key, expected, |value| parse(&string(value)?))
    }

    /// A list of strings.
    pub fn strings(&mut self, key: &str) -> Vec<String> {
        let items = self.value(
            key,
            "a list of strings, such as [a, b]",
            |value| match value {
                Value::List(items) => Some(items.as_slice()),
                Value::Null => Some(&[]),
                _ => None,
            },
        );
        let items = items.unwrap_or_default().iter().enumerate();
        items
            .filter_map(|(at, item)| self.item(&format!("{key}[{at}]"), item))
            .collect()
    }

    /// A mapping of any keys to strings. A key that was set to nothing is left out.
    pub fn string_map(&mut self, key: &str) -> BTreeMap<String, String> {
        let map = self.value(
            key,
            "names and their values, such as {NAME: value}",
            Value::map,
        );
        let entries = map.into_iter().flat_map(Map::iter);
        entries
            .filter(|(_, _, node)| node.value != Value::Null)
            .filter_map(|(name, _, node)| {
                Some((name.to_owned(), self.item(&join(key, name), node)?))
            })
            .collect()
    }

    /// Whatever is there, as JSON, for values whose shape somebody else defines. `null` if nothing is.
    pub fn json(&mut self, key: &str) -> serde_json::Value {
        let json = self.value(key, "a value", |value| Some(value.json()));
        json.unwrap_or_default()
    }

    /// What `read` makes of the section `key`. `None`, and a problem, if it is no section.
    pub fn section<T>(&mut self, key: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> Option<T> {
        let map = self.value(
            key,
            "a section, with its keys on the lines below",
            Value::map,
        )?;
        Some(read(&mut Section {
            path: self.path(key),
            map,
            origin: self.origin_of(key),
            report: self.report,
        }))
    }

    /// What `read` makes of each section below `key`, whose keys are free names. A name that was set to nothing is left
    /// out.
    pub fn sections<T>(
        &mut self,
        key: &str,
        mut read: impl FnMut(&str, &mut Section<'_>) -> T,
    ) -> Vec<T> {
        let all = self.section(key, |open| {
            let mut all = Vec::new();
            for (name, _, node) in open.map.iter() {
                let left_out = match &node.value {
                    Value::Map(map) => map.is_removed(),
                    Value::Null => true,
                    _ => false,
                };
                if left_out {
                    open.known(name);
                } else {
                    all.extend(open.section(name, |section| read(name, section)));
                }
            }
            all
        });
        all.unwrap_or_default()
    }

    /// What `read` makes of each section below `key`, laid over this section: what it does not say is as it is here.
    /// What is wrong here is not told again for each.
    pub fn variants<T>(
        &mut self,
        key: &str,
        mut read: impl FnMut(&str, &mut Section<'_>) -> T,
    ) -> Vec<T> {
        let base = self.map.clone();
        let told = self.report.problems.len();
        let all = self.sections(key, |name, section| {
            let mut merged = Node::new(Value::Map(base.clone()), section.origin.clone());
            let over = Value::Map(section.map.clone());
            merged.merge(Node::new(over, section.origin.clone()));
            read(
                name,
                &mut Section {
                    path: section.path.clone(),
                    map: merged.as_map(),
                    origin: section.origin,
                    report: section.report,
                },
            )
        });
        let new = self.report.problems.split_off(told);
        let told = self.report.problems.clone();
        let is_new = |problem: &Problem| !told.iter().any(|old| old.is_same(problem));
        self.report.problems.extend(new.into_iter().filter(is_new));
        all
    }

    /// Reports `message` unless `holds`, for the first of `keys` that is no default; for the section itself if there
    /// are none. Silent if the value of one of them could not be read: it is not the one that was meant.
    pub fn check(&mut self, keys: &[&str], holds: bool, message: impl FnOnce() -> String) {
        let places: Vec<(&Origin, String)> = keys
            .iter()
            .map(|key| (self.origin_of(key), self.path(key)))
            .collect();
        if holds || places.iter().any(|(_, path)| self.report.has_problem(path)) {
            return;
        }
        let said = places
            .iter()
            .find(|(origin, _)| **origin != Origin::Default);
        match said.or(places.first()) {
            Some((origin, path)) => self.report.problem(origin, path, message()),
            None => self.report.problem(self.origin, &self.path, message()),
        }
    }

    /// What `parse` makes of the value at `key`; `None` is a problem.
    fn value<T>(
        &mut self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Option<T> {
        self.known(key);
        let path = self.path(key);
        let Some(node) = self.map.get(key) else {
            self.report.problem(
                self.origin,
                &path,
                format!("is missing; expected {expected}"),
            );
            return None;
        };
        let parsed = parse(&node.value);
        if parsed.is_none() {
            self.report.problem(
                &node.origin,
                &path,
                format!("expected {expected}; found {}", node.value),
            );
        }
        parsed
    }

    /// A string inside the value that is read.
    fn item(&mut self, key: &str, node: &Node) -> Option<String> {
        let item = string(&node.value);
        if item.is_none() {
            let message = format!("expected a string; found {}", node.value);
            self.report.problem(&node.origin, &self.path(key), message);
        }
        item
    }

    fn known(&mut self, key: &str) {
        let known = self.report.known.entry(self.path.clone()).or_default();
        known.insert(key.to_owned());
    }

    fn path(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Where the value at `keys` was said, which has a dot before each key but the first.
    fn origin_of(&self, keys: &str) -> &'a Origin {
        let (mut origin, mut map) = (self.origin, Some(self.map));
        for key in keys.split('.') {
            let Some(node) = map.and_then(|map| map.get(key)) else {
                break;
            };
            origin = &node.origin;
            map = node.value.map();
        }
        origin
    }
}

fn string(value: &Value) -> Option<String> {
    match value {
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(text) | Value::String(text) => Some(text.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
