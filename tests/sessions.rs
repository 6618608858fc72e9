//! `session-gateway sessions` against an admin API that says what each test wants.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};
use std::thread::{self, JoinHandle};

const ONE: &str = "3f2b8c1e-5d4a-4c6b-9e7f-0a1b2c3d4e5f";
const TWO: &str = "5d4a3f2b-8c1e-4c6b-9e7f-0a1b2c3d4e5f";

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

fn sessions(admin: SocketAddr, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_session-gateway"))
        .arg("sessions")
        .args(arguments)
        .args(["--admin", &admin.to_string()])
        .output()
        .expect("the program can be started")
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
    let output = sessions(admin, &["list"]);
    insta::assert_snapshot!(String::from_utf8(output.stdout).unwrap(), @r"
    ID                                    STATE    PROJECT  USER  USED
    3f2b8c1e-5d4a-4c6b-9e7f-0a1b2c3d4e5f  running  42       7     2026-01-02T03:04:05Z
    5d4a3f2b-8c1e-4c6b-9e7f-0a1b2c3d4e5f  running  42       7     2026-01-02T03:04:05Z
    ");
    let requests = [
        "GET /api/sessions HTTP/1.1".to_owned(),
        format!("GET /api/sessions?after={ONE} HTTP/1.1"),
    ];
    assert_eq!(served.join().unwrap(), requests);
}

#[test]
fn show_start_and_stop_ask_for_one_session_and_show_it() {
    for (command, request) in [("show", "GET "), ("start", "POST "), ("stop", "POST ")] {
        let (admin, served) = api(vec![("202 Accepted", session(ONE))]);
        let output = sessions(admin, &[command, ONE]);
        assert!(output.status.success(), "{output:?}");
        let shown = String::from_utf8(output.stdout).unwrap();
        assert!(
            shown.ends_with(
                "SERVICE  STATE    ADDRESS         REASON\nchat     running  127.0.0.1:4000  -\n"
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
