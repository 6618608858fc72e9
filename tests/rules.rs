//! The rules of the source tree that no compiler knows: which module may name what, and how files are shaped.

mod law;
mod source;

use std::{
    fs,
    path::{Path, PathBuf},
};

use source::Source;

/// The files that people write: their sizes are held, and of Rust files everything else too.
const EXTENSIONS: [&str; 6] = ["rs", "py", "mjs", "js", "html", "css"];

/// A path, the code in it, and the line and the rule that it breaks.
const BROKEN: &[(&str, &str, &str)] = &[
    (
        "src/session/id.rs",
        "use crate::activator::Table;",
        "2: session may not name activator",
    ),
    (
        "src/session/id.rs",
        "fn f() { super::super::shutdown::f() }",
        "2: session may not name shutdown",
    ),
    (
        "src/activator.rs",
        "use super::gateway;",
        "2: activator may not name gateway",
    ),
    (
        "src/activator.rs",
        "mod tests { use super::super::gateway::Gateway; }",
        "2: activator may not name gateway",
    ),
    (
        "src/gateway/own.rs",
        "use crate::{\n    session::Route,\n    spawner::local,\n};",
        "4: gateway may not name spawner",
    ),
    (
        "src/gateway/own.rs",
        "use crate::{session::{A, B}, admin};",
        "2: gateway may not name admin",
    ),
    (
        "src/gateway.rs",
        "use crate::config::Config;",
        "2: gateway may not name config",
    ),
    ("src/pages.rs", "use crate::*;", "2: pages may not name *"),
    (
        "src/main.rs",
        "use session_gateway::app;",
        "2: main may not name app",
    ),
    (
        "src/spawner/local.rs",
        "macro_rules! m { () => { $crate::gateway::f() } }",
        "2: spawner may not name gateway",
    ),
    (
        "src/spawner.rs",
        "use hyper::Request;",
        "2: hyper is for gateway, client only",
    ),
    (
        "src/spawner.rs",
        "use {std::io, hyper as wire};",
        "2: hyper is for gateway, client only",
    ),
    (
        "src/spawner.rs",
        "use hyper;",
        "2: hyper is for gateway, client only",
    ),
    (
        "src/session.rs",
        "type R = Result<(), anyhow::Error>;",
        "2: anyhow is for app, cli, main only",
    ),
    (
        "src/gateway.rs",
        "fn f(r: ::axum::Router) {}",
        "2: axum is for admin, demo only",
    ),
    (
        "src/pool.rs",
        "",
        "1: no rule says what the module pool may name",
    ),
    (
        "src/gateway/mod.rs",
        "",
        "1: no mod.rs: a module lies beside the folder of its name",
    ),
    (
        "tests/line.rs",
        "#[test]\n#[ignore = \"slow\"]\nfn f() {}",
        "3: no test is ignored: it runs or it goes",
    ),
    (
        "tests/line.rs",
        "#[cfg_attr(slow, ignore)]\nfn f() {}",
        "2: no test is ignored: it runs or it goes",
    ),
];

#[test]
fn the_tree_keeps_the_rules() {
    let sources = tree();
    assert!(
        sources.iter().any(|source| source.path == "src/session.rs"),
        "the tree was not found"
    );
    let broken: Vec<_> = sources.iter().flat_map(law::violations).collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn each_rule_can_be_broken() {
    for (path, code, broken) in BROKEN {
        let found = law::violations(&file(path, &format!("//! What it is.\n{code}\n")));
        assert_eq!(found, [format!("{path}:{broken}")], "{code}");
    }
}

#[test]
fn each_shape_can_be_broken() {
    let lines = |count: usize| format!("//! What it is.\n{}", "fn f() {}\n".repeat(count - 1));
    let table = [
        (
            "src/app.rs",
            "use std::io;\n".to_owned(),
            "1: a file begins with what lives in it (//!)",
        ),
        (
            "src/app.rs",
            lines(401),
            "401: 401 lines before the tests: 400 at most",
        ),
        (
            "src/pages/style.css",
            lines(401),
            "401: 401 lines before the tests: 400 at most",
        ),
        (
            "src/app.rs",
            format!("//! {}\n", "x".repeat(117)),
            "1: 121 columns: 120 at most",
        ),
    ];
    for (path, text, broken) in table {
        assert_eq!(
            law::violations(&file(path, &text)),
            [format!("{path}:{broken}")]
        );
    }
    let text = format!(
        "{}#[cfg(test)]\nmod tests {{\n{}}}\n",
        lines(400),
        "    fn f() {}\n".repeat(100)
    );
    assert_eq!(
        law::violations(&file("src/app.rs", &text)),
        [""; 0],
        "inline tests are not counted"
    );
}

#[test]
fn what_only_looks_like_a_breach_is_none() {
    let table = [
        (
            "src/session.rs",
            "// use crate::gateway;\n/* a /* nested */ crate::gateway::f */",
        ),
        (
            "src/session.rs",
            r##"const A: &str = r#"crate::gateway::"x" "#; const B: &str = "\"crate::app::";"##,
        ),
        (
            "src/session.rs",
            r"const A: [char; 3] = ['{', '\'', '\u{7b}']; fn f<'a>(x: &'a str) { crate::session::f() }",
        ),
        (
            "src/session/id.rs",
            "mod tests { use super::*; use super::super::Route; use super::super::super::session; }",
        ),
        (
            "src/session/id.rs",
            "use super::gateway::Inner; use self::hyper_like::A;",
        ),
        (
            "src/spawner/local.rs",
            "#[cfg(test)]\nmod tests { use hyper::Request; }",
        ),
        ("src/spawner/tests.rs", "use hyper::Request;"),
        ("src/session.rs", "fn ignore() {} use a::hyper::B;"),
        ("src/lib.rs", "pub use crate::gateway::Gateway;"),
    ];
    for (path, code) in table {
        let found = law::violations(&file(path, &format!("//! What it is.\n{code}\n")));
        assert_eq!(found, [""; 0], "{code}");
    }
}

fn file(path: &str, text: &str) -> Source {
    Source {
        path: path.to_owned(),
        text: text.to_owned(),
    }
}

/// All sources of the project, in whose folder tests run: the path it was compiled at may be of another clone.
fn tree() -> Vec<Source> {
    let top = Path::new(".");
    let mut folders = vec![top.join("src"), top.join("tests")];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            let is_folder = entry.file_type().unwrap().is_dir();
            if is_folder && entry.file_name() != "node_modules" {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|found| EXTENSIONS.iter().any(|known| found == *known))
            {
                files.push(path);
            }
        }
    }
    files.sort();
    let read = files.iter().map(|path| {
        let name = path.strip_prefix(top).unwrap().to_str().unwrap();
        file(name, &fs::read_to_string(path).unwrap())
    });
    read.collect()
}
