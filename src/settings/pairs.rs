//! Settings of the command line: `--set spawn.hold=30s,hosts={a.example,b.example}`, written as with Helm.
//!
//! A comma separates pairs, a dot separates the parts of a key, `{a,b}` is a list, `a[0]=x` sets one item of it, and a
//! backslash takes the meaning off the character after it. `true`, `false`, `null` and numbers have their type.

use std::iter::Peekable;
use std::str::Chars;

use super::tree::{Node, Origin, Value};
use super::yaml;

/// The most items a list can be given by their index: a slip of the finger must not fill the memory.
const LONGEST: usize = 1024;

/// The text is no `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PairsError {
    /// A key without a value.
    #[error("{0:?} has no value; expected KEY=VALUE")]
    NoValue(String),
    /// A key of which a part is empty.
    #[error("{0:?} has an empty part; expected a key such as spawn.hold")]
    EmptyPart(String),
    /// Brackets without a number, or with one too many.
    #[error("{0:?}: expected a number from 0 to {max} in brackets, as in hosts[0]=a.example", max = LONGEST - 1)]
    Index(String),
    /// A list without its end.
    #[error("the list of {0} has no closing brace; expected {0}={{a,b}}")]
    OpenList(String),
    /// Something behind the end of a list.
    #[error("the list of {0} is followed by {1:?}; expected a comma or the end")]
    AfterList(String, char),
}

/// One step from a value to one inside it.
#[derive(Debug)]
enum Step {
    Key(String),
    Index(usize),
}

/// Adds the pairs of `text` to `tree`, which is a mapping.
///
/// # Errors
/// If they are no pairs.
pub fn parse(text: &str, origin: &Origin, tree: &mut Node) -> Result<(), PairsError> {
    let mut rest = text.chars().peekable();
    while rest.peek().is_some() {
        let (key, steps) = key(&mut rest)?;
        let value = value(&mut rest, &key, origin)?;
        put(tree, steps, value, origin);
    }
    Ok(())
}

/// The key up to its `=`, as it is written and as steps.
fn key(rest: &mut Peekable<Chars<'_>>) -> Result<(String, Vec<Step>), PairsError> {
    let (mut written, mut part, mut steps) = (String::new(), String::new(), Vec::new());
    let mut after_index = false;
    loop {
        let Some(c) = rest.next().filter(|c| *c != ',') else {
            return Err(PairsError::NoValue(written));
        };
        if matches!(c, '=' | '.' | '[') && !after_index {
            if part.is_empty() {
                return Err(PairsError::EmptyPart(written));
            }
            steps.push(Step::Key(std::mem::take(&mut part)));
        }
        match c {
            '=' => return Ok((written, steps)),
            '.' => after_index = false,
            '[' => {
                steps.push(Step::Index(index(rest, &written)?));
                after_index = true;
            }
            _ if after_index => return Err(PairsError::EmptyPart(written)),
            '\\' => part.extend(rest.next()),
            c => part.push(c),
        }
        written.push(c);
    }
}

/// The number up to the closing bracket.
fn index(rest: &mut Peekable<Chars<'_>>, key: &str) -> Result<usize, PairsError> {
    let digits: String = rest.by_ref().take_while(|c| *c != ']').collect();
    let index = digits.parse().ok().filter(|index| *index < LONGEST);
    index.ok_or_else(|| PairsError::Index(key.to_owned()))
}

/// The value up to the comma that ends it, which is taken.
fn value(rest: &mut Peekable<Chars<'_>>, key: &str, origin: &Origin) -> Result<Value, PairsError> {
    if rest.next_if_eq(&'{').is_none() {
        let (text, _) = scalar(rest, &[',']);
        return Ok(typed(text, origin));
    }
    let mut items = Vec::new();
    if rest.next_if_eq(&'}').is_none() {
        loop {
            let (text, end) = scalar(rest, &[',', '}']);
            items.push(Node::new(typed(text, origin), origin.clone()));
            match end {
                Some('}') => break,
                Some(_) => {}
                None => return Err(PairsError::OpenList(key.to_owned())),
            }
        }
    }
    match rest.next() {
        None | Some(',') => Ok(Value::List(items)),
        Some(other) => Err(PairsError::AfterList(key.to_owned(), other)),
    }
}

/// The text up to one of `ends`, and that end.
fn scalar(rest: &mut Peekable<Chars<'_>>, ends: &[char]) -> (String, Option<char>) {
    let mut text = String::new();
    while let Some(c) = rest.next() {
        match c {
            '\\' => text.extend(rest.next()),
            end if ends.contains(&end) => return (text, Some(end)),
            c => text.push(c),
        }
    }
    (text, None)
}

/// Words and numbers that YAML types keep their type; everything else is a string as it stands.
fn typed(text: String, origin: &Origin) -> Value {
    match yaml::parse(&text, &|_| origin.clone()).map(|node| node.value) {
        Ok(value @ (Value::Bool(_) | Value::Number(_))) => value,
        Ok(Value::Null) if text == "null" => Value::Null,
        Ok(Value::Null | Value::String(_) | Value::List(_) | Value::Map(_)) | Err(_) => {
            Value::String(text)
        }
    }
}

/// Sets the value at the end of `steps`, making what is missing on the way. A later pair wins.
fn put(mut at: &mut Node, steps: Vec<Step>, value: Value, origin: &Origin) {
    for step in steps {
        at = match step {
            Step::Key(key) => at.as_map().entry(&key, origin),
            Step::Index(index) => {
                let list = at.as_list();
                if list.len() <= index {
                    list.resize(index + 1, Node::new(Value::Null, origin.clone()));
                }
                &mut list[index]
            }
        };
    }
    *at = Node::new(value, origin.clone());
}
