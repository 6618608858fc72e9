//! `session-gateway sessions` against an admin API that says what each test wants, and against a gateway.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Output, Stdio};
use std::thread::{self, JoinHandle};

use crate::support::{DEADLINE, serve::Serve};

const PROGRAM: &str = env!("CARGO_BIN_EXE_session-gateway");

const ONE: &str = "3f2b8c1e-5d4a-4c6b-9e7f-0a1b2c3d4e5f";
pub(crate) const TWO: &str = "5d4a3f2b-8c1e-4c6b-9e7f-0a1b2c3d4e5f";

/// Gives each request the next of `answers` (a status and a body) and returns the request lines.
fn api(answers: Vec<(&'static str, String)>) -> (SocketAddr, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let served = thread::spawn(move || {
        let serve = |(status, body): (&str, String)| {
            let (mut stream, _) = listener.accept().expect("the program connects");
            let mut lines = BufReader::new(stream.try_clone().expect("it is open")).lines();
            let mut line = || {
                lines
                    .next()
                    .expect("it sends a whole head")
                    .expect("it sends text")
            };
            let request = line();
            while !line().is_empty() {}
            let len = body.len();
            write!(
                stream,
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n{body}"
            )
            .expect("it reads");
            request
        };
        answers.into_iter().map(serve).collect()
    });
    (address, served)
}

/// Runs a command of `sessions`.
pub(crate) fn sessions(admin: SocketAddr, arguments: &[&str]) -> Output {
    Command::new(PROGRAM)
        .arg("sessions")
        .args(arguments)
        .args(["--admin", &admin.to_string()])
        .output()
        .expect("the program can be started")
}

/// Runs `sessions watch`, which does not end by itself; its lines as they come.
pub(crate) fn watch(
    admin: SocketAddr,
    arguments: &[&str],
) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut child = Command::new(PROGRAM)
        .args(["sessions", "watch", "--admin", &admin.to_string()])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program can be started");
    let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    (child, lines.map_while(Result::ok))
}

fn session(id: &str) -> String {
    format!(
        r#"{{"id":"{id}","state":"running","project":"42","user":"7","used":"2026-01-02T03:04:05Z","new":1,"services":
        [{{"name":"chat","state":"running","address":"127.0.0.1:4000","reason":null}}]}}"#
    )
}

#[test]
fn a_list_goes_on_to_its_last_page() {
    let first = format!(r#"{{"sessions":[{}],"next":"{ONE}"}}"#, session(ONE));
    let last = format!(r#"{{"sessions":[{}],"next":null}}"#, session(TWO));
    let (admin, served) = api(vec![("200 OK", first), ("200 OK", last)]);
    let output = sessions(admin, &["list", "--user", "a b/ä"]);
    insta::assert_snapshot!(String::from_utf8(output.stdout).unwrap(), @r"
    ID                                    STATE    PROJECT  USER  USED
    3f2b8c1e-5d4a-4c6b-9e7f-0a1b2c3d4e5f  running  42       7     2026-01-02T03:04:05Z
    5d4a3f2b-8c1e-4c6b-9e7f-0a1b2c3d4e5f  running  42       7     2026-01-02T03:04:05Z
    ");
    let requests = [
        "GET /api/sessions?limit=1000&user=a%20b%2F%C3%A4 HTTP/1.1".to_owned(),
        format!("GET /api/sessions?limit=1000&user=a%20b%2F%C3%A4&after={ONE} HTTP/1.1"),
    ];
    assert_eq!(served.join().unwrap(), requests);
}

#[test]
fn what_is_protected_is_marked_in_the_list_of_what_nobody_uses() {
    let marked = |id, protected: &str| {
        let one = session(id);
        let rest = one.strip_prefix('{').expect("an object").to_owned();
        format!(r#"{{"protected":{protected},{rest}"#)
    };
    let page = format!(
        r#"{{"sessions":[{},{}],"next":null}}"#,
        marked(ONE, "true"),
        marked(TWO, "false")
    );
    let (admin, served) = api(vec![("200 OK", page)]);
    let output = sessions(admin, &["list", "--unused"]);
    insta::assert_snapshot!(String::from_utf8(output.stdout).unwrap(), @r"
    ID                                    STATE    PROJECT  USER  USED                  PROTECTED
    3f2b8c1e-5d4a-4c6b-9e7f-0a1b2c3d4e5f  running  42       7     2026-01-02T03:04:05Z  yes
    5d4a3f2b-8c1e-4c6b-9e7f-0a1b2c3d4e5f  running  42       7     2026-01-02T03:04:05Z  no
    ");
    let requests = ["GET /api/sessions?limit=1000&unused=true HTTP/1.1"];
    assert_eq!(served.join().unwrap(), requests);
}

#[test]
fn each_command_asks_for_one_session_and_shows_it() {
    for (command, request) in [
        ("show", "GET "),
        ("start", "POST "),
        ("keep", "POST "),
        ("stop", "POST "),
    ] {
        let (admin, served) = api(vec![("202 Accepted", session(ONE))]);
        let output = sessions(admin, &[command, ONE]);
        assert!(output.status.success(), "{output:?}");
        let shown = String::from_utf8(output.stdout).unwrap();
        assert!(
            shown.ends_with(
                "SERVICE  STATE    ADDRESS         WAITS FOR\nchat     running  127.0.0.1:4000  -\n"
            ),
            "{shown}"
        );
        let path = if command == "show" {
            ONE.to_owned()
        } else {
            format!("{ONE}/{command}")
        };
        assert_eq!(
            served.join().unwrap(),
            [format!("{request}/api/sessions/{path} HTTP/1.1")]
        );
    }
}

#[test]
fn json_is_handed_on_with_what_this_program_does_not_know() {
    let (admin, served) = api(vec![("200 OK", session(ONE))]);
    let output = sessions(admin, &["show", ONE, "-o", "json"]);
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&shown["id"], &shown["new"]), (&ONE.into(), &1.into()));
    served.join().unwrap();
}

#[test]
fn a_refusal_is_told_in_the_words_of_the_api() {
    let problem =
        r#"{"title":"too many sessions start","detail":"8 are starting; try again","code":"busy"}"#;
    let refused = "too many sessions start: 8 are starting; try again".to_owned();
    let no_json = "the admin API at http://ADDRESS/ answered something that is no JSON".to_owned();
    let another = format!(
        "http://ADDRESS/api/sessions/{ONE}/start answered 404 Not Found: is http://ADDRESS/ the admin API?"
    );
    for (answer, said) in [
        (("503 Service Unavailable", problem), refused),
        (("200 OK", "<html>"), no_json),
        (("404 Not Found", "<html>"), another),
    ] {
        let (admin, served) = api(vec![(answer.0, answer.1.to_owned())]);
        let output = sessions(admin, &["start", ONE]);
        let expected = format!("error: {}", said.replace("ADDRESS", &admin.to_string()));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.starts_with(&expected), "{stderr}");
        assert_eq!(output.status.code(), Some(1));
        served.join().unwrap();
    }
}

/// What a command printed and how it ended, with what differs from run to run made the same: on this machine by as many
/// characters, for ports have five.
pub(crate) fn told(command: &[&str], output: &Output, id: &str) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("the program writes UTF-8");
    let mut all = text(&output.stdout);
    let errors = text(&output.stderr);
    all += &errors.replace("error: ", "on standard error: ");
    let all = all.replace(id, ONE);
    let same = |word: &str| {
        let bare = word.trim_matches(|char: char| "\",;".contains(char));
        if bare.parse::<jiff::Timestamp>().is_ok() {
            return word.replace(bare, "2026-01-02T03:04:05Z");
        }
        match bare.parse::<SocketAddr>() {
            Ok(_) => word.replace(bare, "127.0.0.1:12345"),
            Err(_) => word.to_owned(),
        }
    };
    let line = |line: &str| line.split(' ').map(same).collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = all.lines().map(line).collect();
    let code = output.status.code().expect("it ended by itself");
    let command = command.join(" ").replace(id, ONE);
    format!(
        "$ session-gateway sessions {command}\n{}\nexit code {code}\n",
        lines.join("\n")
    )
}

/// A session of which one service fails, one is late and one has its port.
fn settings() -> Vec<String> {
    let services = [
        ("preview", "{sleep,1000}".to_owned()),
        ("chat", "{sh,-c,echo out of luck >&2; exit 3}".to_owned()),
        ("vscode", format!("{{{PROGRAM},demo,preview}}")),
    ];
    let command = |(name, command)| format!("local.services.{name}.command={command}");
    services.into_iter().map(command).collect()
}

/// Waits until a session is shown with this text so many times.
pub(crate) fn until_shown(admin: SocketAddr, id: &str, text: &str, times: usize) {
    let begun = tokio::time::Instant::now();
    loop {
        let shown = sessions(admin, &["show", id, "-o", "json"]);
        let shown = String::from_utf8(shown.stdout).unwrap();
        if shown.matches(text).count() == times {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "{text} is not in {shown}");
    }
}

#[test]
fn what_each_command_says_of_a_session_from_before_its_start_to_its_end() {
    let data = tempfile::tempdir().unwrap();
    let gateway = Serve::start(data.path(), &settings());
    let (admin, id) = (gateway.admin, gateway.id.to_string());
    let mut all = String::new();
    let mut run = |command: &[&str]| {
        let output = sessions(admin, command);
        all += &told(command, &output, &id);
        all += "\n";
    };
    for command in ["show", "explain", "stop", "keep"] {
        run(&[command, &id]);
    }
    run(&["list"]);
    sessions(admin, &["start", &id]);
    until_shown(admin, &id, "service_exited", 1);
    until_shown(admin, &id, "\"running\"", 2);
    for command in ["show", "explain", "keep"] {
        run(&[command, &id]);
    }
    run(&["list", "--state", "running", "--project", "0"]);
    run(&["list", "--state", "stopped"]);
    run(&["stop", &id]);
    run(&["show", &id, "-o", "yaml"]);
    run(&["explain", &id]);
    run(&["delete", &id]);
    run(&["delete", &id, "--yes"]);
    run(&["delete", &id, "--yes"]);
    run(&["delete", "7", "--yes"]);
    insta::assert_snapshot!("life", all);
    assert!(
        !data.path().join("sessions").join(&id).exists(),
        "its files"
    );
}

#[test]
fn what_changes_is_watched_as_it_changes() {
    let data = tempfile::tempdir().unwrap();
    let gateway = Serve::start(data.path(), &settings());
    let (admin, id) = (gateway.admin, gateway.id.to_string());
    let (all, mut lines) = watch(admin, &[]);
    let heads = lines.next().expect("a line");
    assert_eq!(heads.split_whitespace().next(), Some("ID"));
    let (one, mut documents) = watch(admin, &[&id, "-o", "json"]);
    let (other, others) = watch(admin, &[ONE, "-o", "json"]);
    let mut states = Vec::new();
    let mut until = |state: &str| {
        for line in documents.by_ref() {
            let session: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!(session["id"], id.as_str());
            let now = session["state"].as_str().expect("a state").to_owned();
            if states.last() != Some(&now) {
                states.push(now.clone());
            }
            if now == state {
                return;
            }
        }
        panic!("it ended before it was {state}");
    };
    sessions(admin, &["start", &id]);
    until("running");
    sessions(admin, &["stop", &id]);
    until("stopped");
    sessions(admin, &["delete", &id, "--yes"]);
    until("absent");
    states.retain(|state| !matches!(state.as_str(), "starting" | "stopping" | "failed"));
    assert_eq!(states, ["running", "stopped", "absent"]);
    let of_it = lines.by_ref().find(|line| line.contains("absent"));
    assert!(of_it.expect("a line").starts_with(&id));
    // All three end with the gateway, and say so.
    drop(gateway);
    assert_eq!(others.count(), 0, "another session was told of");
    for watching in [all, one, other] {
        let ended = watching.wait_with_output().expect("it ends");
        assert_eq!(ended.status.code(), Some(3));
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(said.starts_with("error: "), "{said}");
    }
}

#[test]
fn a_deletion_is_asked_about_on_a_terminal() {
    for (answer, requests, code) in [("n", 0, 1), ("", 0, 1), ("y", 1, 0)] {
        let deleted = format!(r#"{{"id":"{ONE}","deleted":true}}"#);
        let answers = vec![("202 Accepted", deleted); requests];
        let (admin, served) = api(answers);
        let command = format!("{PROGRAM} sessions delete {ONE} --admin {admin}");
        // It gives its program a terminal, and that what it reads itself.
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script is there");
        let mut terminal = child.stdin.take().expect("it is piped");
        writeln!(terminal, "{answer}").expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        drop(terminal);
        let shown = String::from_utf8(output.stdout).unwrap();
        assert!(shown.contains(&format!("Delete session {ONE} with all its files? [y/N]")));
        assert_eq!(output.status.code(), Some(code), "{answer:?}: {shown}");
        let expected: Vec<String> = (0..requests)
            .map(|_| format!("DELETE /api/sessions/{ONE} HTTP/1.1"))
            .collect();
        assert_eq!(served.join().unwrap(), expected);
    }
}

#[test]
fn the_token_of_a_file_is_sent() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("token");
    std::fs::write(&file, "a-token-of-operators\n").unwrap();
    let file = file.display().to_string();
    let gateway = Serve::start(data.path(), &[format!("admin.token_file={file}")]);
    let refused = sessions(gateway.admin, &["list"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("--token-file"), "{said}");
    for command in [&["list"][..], &["show", ONE], &["explain", ONE]] {
        let output = sessions(gateway.admin, &[command, &["--token-file", &file]].concat());
        assert_ne!(output.status.code(), Some(1), "{output:?}");
    }
}

#[test]
fn shells_complete_what_people_may_type() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(PROGRAM)
            .args(["completion", shell])
            .output()
            .expect("the program can be started");
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(
            script.contains("explain") && !script.contains("supervise"),
            "{shell}"
        );
    }
    let ask = format!(
        "source <({PROGRAM} completion bash); COMP_WORDS=(session-gateway sessions ex); COMP_CWORD=2; \
         complete=$(complete -p session-gateway); complete=${{complete#*-F }}; \
         ${{complete%% *}} session-gateway ex sessions; echo ${{COMPREPLY[*]}}"
    );
    let output = Command::new("bash")
        .args(["-c", &ask])
        .output()
        .expect("bash is there");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "explain\n");
}
