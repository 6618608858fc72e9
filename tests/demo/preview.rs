//! Pages, files and reloading.

use http::{Method, StatusCode};
use tokio_tungstenite::tungstenite::Message;

use super::service::{BASE, Service, next};

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

/// A workspace with files to serve, hidden ones, and links to what must not be served.
fn with_files() -> Service {
    Service::start(&["preview"], |workspace| {
        std::fs::create_dir_all(workspace.join("docs/ä b")).unwrap();
        std::fs::write(workspace.join("docs/ä b/index.html"), "<body>inner</body>").unwrap();
        std::fs::write(workspace.join("data.js"), "0123456789").unwrap();
        std::fs::write(workspace.join("note.txt"), "ä").unwrap();
        std::fs::write(workspace.join(".env"), "SECRET").unwrap();
        std::fs::write(workspace.parent().unwrap().join("outside.txt"), "SECRET").unwrap();
        std::os::unix::fs::symlink("../outside.txt", workspace.join("link.txt")).unwrap();
        std::os::unix::fs::symlink(".env", workspace.join("shown.txt")).unwrap();
        std::os::unix::fs::symlink("../../../outside.txt", workspace.join("docs/ä b/index.htm"))
            .unwrap();
    })
}

#[tokio::test]
async fn files_are_served_as_by_any_web_server() {
    let preview = with_files();
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

    let text = preview.get(&format!("{BASE}/note.txt")).await;
    assert_eq!(
        (text.header("content-type"), text.body.as_str()),
        ("text/plain; charset=utf-8", "ä")
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
}

#[tokio::test]
async fn only_what_is_in_the_workspace_and_not_hidden_is_served() {
    let preview = with_files();
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
    let save = |content: &str| {
        let saving = preview.workspace().join(".index.html.swp");
        std::fs::write(&saving, content).unwrap();
        std::fs::rename(&saving, preview.workspace().join("index.html")).unwrap();
    };
    std::fs::write(preview.workspace().join(".hidden"), "x").unwrap();
    save("<body>new</body>");
    let second = next(&mut socket).await.into_text().unwrap();
    assert_ne!(first, second);
    assert!(
        preview
            .get(&format!("{BASE}/"))
            .await
            .body
            .contains(&format!("data-version=\"{second}\""))
    );
    save("<body>newer</body>");
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
