//! Each source of settings as a tree.

use std::path::Path;
use std::sync::Arc;

use crate::settings::{Node, Origin, Problem, Problems, Value, pairs, yaml};

/// What the name of each environment variable that sets something starts with.
pub(super) const PREFIX: &str = "SESSION_GATEWAY__";

pub(super) fn defaults() -> Result<Node, Problems> {
    yaml::parse(super::DEFAULT, &|_| Origin::Default)
        .map_err(|error| Problem::new(&Origin::Default, "", error.to_string()).into())
}

pub(super) fn file(path: &Path) -> Result<Node, Problems> {
    let name: Arc<str> = path.display().to_string().into();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Problem::new(
            &Origin::Path(name.clone()),
            "",
            format!("cannot be read: {error}"),
        )
    })?;
    let line = |line| Origin::File(name.clone(), line);
    let tree = yaml::parse(&text, &line).map_err(|error| {
        let origin = error.line.map_or_else(|| Origin::Path(name.clone()), line);
        Problem::new(&origin, "", error.to_string())
    })?;
    section(tree)
}

/// The variables whose name starts with [`PREFIX`]: `SESSION_GATEWAY__SPAWN__HOLD` sets `spawn.hold`. Kubernetes sets
/// variables with one underscore there for a Service of this name, which are none of ours.
pub(super) fn variables(environment: &[(String, String)]) -> Result<Node, Problems> {
    let mut tree = Node::empty(Origin::CommandLine);
    let mut problems = Vec::new();
    let mut ours: Vec<_> = environment
        .iter()
        .filter_map(|(name, value)| Some((name, name.strip_prefix(PREFIX)?.to_lowercase(), value)))
        .collect();
    // A program that is started twice must not depend on the order of its environment.
    ours.sort();
    for (name, key, value) in ours {
        let origin = Origin::Variable(name.as_str().into());
        let parts: Vec<&str> = key.split("__").collect();
        if parts.contains(&"") || parts.len() > pairs::DEEPEST {
            let message = format!(
                "expected names with two underscores between them, as in {PREFIX}SPAWN__HOLD"
            );
            problems.push(Problem::new(&origin, "", message));
            continue;
        }
        let at = parts
            .iter()
            .fold(&mut tree, |at, part| at.as_map().entry(part, &origin));
        at.merge(variable(value, &origin));
    }
    whole(tree, problems)
}

/// A scalar or a list as in the file. What is no YAML is a string, so that `[::]:8000` needs no quotes.
fn variable(value: &str, origin: &Origin) -> Node {
    match yaml::parse(value, &|_| origin.clone()) {
        Ok(node) if !value.is_empty() => node,
        Ok(_) | Err(_) => Node::new(Value::String(value.to_owned()), origin.clone()),
    }
}

pub(super) fn flags(sets: &[String]) -> Result<Node, Problems> {
    let mut tree = Node::empty(Origin::CommandLine);
    let mut problems = Vec::new();
    for set in sets {
        if let Err(error) = pairs::parse(set, &Origin::CommandLine, &mut tree) {
            problems.push(Problem::new(&Origin::CommandLine, "", error.to_string()));
        }
    }
    whole(tree, problems)
}

fn whole(tree: Node, problems: Vec<Problem>) -> Result<Node, Problems> {
    if problems.is_empty() {
        Ok(tree)
    } else {
        Err(Problems::new(problems))
    }
}

/// A file without any value says nothing; one that is no mapping is refused before it replaces the defaults.
fn section(tree: Node) -> Result<Node, Problems> {
    match tree.value {
        Value::Map(_) => Ok(tree),
        Value::Null => Ok(Node::empty(tree.origin)),
        other => {
            let message = format!(
                "expected keys and their values, such as `listen: 127.0.0.1:8000`; found {other}"
            );
            Err(Problem::new(&tree.origin, "", message).into())
        }
    }
}
