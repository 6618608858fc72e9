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

/// The most parts a key can have: no setting lies deeper, and what walks down a key must come back.
pub const DEEPEST: usize = 32;

/// The text is no `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PairsError {
    /// A key without a value.
    #[error("{0:?} has no value; expected KEY=VALUE")]
    NoValue(String),
    /// A key of which a part is empty.
    #[error("{0:?} has an empty part; expected a key such as spawn.hold")]
    EmptyPart(String),
    /// A key of more than [`DEEPEST`] parts.
    #[error("a key has more than {DEEPEST} parts; expected a key such as spawn.hold")]
    TooDeep,
    /// Brackets without a number, or with one too many.
    #[error("{0:?}: expected a number from 0 to {max} in brackets, as in hosts[0]=a.example", max = LONGEST - 1)]
    Index(String),
    /// Something behind an index.
    #[error("{0:?} is followed by {1:?}; expected a dot, another index or the equals sign")]
    AfterIndex(String, char),
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
    let mut indexed = false;
    loop {
        let Some(c) = rest.next().filter(|c| *c != ',') else {
            return Err(PairsError::NoValue(written));
        };
        match c {
            '=' | '.' | '[' if indexed => {}
            other if indexed => return Err(PairsError::AfterIndex(written, other)),
            '=' | '.' | '[' if part.is_empty() => return Err(PairsError::EmptyPart(written)),
            '=' | '.' | '[' if steps.len() >= DEEPEST => return Err(PairsError::TooDeep),
            '=' | '.' | '[' => steps.push(Step::Key(std::mem::take(&mut part))),
            '\\' => part.extend(rest.next()),
            other => part.push(other),
        }
        match c {
            '=' => return Ok((written, steps)),
            '[' => {
                let index = index(rest, &written)?;
                written.extend(["[", &index.to_string(), "]"]);
                steps.push(Step::Index(index));
            }
            other => written.push(other),
        }
        indexed = c == '[';
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
    // What comes after a space could be a comment of YAML, and a part of the string here.
    let word = !text.is_empty() && !text.contains(char::is_whitespace);
    let value = word.then(|| yaml::parse(&text, &|_| origin.clone()).map(|node| node.value));
    match value {
        Some(Ok(value @ (Value::Bool(_) | Value::Number(_)))) => value,
        Some(Ok(Value::Null)) if text == "null" => Value::Null,
        Some(_) | None => Value::String(text),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Result<Value, PairsError> {
        let mut tree = Node::empty(Origin::CommandLine);
        parse(text, &Origin::CommandLine, &mut tree)?;
        Ok(tree.value)
    }

    /// The same values, said in YAML.
    fn yaml(text: &str) -> Value {
        yaml::parse(text, &|_| Origin::CommandLine).unwrap().value
    }

    #[test]
    fn pairs_mean_what_helm_means_by_them() {
        for (pairs, same) in [
            ("a=b", "a: b"),
            ("a.b.c=d,a.b.e=f", "a: { b: { c: d, e: f } }"),
            (
                "a=1,b=true,c=null,d=1.10,e=007",
                "{ a: 1, b: true, c: null, d: 1.10, e: '007' }",
            ),
            ("a={b,c},d=e", "{ a: [b, c], d: e }"),
            ("a={},b=", "{ a: [], b: '' }"),
            ("a[1]=c,a[0]=b", "a: [b, c]"),
            ("a[0].b=c", "a: [{ b: c }]"),
            ("a[0][1]=b", "a: [[null, b]]"),
            (r"a\.b=c\,d", "{ 'a.b': 'c,d' }"),
            (r"a={b\,c,d\}}", "a: ['b,c', 'd}']"),
            ("a=b=c", "a: b=c"),
            ("a=1,a=2", "a: 2"),
            ("a=1 # b", "a: '1 # b'"),
            ("a=[::]:80", "a: '[::]:80'"),
            ("", "{}"),
        ] {
            assert_eq!(parsed(pairs), Ok(yaml(same)), "{pairs}");
        }
    }

    #[test]
    fn a_mistake_is_named() {
        let text = str::to_owned;
        for (pairs, error) in [
            ("a", PairsError::NoValue(text("a"))),
            ("a,b=c", PairsError::NoValue(text("a"))),
            ("=b", PairsError::EmptyPart(text(""))),
            ("a..b=c", PairsError::EmptyPart(text("a."))),
            ("a[0]b=c", PairsError::AfterIndex(text("a[0]"), 'b')),
            ("a[x]=b", PairsError::Index(text("a"))),
            ("a[1024]=b", PairsError::Index(text("a"))),
            ("a={b", PairsError::OpenList(text("a"))),
            ("a={b}c", PairsError::AfterList(text("a"), 'c')),
        ] {
            assert_eq!(parsed(pairs), Err(error), "{pairs}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in r"([a-b.,=\\\[\]{}0-9 ]|\PC){0,40}") {
            let _ = parsed(&text);
        }

        #[test]
        fn any_string_can_be_set_with_backslashes(text in "\\PC{1,20}") {
            let escaped: String = text.chars().flat_map(|c| ['\\', c]).collect();
            let set = parsed(&format!("{escaped}=x{escaped}")).unwrap();
            let Value::Map(map) = set else { panic!("{set:?}") };
            prop_assert_eq!(&map.get(&text).unwrap().value, &Value::String(format!("x{text}")));
        }
    }
}
