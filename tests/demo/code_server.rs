//! When code-server takes the editor's place. The one here is a script around another built-in service.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use tokio::{net::TcpStream, time::timeout};

use super::service::{LONG, Service};

/// A folder with a workspace and a `code-server` in `bin`, which notes each of its starts and leaves a child behind.
fn install(page: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for name in ["workspace", "bin", "site"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    fs::write(root.join("site/index.html"), page).unwrap();
    // "--auth none --bind-addr ADDRESS:PORT": the port is at the end of the fourth.
    let script = format!(
        "#!/bin/sh\nrm {root}/fails 2>/dev/null && exit 1\necho $$ >>{root}/starts\nsleep 1000 >/dev/null 2>&1 &\necho $! >>{root}/children\n\
         PORT=${{4##*:}} BASE_PATH= WORKSPACE={root}/site exec {program} demo preview\n",
        root = root.display(),
        program = env!("CARGO_BIN_EXE_session-gateway"),
    );
    fs::write(root.join("bin/code-server"), script).unwrap();
    fs::set_permissions(
        root.join("bin/code-server"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    folder
}

fn numbers(file: &Path) -> Vec<i32> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

async fn launch(folder: tempfile::TempDir) -> Service {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    let path = format!("{}/bin:/usr/bin:/bin", folder.path().display());
    let service = Service::launch(folder, &["vscode"], &port, &path);
    let open = async {
        while TcpStream::connect(&service.address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, open).await.expect("it listens");
    service
}

#[tokio::test]
async fn a_working_one_is_tried_once_and_becomes_the_service() {
    let mut service = launch(install("<title>workbench</title>")).await;
    assert!(
        service
            .get("/")
            .await
            .body
            .contains("<title>workbench</title>")
    );
    let root = service.folder.path().to_owned();
    let starts = numbers(&root.join("starts"));
    assert_eq!(starts.len(), 2, "a look, then the service");
    assert_eq!(starts[1], service.id(), "it is the service's main process");
    let children = numbers(&root.join("children"));
    let ended = || !Path::new(&format!("/proc/{}/cwd", children[0])).exists();
    assert!(ended(), "the look ended with its children");
    assert_eq!(
        fs::read_dir(root.join("workspace")).unwrap().count(),
        0,
        "its state is beside the workspace"
    );

    assert!(service.end().await.success());
    end(children[1]);
    let service = launch(service.into_folder()).await;
    let starts = numbers(&root.join("starts"));
    assert_eq!(
        (starts.len(), starts[2]),
        (3, service.id()),
        "the verdict is remembered"
    );
    end(numbers(&root.join("children"))[2]);
}

#[tokio::test]
async fn a_broken_one_leaves_the_place_to_the_editor() {
    let service = launch(install("<title>Something is wrong</title>")).await;
    assert!(
        service
            .get("/")
            .await
            .body
            .contains("<title>Editor</title>")
    );
    let root = service.folder.path().to_owned();
    assert_eq!(numbers(&root.join("starts")).len(), 1);
    let service = launch(service.into_folder()).await;
    assert!(
        service
            .get("/")
            .await
            .body
            .contains("<title>Editor</title>")
    );
    assert_eq!(
        numbers(&root.join("starts")).len(),
        1,
        "the verdict is remembered"
    );
}

#[tokio::test]
async fn one_that_ended_early_is_tried_again_at_the_next_start() {
    let folder = install("<title>workbench</title>");
    fs::write(folder.path().join("fails"), "").unwrap();
    let service = launch(folder).await;
    let page = service.get("/").await.body;
    assert!(page.contains("<title>Editor</title>"), "{page}");
    let service = launch(service.into_folder()).await;
    let page = service.get("/").await.body;
    assert!(page.contains("<title>workbench</title>"), "{page}");
    end(numbers(&service.folder.path().join("children"))[1]);
}

/// Ends what the script left behind beside the service.
fn end(child: i32) {
    let child = rustix::process::Pid::from_raw(child).unwrap();
    rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
}
