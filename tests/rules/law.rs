//! The rules of the source tree, and where a source file breaks them.

use super::source::{Named, Origin, Source};

/// Which other top-level modules a module may name. A new module needs a row.
const MODULES: &str = "
    session:
    settings:
    shutdown: settings
    metrics: session
    client: settings shutdown
    telemetry: settings
    activator: session settings metrics shutdown
    auth: session settings metrics client shutdown
    pages: session
    demo: settings shutdown
    gateway: session activator auth pages settings metrics client shutdown
    resolver: session activator settings client shutdown
    spawner: session activator settings metrics client shutdown
    admin: session activator auth settings metrics client shutdown
    config: session activator auth gateway resolver spawner admin settings telemetry shutdown
    app: session activator auth pages gateway resolver spawner admin config settings telemetry metrics client shutdown
    cli: session app config settings telemetry client demo spawner supervise shutdown
    main: cli
";

/// Crates that only some modules may name, tests apart: what they are good for has one home.
const CRATES: &str = "
    hyper: gateway client
    hyper_util: gateway client admin spawner
    kube: spawner
    k8s_openapi: spawner
    rustls: gateway client spawner
    tower: spawner
    axum: admin demo
    utoipa: admin
    utoipa_axum: admin
    subtle: admin
    tower_http: admin demo
    notify: demo
    askama: pages
    serde_saphyr: settings
    clap: cli
    clap_complete: cli
    anyhow: app cli main
";

const LINES: usize = 400;
const COLUMNS: usize = 120;

/// Where a file breaks the rules: `file:line: rule`.
pub(crate) fn violations(source: &Source) -> Vec<String> {
    let mut found = shape(source);
    if source.path.ends_with(".rs") {
        found.extend(ignored_tests(source));
    }
    if source.path.starts_with("src/")
        && source.path.ends_with(".rs")
        && source.path != "src/lib.rs"
    {
        found.extend(imports(source));
    }
    found
        .into_iter()
        .map(|(line, rule)| format!("{}:{line}: {rule}", source.path))
        .collect()
}

/// What can be seen without reading the code.
fn shape(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    if source.path.ends_with("/mod.rs") {
        found.push((
            1,
            "no mod.rs: a module lies beside the folder of its name".to_owned(),
        ));
    }
    let is_module = source.path.ends_with(".rs") && !source.path.ends_with("/tests.rs");
    if is_module && !source.text.starts_with("//!") {
        found.push((1, "a file begins with what lives in it (//!)".to_owned()));
    }
    // Inline tests are not counted; a file of tests alone is.
    let counted = source
        .text
        .lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .count();
    if counted > LINES {
        found.push((
            LINES + 1,
            format!("{counted} lines before the tests: {LINES} at most"),
        ));
    }
    for (line, text) in (1..).zip(source.text.lines()) {
        // rustfmt breaks code where it can; nothing breaks comments and scripts.
        let is_held = match source.path.rsplit('.').next() {
            Some("rs") => text.trim_start().starts_with("//"),
            Some("py" | "mjs" | "js") => true,
            _ => false,
        };
        let columns = text.chars().count();
        if is_held && columns > COLUMNS {
            found.push((line, format!("{columns} columns: {COLUMNS} at most")));
        }
    }
    found
}

fn ignored_tests(source: &Source) -> Vec<(usize, String)> {
    let tokens = source.tokens();
    let ignored = tokens.windows(2).filter(|pair| {
        // Alone, or made conditional by `cfg_attr(.., ignore)`.
        ["[", ","].contains(&pair[0].text.as_str()) && pair[1].text == "ignore"
    });
    ignored
        .map(|pair| {
            (
                pair[1].line,
                "no test is ignored: it runs or it goes".to_owned(),
            )
        })
        .collect()
}

fn imports(source: &Source) -> Vec<(usize, String)> {
    let module = source.module().remove(0);
    let Some(allowed) = row(MODULES, &module) else {
        return vec![(1, format!("no rule says what the module {module} may name"))];
    };
    let broken = source.names().into_iter().filter_map(
        |Named {
             origin,
             line,
             by_test,
         }| {
            let rule = match origin {
                Origin::Module(name) if name == module || allowed.contains(&name.as_str()) => {
                    return None;
                }
                Origin::Module(name) => format!("{module} may not name {name}"),
                Origin::Other(name) => {
                    let homes = row(CRATES, &name)?;
                    if by_test || homes.contains(&module.as_str()) {
                        return None;
                    }
                    format!("{name} is for {} only", homes.join(", "))
                }
            };
            Some((line, rule))
        },
    );
    broken.collect()
}

/// The words of the row with this name.
fn row(table: &'static str, name: &str) -> Option<Vec<&'static str>> {
    let mut rows = table.lines().filter_map(|row| row.trim().split_once(':'));
    let (_, words) = rows.find(|(found, _)| *found == name)?;
    Some(words.split_whitespace().collect())
}
