//! What the program says to configurations and command lines that are wrong, and to `--help`.
//!
//! The snapshots are read by people: each message must say what is wrong, where, and what to write instead.

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Output};

/// One run of the program.
#[derive(Default)]
struct Case {
    /// What is wrong.
    name: &'static str,
    /// The text of `gateway.yaml`, if there is one.
    file: Option<&'static str>,
    /// `NAME=VALUE` in the environment.
    variables: &'static [&'static str],
    /// The arguments; `config check` without any, with the file if there is one.
    arguments: &'static [&'static str],
}

const fn file(name: &'static str, text: &'static str) -> Case {
    Case {
        name,
        file: Some(text),
        variables: &[],
        arguments: &[],
    }
}

const fn variables(name: &'static str, variables: &'static [&'static str]) -> Case {
    Case {
        name,
        file: None,
        variables,
        arguments: &[],
    }
}

const fn arguments(name: &'static str, arguments: &'static [&'static str]) -> Case {
    Case {
        name,
        file: None,
        variables: &[],
        arguments,
    }
}

const FILES: &[Case] = &[
    file(
        "a key with a spelling mistake",
        "# ours\nspawn:\n  hld: 30s\n",
    ),
    file("a section with a spelling mistake", "spwan:\n  hold: 30s\n"),
    file("a key in the wrong section", "hold: 30s\n"),
    file(
        "Kubernetes without an image and without a word on who may come",
        "spawner: kubernetes\n",
    ),
    file(
        "a field that no pod has",
        "podTemplate:\n  spec:\n    containers:\n      - { name: session, imagee: x }\n",
    ),
    file(
        "a pod template of another shape",
        "podTemplate:\n  spec: { containers: session }\n",
    ),
    file(
        "quantities that are none",
        "storage: { size: 10 GB }\nresources: { limits: { memory: lots } }\nquota: { pods: -1 }\n",
    ),
    file(
        "a namespace that cannot be one",
        "namespace: Sessions_{uuid}\n",
    ),
    file(
        "a relative path for the disk",
        "storage: { mountPath: workspace }\n",
    ),
    file(
        "a service whose Service would have too long a name",
        "spawner: kubernetes\nauth: { none_is_fine: true }\nimage: { repository: dev }\nservice: { a-rather-long-name: { port: 1 } }\n",
    ),
    file(
        "a tolerance with a spelling mistake",
        "tolerations: [{ kee: dedicated }]\n",
    ),
    file("a key like no other", "spawn:\n  colour: red\n"),
    file("a duration without a unit", "spawn:\n  hold: 30\n"),
    file("a duration that is none", "spawn:\n  hold: soon\n"),
    file("an address without a port", "listen: 127.0.0.1\n"),
    file("an address with a name", "listen: localhost:8000\n"),
    file("a number that is none", "workers: many\n"),
    file(
        "a number out of range",
        "spawn:\n  held: 0\n  concurrent: -1\n",
    ),
    file("a choice that is none", "spawn:\n  trigger: always\n"),
    file(
        "a truth value as of old YAML",
        "auth:\n  none_is_fine: yes\n",
    ),
    file("a list that is none", "hosts: dev.example.com\n"),
    file("a section that is none", "spawn: 30s\n"),
    file("a list in the place of a string", "project:\n  id: [1]\n"),
    file("a list of lists", "hosts: [[a]]\n"),
    file("a key twice", "spawn:\n  hold: 1s\n  hold: 2s\n"),
    file("no YAML", "spawn:\n  hold: 1s\n trigger: any\n"),
    file("an IPv6 address without quotes", "listen: [::1]:8000\n"),
    file("a time-out that leaves no time", "timeouts:\n  write: 0s\n"),
    file("a duration beyond measure", "local:\n  grace: 1000y\n"),
    file("an open quote", "listen: \"127.0.0.1:8000\n"),
    file("two documents", "workers: 1\n---\nworkers: 2\n"),
    file("no mapping", "- listen\n- workers\n"),
    file(
        "a host with its scheme",
        "hosts: [\"https://dev.example.com\"]\n",
    ),
    file(
        "a site with a path",
        "embedders: [\"https://app.example.com/\"]\n",
    ),
    file("a host with its port", "hosts: [\"dev.example.com:443\"]\n"),
    file("an address that others reach", "listen: 0.0.0.0:8000\n"),
    file("two listeners on one address", "listen: 127.0.0.1:8001\n"),
    file(
        "two listeners on one port",
        "listen: 0.0.0.0:8001\nauth:\n  none_is_fine: true\n",
    ),
    file(
        "operators' port that others reach",
        "admin:\n  listen: 0.0.0.0:9000\n",
    ),
    file("a hold beyond the timeout", "spawn:\n  timeout: 5s\n"),
    file(
        "a service that nothing runs",
        "service:\n  term:\n    port: 7681\n",
    ),
    file(
        "a service without a port",
        "service:\n  term: {}\nlocal:\n  services:\n    term: { command: [ttyd] }\n",
    ),
    file(
        "a name that is no label",
        "service:\n  Web_Term: { port: 7681 }\n",
    ),
    file(
        "a name that is too long",
        "service:\n  a-terminal-with-a-very-long-name: { port: 7681 }\n",
    ),
    file(
        "paths that cannot be",
        "service:\n  preview: { path: preview }\n  chat: { path: /-/ }\n  vscode: { path: /a/b, port: 70000 }\n",
    ),
    file(
        "two services with one path",
        "service:\n  chat: { path: /preview }\n",
    ),
    file(
        "no services",
        "service: { preview: null, chat: null, vscode: null }\n",
    ),
    file(
        "a command for no service",
        "local:\n  services:\n    terminal: { command: [ttyd] }\n",
    ),
    file(
        "a command without a program",
        "local:\n  services:\n    preview: { command: [] }\n",
    ),
    file(
        "a command as a string",
        "local:\n  services:\n    preview: { command: npm run dev }\n",
    ),
    file(
        "a variable that cannot be",
        "local:\n  services:\n    preview: { command: [a], env: { \"A=B\": c } }\n",
    ),
    file(
        "a level that is none",
        "log:\n  level: info,session_gateway=loud\n  format: xml\n",
    ),
    file(
        "much at once",
        "listen: here\nspawn:\n  hold: 5\n  triger: any\nlog:\n  level: loud\n",
    ),
];

const VARIABLES: &[Case] = &[
    variables("an unknown variable", &["SESSION_GATEWAY__SPAWN__HLD=30s"]),
    variables(
        "a variable with a wrong value",
        &["SESSION_GATEWAY__AUTH__NONE_IS_FINE=maybe"],
    ),
    variables(
        "a variable with an empty part",
        &["SESSION_GATEWAY__SPAWN____HOLD=30s"],
    ),
    variables(
        "a variable that is no YAML",
        &["SESSION_GATEWAY__HOSTS=[a, b"],
    ),
    variables("a variable that is empty", &["SESSION_GATEWAY__LISTEN="]),
    Case {
        name: "a variable for a section that has a value in the file",
        file: Some("spawn:\n  hold: 10s\n"),
        variables: &["SESSION_GATEWAY__SPAWN__HOLD=1h"],
        arguments: &[],
    },
];

/// What a gateway takes of this machine.
const FREE: &str = "listen=127.0.0.1:0,admin.listen=127.0.0.1:0,local.data=data";
const ABSENT: &str = "tls.certificates.a.certificate=absent.crt,tls.certificates.a.key=absent.key";
const NO_PEM: &str =
    "tls.certificates.a.certificate=gateway.yaml,tls.certificates.a.key=gateway.yaml";

const ARGUMENTS: &[Case] = &[
    arguments(
        "a file that is not there",
        &["config", "check", "--config", "absent.yaml"],
    ),
    arguments(
        "a folder in the place of a file",
        &["config", "check", "--config", "."],
    ),
    arguments(
        "a key without a value",
        &["config", "check", "--set", "spawn.hold"],
    ),
    arguments(
        "an empty part of a key",
        &["config", "check", "--set", "spawn..hold=1s"],
    ),
    arguments("an open list", &["config", "check", "--set", "hosts={a,b"]),
    arguments(
        "an index beyond measure",
        &["config", "check", "--set", "hosts[99999999999]=a"],
    ),
    arguments(
        "a list with a hole",
        &["config", "check", "--set", "hosts[1]=a"],
    ),
    arguments(
        "an unknown key",
        &["config", "check", "--set", "spawn.hold=1s,spawn.tiemout=3m"],
    ),
    arguments("an address that is none", &["serve", "--listen", "8000"]),
    arguments(
        "an address that others reach, as a flag",
        &["serve", "--listen", "[::]:8000"],
    ),
    arguments(
        "a certificate that is not there",
        &["serve", "--set", FREE, "--set", ABSENT],
    ),
    Case {
        name: "a certificate that is none",
        file: Some("workers: 1\n"),
        variables: &[],
        arguments: &["serve", "--set", FREE, "--set", NO_PEM],
    },
    arguments("no command", &[]),
    arguments("a command with a spelling mistake", &["serv"]),
    arguments("an unknown flag", &["serve", "--lisen", "127.0.0.1:1"]),
    arguments("no session", &["sessions", "show"]),
    arguments(
        "a session that is none",
        &["sessions", "stop", "my-session"],
    ),
    arguments("a format that is none", &["sessions", "list", "-o", "xml"]),
    arguments(
        "a gateway that does not run",
        &["sessions", "list", "--admin", "127.0.0.1:1"],
    ),
];

#[test]
fn every_mistake_is_named_with_its_place_and_its_remedy() {
    let mut all = String::new();
    for case in FILES.iter().chain(VARIABLES).chain(ARGUMENTS) {
        let folder = tempfile::tempdir().unwrap();
        let mut arguments = case.arguments.to_vec();
        if case.arguments.is_empty() && case.name != "no command" {
            arguments.extend(["config", "check"]);
        }
        writeln!(all, "## {}", case.name).unwrap();
        if let Some(text) = case.file {
            std::fs::write(folder.path().join("gateway.yaml"), text).unwrap();
            arguments.extend(["--config", "gateway.yaml"]);
            all.extend(text.lines().map(|line| format!("  | {line}\n")));
        }
        let output = run(folder.path(), case.variables, &arguments);
        let shown: Vec<&str> = case
            .variables
            .iter()
            .copied()
            .chain(["session-gateway"])
            .chain(arguments)
            .collect();
        writeln!(all, "$ {}", shown.join(" ")).unwrap();
        write!(all, "{}", text(&output)).unwrap();
        writeln!(all, "exit code {}\n", output.status.code().unwrap()).unwrap();
    }
    insta::assert_snapshot!("mistakes", all);
}

#[test]
fn every_command_explains_itself() {
    let mut all = String::new();
    for command in [
        &[][..],
        &["serve"],
        &["config"],
        &["config", "check"],
        &["config", "default"],
        &["sessions"],
        &["sessions", "list"],
        &["sessions", "show"],
        &["sessions", "explain"],
        &["sessions", "start"],
        &["sessions", "keep"],
        &["sessions", "stop"],
        &["sessions", "delete"],
        &["sessions", "watch"],
        &["sessions", "import"],
        &["completion"],
        &["sessions", "import"],
    ] {
        let mut arguments = command.to_vec();
        arguments.push("--help");
        let output = run(Path::new("."), &[], &arguments);
        assert!(output.status.success());
        write!(
            all,
            "$ session-gateway {}\n{}\n",
            arguments.join(" "),
            text(&output)
        )
        .unwrap();
    }
    insta::assert_snapshot!("help", all);
}

#[test]
fn the_printed_defaults_are_a_valid_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let defaults = run(folder.path(), &[], &["config", "default"]);
    std::fs::write(folder.path().join("gateway.yaml"), &defaults.stdout).unwrap();
    let check = run(
        folder.path(),
        &[],
        &["config", "check", "--config", "gateway.yaml"],
    );
    assert_eq!(text(&check), "the configuration is valid\n");
}

#[test]
fn what_kubernetes_sets_for_a_service_of_this_name_is_not_ours() {
    let variables = [
        "SESSION_GATEWAY_PORT=tcp://10.0.0.1:80",
        "SESSION_GATEWAY_SERVICE_HOST=10.0.0.1",
    ];
    let check = run(Path::new("."), &variables, &["config", "check"]);
    assert_eq!(text(&check), "the configuration is valid\n");
}

/// Runs the program in `folder`, with nothing in its environment but `variables` and a home.
fn run(folder: &Path, variables: &[&str], arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_session-gateway"))
        .args(arguments)
        .env_clear()
        .env("HOME", "/home/somebody")
        .envs(
            variables
                .iter()
                .map(|pair| pair.split_once('=').expect("it is NAME=VALUE")),
        )
        .current_dir(folder)
        .output()
        .expect("the program can be started")
}

/// What it wrote.
fn text(output: &Output) -> String {
    let (stdout, stderr) = (&output.stdout, &output.stderr);
    String::from_utf8([stdout.as_slice(), stderr].concat()).expect("the program writes UTF-8")
}
