//! The built-in services as processes of their own: what a session's browser gets from them, and how they end.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use futures_util::StreamExt;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use session_gateway::shutdown::{Drain, Ending};
use tempfile::TempDir;
use tokio::{net::TcpStream, runtime::Handle, time::timeout};
use tokio_tungstenite::{client_async, tungstenite::Message};

/// Ten times what the slowest step takes here.
const LONG: Duration = Duration::from_secs(10);

const BASE: &str = "/3f0e3a52-6ff5-4a3b-9c39-1e6a1f0ce1a7/preview";

struct Service {
    child: Child,
    address: String,
    folder: TempDir,
    drain: Drain,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Service {
    fn start(arguments: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let workspace = folder.path().join("workspace");
        std::fs::create_dir(&workspace).unwrap();
        prepare(&workspace);
        let mut child = Command::new(env!("CARGO_BIN_EXE_session-gateway"))
            .arg("demo")
            .args(arguments)
            .env("PORT", "0")
            .env("BASE_PATH", BASE)
            .env("VSCODE_BASE_PATH", "/s/vscode")
            .env("WORKSPACE", &workspace)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap();
        let address = address.split('/').next().unwrap().to_owned();
        let drain = Ending::new().drain(Handle::current());
        Self {
            child,
            address,
            folder,
            drain,
        }
    }

    fn workspace(&self) -> std::path::PathBuf {
        self.folder.path().join("workspace")
    }

    async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> http::Response<Incoming> {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        self.drain.spawn("connection", connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.address);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(Bytes::from(body.to_owned())))
            .unwrap();
        timeout(LONG, send.send_request(request))
            .await
            .unwrap()
            .unwrap()
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let (parts, body) = self.open(method, path, headers, body).await.into_parts();
        let body = timeout(LONG, body.collect())
            .await
            .unwrap()
            .unwrap()
            .to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], "").await
    }

    async fn socket(&self, path: &str) -> tokio_tungstenite::WebSocketStream<TcpStream> {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        client_async(format!("ws://{}{path}", self.address), stream)
            .await
            .unwrap()
            .0
    }

    /// Sends SIGTERM and waits for the end.
    async fn end(&mut self) -> ExitStatus {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, ended).await.expect("it ends")
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

async fn next(socket: &mut tokio_tungstenite::WebSocketStream<TcpStream>) -> Message {
    timeout(LONG, socket.next())
        .await
        .expect("a message comes")
        .expect("the socket is open")
        .unwrap()
}

#[tokio::test]
async fn an_empty_workspace_gets_a_page_and_a_used_one_stays_as_it_is() {
    let empty = Service::start(&["preview"], |_| {});
    let page = empty.get(&format!("{BASE}/")).await;
    assert_eq!(
        (page.status, page.header("content-type")),
        (StatusCode::OK, "text/html; charset=utf-8")
    );
    assert_eq!(page.header("content-length"), page.body.len().to_string());
    assert_eq!(page.header("cache-control"), "no-cache");
    assert!(page.body.contains("href=\"/s/vscode/\""), "{}", page.body);
    assert_eq!(
        page.body
            .matches(&format!("src=\"{BASE}/.session-gateway/reload.js\""))
            .count(),
        1
    );
    let head = empty.ask(Method::HEAD, &format!("{BASE}/"), &[], "").await;
    assert_eq!(
        (head.header("content-length"), head.body.as_str()),
        (page.header("content-length"), "")
    );

    let used = Service::start(&["preview"], |workspace| {
        std::fs::write(workspace.join(".keep"), "").unwrap()
    });
    assert_eq!(
        used.get(&format!("{BASE}/")).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(std::fs::read_dir(used.workspace()).unwrap().count(), 1);
}

#[tokio::test]
async fn files_are_served_as_a_web_server_does_and_only_those_of_the_workspace() {
    let preview = Service::start(&["preview"], |workspace| {
        std::fs::create_dir_all(workspace.join("docs/ä b")).unwrap();
        std::fs::write(workspace.join("docs/ä b/index.html"), "<body>inner</body>").unwrap();
        std::fs::write(workspace.join("data.js"), "0123456789").unwrap();
        std::fs::write(workspace.join(".env"), "SECRET").unwrap();
        std::fs::write(workspace.parent().unwrap().join("outside.txt"), "SECRET").unwrap();
        std::os::unix::fs::symlink("../outside.txt", workspace.join("link.txt")).unwrap();
        std::os::unix::fs::symlink(".env", workspace.join("shown.txt")).unwrap();
        std::os::unix::fs::symlink("../../../outside.txt", workspace.join("docs/ä b/index.htm"))
            .unwrap();
    });
    let script = preview.get(&format!("{BASE}/data.js")).await;
    assert_eq!(
        (script.header("content-type"), script.body.as_str()),
        ("text/javascript", "0123456789")
    );
    let known = [("if-modified-since", script.header("last-modified"))];
    let again = preview
        .ask(Method::GET, &format!("{BASE}/data.js"), &known, "")
        .await;
    assert_eq!(again.status, StatusCode::NOT_MODIFIED);
    let part = preview
        .ask(
            Method::GET,
            &format!("{BASE}/data.js"),
            &[("range", "bytes=2-4")],
            "",
        )
        .await;
    assert_eq!(
        (part.status, part.body.as_str()),
        (StatusCode::PARTIAL_CONTENT, "234")
    );

    let base = preview.get(&format!("{BASE}?a=1")).await;
    assert_eq!(
        (base.status, base.header("location")),
        (StatusCode::PERMANENT_REDIRECT, &*format!("{BASE}/?a=1"))
    );
    let folder = preview.get(&format!("{BASE}/docs/%C3%A4%20b?a=1")).await;
    let slash = format!("{BASE}/docs/%C3%A4%20b/?a=1");
    assert_eq!(
        (folder.status, folder.header("location")),
        (StatusCode::TEMPORARY_REDIRECT, slash.as_str())
    );
    assert!(
        preview
            .get(&slash)
            .await
            .body
            .starts_with("<body>inner<script")
    );

    for path in [
        ".env",
        "%2eenv",
        "link.txt",
        "shown.txt",
        "../outside.txt",
        "%2e%2e/outside.txt",
        "..%2foutside.txt",
        "docs/..%2f..%2f..%2foutside.txt",
        "docs/%C3%A4%20b/index.htm",
        "docs/",
        "data.js/",
        "%00",
        "/etc/passwd",
    ] {
        let answer = preview.get(&format!("{BASE}/{path}")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(!answer.body.contains("SECRET"), "{path}");
    }
    let missing = preview.get(&format!("{BASE}/%3Cimg%20src=x%3E.html")).await;
    assert!(
        missing.body.contains("&lt;img src=x&gt;.html"),
        "{}",
        missing.body
    );
}

#[tokio::test]
async fn a_change_reaches_the_open_page_once_and_the_end_closes_its_socket() {
    let mut preview = Service::start(&["preview"], |_| {});
    let page = preview.get(&format!("{BASE}/")).await.body;
    let mut socket = preview
        .socket(&format!("{BASE}/.session-gateway/reload"))
        .await;
    let first = next(&mut socket).await.into_text().unwrap();
    assert!(
        page.contains(&format!("data-version=\"{first}\"")),
        "the page is current: {first} {page}"
    );
    // As editors save: a hidden file beside it, renamed over it.
    let saving = preview.workspace().join(".index.html.swp");
    std::fs::write(preview.workspace().join(".hidden"), "x").unwrap();
    std::fs::write(&saving, "<body>new</body>").unwrap();
    std::fs::rename(&saving, preview.workspace().join("index.html")).unwrap();
    let second = next(&mut socket).await.into_text().unwrap();
    assert_ne!(first, second);
    assert!(
        preview
            .get(&format!("{BASE}/"))
            .await
            .body
            .contains(&format!("data-version=\"{second}\""))
    );
    std::fs::write(preview.workspace().join("index.html"), "<body>newer</body>").unwrap();
    let third = next(&mut socket).await.into_text().unwrap();
    assert!(
        second.ends_with("-1") && third.ends_with("-2"),
        "each save counts once: {second} {third}"
    );

    let foreign = [
        ("origin", "http://evil.test"),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let refused = preview
        .ask(
            Method::GET,
            &format!("{BASE}/.session-gateway/reload"),
            &foreign,
            "",
        )
        .await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);

    assert!(preview.end().await.success());
    let Message::Close(Some(frame)) = next(&mut socket).await else {
        panic!("no goodbye")
    };
    assert_eq!(u16::from(frame.code), 1001);
}

#[tokio::test]
async fn chat_answers_as_events_and_over_a_socket_and_an_open_answer_does_not_keep_it() {
    let mut chat = Service::start(&["chat"], |workspace| {
        std::fs::write(workspace.join("a.txt"), "").unwrap()
    });
    let json = [("content-type", "application/json")];
    let answer = chat
        .open(Method::POST, "/api/chat", &json, "{\"message\":\"hi\"}")
        .await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut body = answer.into_body();
    let mut events = Vec::new();
    while let Some(frame) = timeout(LONG, body.frame()).await.unwrap() {
        events.push(String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap());
    }
    assert!(events.len() > 20, "one by one, not at once: {events:?}");
    assert_eq!(events[0], "event: token\ndata: {\"text\":\"This \"}\n\n");
    assert_eq!(events.last().unwrap(), "event: done\ndata: {}\n\n");
    assert!(events.concat().contains("a.txt"));

    for (body, status) in [("{", 400), ("{\"message\":\" \"}", 400), ("{}", 422)] {
        assert_eq!(
            chat.ask(Method::POST, "/api/chat", &json, body)
                .await
                .status,
            status,
            "{body}"
        );
    }
    let foreign = [json[0], ("sec-fetch-site", "cross-site")];
    assert_eq!(
        chat.ask(Method::POST, "/api/chat", &foreign, "{\"message\":\"hi\"}")
            .await
            .status,
        403
    );

    let mut socket = chat.socket("/ws").await;
    futures_util::SinkExt::send(&mut socket, Message::text("{\"message\":\"hi\"}"))
        .await
        .unwrap();
    assert_eq!(
        next(&mut socket).await.into_text().unwrap(),
        "{\"type\":\"token\",\"text\":\"This \"}"
    );
    let mut streaming = chat
        .open(Method::POST, "/api/chat", &json, "{\"message\":\"hi\"}")
        .await
        .into_body();
    streaming.frame().await.unwrap().unwrap();
    assert!(chat.end().await.success());
}

#[tokio::test]
async fn the_editor_saves_what_was_opened_and_never_over_another_change() {
    let editor = Service::start(&["vscode", "--builtin"], |workspace| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(workspace.join("run.sh"), "old").unwrap();
        std::fs::set_permissions(
            workspace.join("run.sh"),
            std::fs::Permissions::from_mode(0o750),
        )
        .unwrap();
        std::fs::write(workspace.join("image"), [0x89, 0, 1]).unwrap();
        std::fs::write(workspace.join("large"), vec![b'x'; (2 << 20) + 1]).unwrap();
        std::fs::write(workspace.parent().unwrap().join("outside"), "x").unwrap();
        std::os::unix::fs::symlink("../outside", workspace.join("out")).unwrap();
    });
    let file = |path: &str| format!("/api/file?path={path}");
    let opened = editor.get(&file("run.sh")).await;
    assert_eq!(
        (opened.status, opened.body.as_str()),
        (StatusCode::OK, "old")
    );
    let tag = opened.header("etag").to_owned();
    let saved = editor
        .ask(Method::PUT, &file("run.sh"), &[("if-match", &tag)], "new")
        .await;
    assert_eq!(saved.status, StatusCode::OK);
    assert_ne!(saved.header("etag"), tag);
    assert_eq!(
        std::fs::read_to_string(editor.workspace().join("run.sh")).unwrap(),
        "new"
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &editor
            .workspace()
            .join("run.sh")
            .metadata()
            .unwrap()
            .permissions(),
    );
    assert_eq!(mode & 0o777, 0o750, "permissions stay");

    let put = async |path: &str, header: (&str, &str)| {
        editor
            .ask(Method::PUT, &file(path), &[header], "x")
            .await
            .status
    };
    assert_eq!(
        put("run.sh", ("if-match", &tag)).await,
        412,
        "changed since"
    );
    assert_eq!(put("gone", ("if-match", &tag)).await, 412, "removed since");
    assert_eq!(
        put("run.sh", ("if-none-match", "*")).await,
        409,
        "already there"
    );
    assert_eq!(put("run.sh", ("accept", "*/*")).await, 428, "no condition");
    assert_eq!(
        std::fs::read_to_string(editor.workspace().join("run.sh")).unwrap(),
        "new"
    );
    assert_eq!(editor.get(&file("image")).await.status, 415);
    assert_eq!(editor.get(&file("large")).await.status, 413);
    for path in [
        "../outside",
        "%2e%2e%2foutside",
        "/etc/passwd",
        "a/../../outside",
        "",
    ] {
        assert_eq!(editor.get(&file(path)).await.status, 400, "{path}");
        assert_eq!(put(path, ("if-none-match", "*")).await, 400, "{path}");
    }
    assert_eq!(editor.get(&file("out")).await.status, 403);
    let folder = editor.folder.path();
    assert_eq!(
        std::fs::read_to_string(folder.join("outside")).unwrap(),
        "x"
    );
}

#[tokio::test]
async fn the_editor_makes_renames_and_removes_for_its_own_pages_only() {
    let editor = Service::start(&["vscode", "--builtin"], |workspace| {
        std::fs::write(workspace.join("a"), "").unwrap()
    });
    let ours = format!("http://{}", editor.address);
    let own = [
        ("origin", ours.as_str()),
        ("sec-fetch-site", "same-origin"),
        ("if-none-match", "*"),
    ];
    for headers in [
        [("origin", "http://evil.test")],
        [("sec-fetch-site", "cross-site")],
        [("origin", "null")],
    ] {
        for (method, path) in [
            (Method::PUT, "/api/file?path=b"),
            (Method::PUT, "/api/folder?path=b"),
            (Method::POST, "/api/file?path=a&to=b"),
            (Method::DELETE, "/api/file?path=a"),
        ] {
            let answer = editor
                .ask(method.clone(), path, &[headers[0], own[2]], "")
                .await;
            assert_eq!(
                answer.status,
                StatusCode::FORBIDDEN,
                "{method} {path} {headers:?}"
            );
        }
    }
    let rebound = format!("evil.test:{}", editor.address.rsplit_once(':').unwrap().1);
    let stream = TcpStream::connect(&editor.address).await.unwrap();
    let refused = client_async(format!("ws://{rebound}/"), stream)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("421"), "{refused}");

    for (method, path, status) in [
        (Method::PUT, "/api/folder?path=sub", 204),
        (Method::PUT, "/api/folder?path=sub", 409),
        (Method::PUT, "/api/file?path=sub/b", 200),
        (Method::PUT, "/api/file?path=none/b", 404),
        (Method::POST, "/api/file?path=sub/b&to=c", 204),
        (Method::POST, "/api/file?path=c&to=a", 409),
        (Method::POST, "/api/file?path=c&to=../c", 400),
        (Method::DELETE, "/api/file?path=sub", 204),
        (Method::DELETE, "/api/file?path=sub", 404),
    ] {
        let answer = editor.ask(method.clone(), path, &own, "").await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
    }
    let tree = editor.get("/api/files").await.body;
    let tree: serde_json::Value = serde_json::from_str(&tree).unwrap();
    let mut paths: Vec<_> = tree["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["path"].as_str().unwrap())
        .collect();
    paths.sort_unstable();
    assert_eq!(paths, ["a", "c"], "and no file of an unfinished save");
}
