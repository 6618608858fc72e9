//! Reads a source file as far as the rules need it: tokens without comments and strings, and the paths that it names.

use std::{iter::Peekable, str::Chars};

/// A source file, by its path from the top of the project.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A word, a `::` or another single character of the code, and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// What the code names from outside its own top-level module.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) origin: Origin,
    pub(crate) line: usize,
    /// Named by a test that lies in the source tree.
    pub(crate) by_test: bool,
}

/// Where a path begins.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A top-level module of this crate.
    Module(String),
    /// Something else: another crate, or a name that is in scope.
    Other(String),
}

impl Source {
    /// The module that the file is, from the top of the crate: nothing for `lib.rs`, `main` for `main.rs`.
    pub(crate) fn module(&self) -> Vec<String> {
        let path = self.path.trim_start_matches("src/");
        let path = path.trim_end_matches(".rs");
        if path == "lib" {
            return Vec::new();
        }
        path.split('/').map(str::to_owned).collect()
    }

    /// The code without comments, strings and white space.
    pub(crate) fn tokens(&self) -> Vec<Token> {
        let mut reader = Reader {
            chars: self.text.chars().peekable(),
            line: 1,
            tokens: Vec::new(),
        };
        reader.read();
        reader.tokens
    }

    /// All paths that begin outside the file's own module, and all that begin with a name.
    pub(crate) fn names(&self) -> Vec<Named> {
        let tokens = self.tokens();
        let mut module = self.module();
        let mut open = Vec::new();
        let mut names = Vec::new();
        for (at, token) in tokens.iter().enumerate() {
            match token.text.as_str() {
                "{" => {
                    let inner = at >= 2 && tokens[at - 2].text == "mod";
                    if inner {
                        module.push(tokens[at - 1].text.clone());
                    }
                    open.push(inner);
                }
                "}" if open.pop() == Some(true) => {
                    module.pop();
                }
                _ if begins_path(&tokens, at) => {
                    let by_test = module.iter().any(|name| name == "tests");
                    let origins = origins(&tokens[at..], &module);
                    names.extend(origins.into_iter().map(|(origin, line)| Named {
                        origin,
                        line,
                        by_test,
                    }));
                }
                _ => {}
            }
        }
        names
    }
}

/// Whether the token is the first of a path, or is all of what a `use` names.
fn begins_path(tokens: &[Token], at: usize) -> bool {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let before = at.checked_sub(1).map_or("", text);
    let is_inner = before == "::" && at >= 2 && is_word(text(at - 2));
    // `use axum;`, and `use {std::io, axum as web};`.
    let whole = match text(at + 1) {
        ";" => ["use", "crate"].contains(&before),
        "as" => ["use", "{", ","].contains(&before),
        _ => false,
    };
    is_word(text(at)) && !is_inner && (text(at + 1) == "::" || whole)
}

/// Where the path at the beginning of `tokens` begins, seen from `module`; several of a group right behind `crate::`.
fn origins(tokens: &[Token], module: &[String]) -> Vec<(Origin, usize)> {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut base = module.to_vec();
    match text(0) {
        "crate" | "session_gateway" => base.clear(),
        "self" => {}
        "super" => {
            base.pop();
        }
        other => return vec![(Origin::Other(other.to_owned()), tokens[0].line)],
    }
    let mut at = 2;
    while text(at) == "super" {
        base.pop();
        at += 2;
    }
    if !base.is_empty() {
        return Vec::new();
    }
    if text(at) == "{" {
        return group(&tokens[at..]);
    }
    vec![(Origin::Module(text(at).to_owned()), tokens[0].line)]
}

/// The first words of all members of a group, which begins with its brace.
fn group(tokens: &[Token]) -> Vec<(Origin, usize)> {
    let mut depth = 0;
    let mut found = Vec::new();
    let mut before = "";
    for token in tokens {
        if depth == 1 && ["{", ","].contains(&before) && token.text != "}" {
            found.push((Origin::Module(token.text.clone()), token.line));
        }
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        before = &token.text;
    }
    found
}

fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

struct Reader<'a> {
    chars: Peekable<Chars<'a>>,
    line: usize,
    tokens: Vec<Token>,
}

impl Reader<'_> {
    fn read(&mut self) {
        while let Some(char) = self.next() {
            match char {
                '/' if self.next_is('/') => while self.chars.next_if(|&c| c != '\n').is_some() {},
                '/' if self.next_is('*') => self.skip_comment(),
                '"' => self.skip_string(0, true),
                '\'' => self.skip_char(),
                ':' if self.next_is(':') => {
                    self.next();
                    self.push("::".to_owned());
                }
                _ if char.is_alphanumeric() || char == '_' => self.read_word(char),
                _ if char.is_whitespace() => {}
                _ => self.push(char.to_string()),
            }
        }
    }

    fn next(&mut self) -> Option<char> {
        let char = self.chars.next()?;
        self.line += usize::from(char == '\n');
        Some(char)
    }

    fn next_is(&mut self, char: char) -> bool {
        self.chars.peek() == Some(&char)
    }

    fn push(&mut self, text: String) {
        let line = self.line;
        self.tokens.push(Token { text, line });
    }

    fn read_word(&mut self, first: char) {
        let mut word = first.to_string();
        while let Some(char) = self.chars.next_if(|&c| c.is_alphanumeric() || c == '_') {
            word.push(char);
        }
        let is_raw = ["r", "br", "cr"].contains(&word.as_str());
        if is_raw && (self.next_is('"') || self.next_is('#')) {
            let mut hashes = 0;
            while self.chars.next_if_eq(&'#').is_some() {
                hashes += 1;
            }
            if self.chars.next_if_eq(&'"').is_some() {
                return self.skip_string(hashes, false);
            }
            // `r#type`: a word, whose mark says only that it is none of the language's.
            return;
        }
        // The letter before a byte or C string is part of it; as a word of its own it harms nobody.
        self.push(word);
    }

    fn skip_string(&mut self, hashes: usize, escapes: bool) {
        while let Some(char) = self.next() {
            if char == '\\' && escapes {
                self.next();
            } else if char == '"' {
                let mut seen = 0;
                while seen < hashes && self.chars.next_if_eq(&'#').is_some() {
                    seen += 1;
                }
                if seen == hashes {
                    return;
                }
            }
        }
    }

    /// A character such as `'{'` or `'\''`, or else a lifetime.
    fn skip_char(&mut self) {
        let mut ahead = self.chars.clone();
        match (ahead.next(), ahead.next()) {
            (Some('\\'), _) => {
                self.next();
                self.next();
                while self.next().is_some_and(|char| char != '\'') {}
            }
            (_, Some('\'')) => {
                self.next();
                self.next();
            }
            _ => {}
        }
    }

    fn skip_comment(&mut self) {
        let mut depth = 1;
        self.next();
        while depth > 0 {
            match self.next() {
                Some('*') if self.next_is('/') => depth -= 1,
                Some('/') if self.next_is('*') => depth += 1,
                Some(_) => continue,
                None => return,
            }
            self.next();
        }
    }
}
