//! YAML into a tree, each value with its line.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DefaultMessageFormatter, Location, Options, Spanned};

use super::tree::{Map, Node, Origin, Value};

/// The text is no YAML.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct YamlError {
    /// What is wrong, in one line.
    pub message: String,
    /// Where, if the parser knows; lines count from 1.
    pub line: Option<u64>,
}

/// Reads a document, whose values stand at `origin(line)`. An empty document is `null`.
///
/// # Errors
/// If it is no YAML, or has a key twice.
pub fn parse(text: &str, origin: &dyn Fn(u64) -> Origin) -> Result<Node, YamlError> {
    let mut options = Options::default();
    // Numbers only where YAML 1.2 has them: the project id 007 is a string, and so are 1_000 and yes.
    options.leading_zero_numbers_as_strings = true;
    options.underscored_numbers_as_strings = true;
    options.strict_booleans = true;
    options.with_snippet = false;
    let parsed: Option<Spanned<Parsed>> =
        serde_saphyr::from_str_with_options(text, options).map_err(error)?;
    Ok(match parsed {
        Some(parsed) => node(parsed, text, origin),
        None => Node::new(Value::Null, origin(1)),
    })
}

/// A document of strings, numbers, lists and mappings.
///
/// # Panics
/// Never for such a document.
#[must_use]
pub fn text(document: &serde_json::Value) -> String {
    serde_saphyr::to_string(document).expect("JSON is YAML")
}

/// What serde hands over: each value with its place in the text.
enum Parsed {
    Null,
    Bool(bool),
    Number(String),
    String(String),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<String>, Spanned<Self>)>),
}

fn node(parsed: Spanned<Parsed>, text: &str, origin: &dyn Fn(u64) -> Origin) -> Node {
    let at = origin(parsed.referenced.line());
    let value = match parsed.value {
        Parsed::Null => Value::Null,
        Parsed::Bool(flag) => Value::Bool(flag),
        Parsed::Number(number) => Value::Number(written(parsed.defined, text).unwrap_or(number)),
        Parsed::String(string) => Value::String(string),
        Parsed::List(items) => Value::List(
            items
                .into_iter()
                .map(|item| node(item, text, origin))
                .collect(),
        ),
        Parsed::Map(entries) => {
            let mut map = Map::default();
            for (key, value) in entries {
                let at = origin(key.referenced.line());
                let mut value = node(value, text, origin);
                // The parser sees a section at its first key, and nothing at the next line; people see the key.
                if matches!(value.value, Value::Null | Value::Map(_)) {
                    value.origin = at.clone();
                }
                map.insert(key.value, at, value);
            }
            Value::Map(map)
        }
    };
    Node::new(value, at)
}

/// The scalar as it stands in the text.
fn written(at: Location, text: &str) -> Option<String> {
    let start = usize::try_from(at.span().byte_offset()?).ok()?;
    let len = usize::try_from(at.span().byte_len()?).ok()?;
    Some(text.get(start..start.checked_add(len)?)?.to_owned())
}

fn error(error: serde_saphyr::Error) -> YamlError {
    let plain = error.without_snippet();
    let message = match plain {
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key {key} is there twice")
        }
        serde_saphyr::Error::MultipleDocuments { .. } => {
            "a second document starts here; expected one".to_owned()
        }
        // The parser's own words, without the place, which every problem has in front.
        other => {
            let text = other.render_with_formatter(&DefaultMessageFormatter);
            let words = text
                .rsplit_once(" at line ")
                .map_or(text.as_str(), |(words, _)| words);
            format!("this is no YAML: {words}")
        }
    };
    let line = plain.location().map(|at| at.line());
    YamlError { message, line }
}

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ParsedVisitor)
    }
}

struct ParsedVisitor;

impl<'de> Visitor<'de> for ParsedVisitor {
    type Value = Parsed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Parsed, E> {
        Ok(Parsed::Null)
    }

    fn visit_none<E>(self) -> Result<Parsed, E> {
        Ok(Parsed::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Parsed, E> {
        Ok(Parsed::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Parsed, E> {
        Ok(Parsed::Number(number.to_string()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Parsed, E> {
        Ok(Parsed::Number(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Parsed, E> {
        Ok(Parsed::Number(number.to_string()))
    }

    fn visit_str<E>(self, string: &str) -> Result<Parsed, E> {
        Ok(Parsed::String(string.to_owned()))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Parsed, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Parsed, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Parsed::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Parsed, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key()? {
            map.push((key, entries.next_value()?));
        }
        Ok(Parsed::Map(map))
    }
}
