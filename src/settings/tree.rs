//! The tree of values that every source is turned into. Each value remembers where it was said.

use std::fmt;
use std::sync::Arc;

/// Where a value was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The built-in defaults.
    Default,
    /// A line of a file; lines count from 1.
    File(Arc<str>, u64),
    /// A file as a whole.
    Path(Arc<str>),
    /// An environment variable.
    Variable(Arc<str>),
    /// A flag of the command line.
    CommandLine,
}

/// A value and where it was said.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it was said.
    pub origin: Origin,
}

/// A value as it was written, before anybody asked for a type.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`, or nothing after the colon.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number as it was written: where a string is wanted, `1.10` stays `1.10`.
    Number(String),
    /// Any other scalar.
    String(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping.
    Map(Map),
}

/// A mapping in the order of its first source. Small, so a search from the front is fast enough.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Map {
    entries: Vec<Entry>,
    /// A later source set the whole mapping to nothing, and none after that said anything of it.
    removed: bool,
}

/// A key, where it was said, and its value.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    key: String,
    origin: Origin,
    node: Node,
}

impl Node {
    /// A value said at `origin`.
    #[must_use]
    pub fn new(value: Value, origin: Origin) -> Self {
        Self { value, origin }
    }

    /// An empty mapping.
    #[must_use]
    pub fn empty(origin: Origin) -> Self {
        Self::new(Value::Map(Map::default()), origin)
    }

    /// The mapping that it is, or becomes.
    pub fn as_map(&mut self) -> &mut Map {
        if !matches!(self.value, Value::Map(_)) {
            self.value = Value::Map(Map::default());
        }
        match &mut self.value {
            Value::Map(map) => map,
            _ => unreachable!("it was made one"),
        }
    }

    /// The list that it is, or becomes.
    pub fn as_list(&mut self) -> &mut Vec<Self> {
        if !matches!(self.value, Value::List(_)) {
            self.value = Value::List(Vec::new());
        }
        match &mut self.value {
            Value::List(list) => list,
            _ => unreachable!("it was made one"),
        }
    }

    /// Lays `over` on top of this node: mappings are merged key by key, everything else is replaced.
    ///
    /// A mapping that is set to nothing stays, marked as [removed](Map::is_removed): in a file, `log:` with all its
    /// keys commented out must not take the defaults away.
    pub fn merge(&mut self, over: Self) {
        match (&mut self.value, over.value) {
            (Value::Map(under), Value::Null) => under.removed = true,
            (Value::Map(under), Value::Map(upper)) => {
                under.removed = false;
                for Entry { key, origin, node } in upper.entries {
                    match under.entries.iter_mut().find(|entry| entry.key == key) {
                        Some(entry) => {
                            entry.origin = origin;
                            entry.node.merge(node);
                        }
                        None => under.entries.push(Entry { key, origin, node }),
                    }
                }
                self.origin = over.origin;
            }
            (_, value) => *self = Self::new(value, over.origin),
        }
    }
}

impl Value {
    /// The mapping, if it is one.
    #[must_use]
    pub fn map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }
}

impl Map {
    /// The value at `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.node)
    }

    /// Whether it was set to nothing by a later source: an entry of an open mapping is then left out.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.removed
    }

    /// The value at `key`, which becomes `null` if there is none.
    pub fn entry(&mut self, key: &str, origin: &Origin) -> &mut Node {
        let at = self
            .entries
            .iter()
            .position(|entry| entry.key == key)
            .unwrap_or_else(|| {
                self.entries.push(Entry {
                    key: key.to_owned(),
                    origin: origin.clone(),
                    node: Node::new(Value::Null, origin.clone()),
                });
                self.entries.len() - 1
            });
        &mut self.entries[at].node
    }

    /// Adds a key, which must not be there yet; says so with `false`.
    pub fn insert(&mut self, key: String, origin: Origin, node: Node) -> bool {
        let new = self.get(&key).is_none();
        if new {
            self.entries.push(Entry { key, origin, node });
        }
        new
    }

    /// All keys, where each was said, and their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Origin, &Node)> {
        self.entries
            .iter()
            .map(|entry| (entry.key.as_str(), &entry.origin, &entry.node))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("built-in defaults"),
            Self::File(name, line) => write!(f, "{name}:{line}"),
            Self::Path(name) => f.write_str(name),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

impl Value {
    /// The same value as JSON. A number that JSON cannot have is a string.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Self::Null => Json::Null,
            Self::Bool(flag) => Json::Bool(*flag),
            Self::Number(text) => {
                serde_json::from_str(text).unwrap_or_else(|_| Json::String(text.clone()))
            }
            Self::String(text) => Json::String(text.clone()),
            Self::List(items) => items.iter().map(|item| item.value.json()).collect(),
            Self::Map(map) => map
                .iter()
                .filter(|(_, _, node)| node.value != Self::Null)
                .map(|(key, _, node)| (key.to_owned(), node.value.json()))
                .collect(),
        }
    }
}

/// What was found, for a message that says what was expected instead.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("nothing"),
            Self::Bool(flag) => write!(f, "{flag}"),
            Self::Number(text) => write!(f, "the number {text}"),
            Self::String(text) => write!(f, "{text:?}"),
            Self::List(_) => f.write_str("a list"),
            Self::Map(_) => f.write_str("a section with keys of its own"),
        }
    }
}
