//! What the editor does to files, and for whom.

use http::{Method, StatusCode};
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;

use super::service::Service;

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

#[tokio::test]
async fn what_no_file_system_does_is_the_request_s_fault() {
    let editor = Service::start(&["vscode", "--builtin"], |workspace| {
        std::fs::create_dir_all(workspace.join("sub")).unwrap();
    });
    let long = format!("/api/folder?path={}", "n".repeat(300));
    for (method, path) in [
        (Method::POST, "/api/file?path=sub&to=sub/in"),
        (Method::PUT, &long),
    ] {
        let answer = editor.ask(method, path, &[], "").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.body);
    }
}
