//! preview: the workspace as a web site that reloads itself when a file changes.
//!
//! Requests arrive with the public prefix, so this service decides about its slash. Files whose path has a segment
//! that begins with a dot are not served (`.well-known` is). Everything else about files (types, ranges, conditions)
//! is tower-http's; pages alone are read here, since the script that reloads them is added. A link that leads out of
//! the workspace is as good as missing.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    Router,
    body::Body,
    extract::{Path as UrlPath, RawQuery, Request, State, WebSocketUpgrade, ws},
    http::{HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use tokio::sync::watch as value;
use tower_http::services::ServeFile;

use super::{Environment, guard, page, workspace::Workspace};
use crate::shutdown::{Drain, Stage};

mod inject;
mod watch;

const STARTER_PAGE: &str = include_str!("preview/starter/index.html");
const STARTER_STYLE: &str = include_str!("preview/starter/style.css");
const MISSING: &str = include_str!("preview/missing.html");
const RELOAD: &str = include_str!("preview/reload.js");

/// A page above this is served as it is, without the reload script: it would be held in memory.
const LARGEST_PAGE: u64 = 8 << 20;

#[derive(Clone)]
struct Preview(Arc<Shared>);

struct Shared {
    workspace: Workspace,
    base_path: String,
    editor: Option<String>,
    version: value::Receiver<String>,
    drain: Drain,
}

/// The service's routes; fills an empty workspace and begins to watch it.
pub(super) fn router(
    environment: &Environment,
    workspace: Workspace,
    drain: &Drain,
) -> io::Result<Router> {
    greet(&workspace, environment)?;
    let base = environment.base_path.clone();
    let preview = Preview(Arc::new(Shared {
        version: watch::version(workspace.root(), drain)?,
        workspace,
        base_path: base.clone(),
        editor: environment.vscode.clone(),
        drain: drain.clone(),
    }));
    let socket = get(reload).layer(middleware::from_fn(guard::same_origin));
    let mut router = Router::new()
        .route(&format!("{base}/"), get(index))
        .route(&format!("{base}/{{*path}}"), get(file))
        .route(&format!("{base}{}", inject::SOCKET), socket)
        .route(
            &format!("{base}{}", inject::CLIENT),
            page::asset(page::SCRIPT, RELOAD.to_owned()),
        );
    if !base.is_empty() {
        router = router.route(&base, get(to_slash));
    }
    Ok(router.fallback(elsewhere).with_state(preview))
}

/// Puts a first page into a workspace without any entry; one with a single dot file is somebody's and stays as it is.
fn greet(workspace: &Workspace, environment: &Environment) -> io::Result<()> {
    if fs::read_dir(workspace.root())?.next().is_some() {
        return Ok(());
    }
    let editor = environment
        .vscode
        .as_ref()
        .map_or_else(String::new, |path| {
            format!("<a class=\"button\" href=\"{path}/\" target=\"_top\">Open the editor</a>")
        });
    fs::write(workspace.root().join("style.css"), STARTER_STYLE)?;
    fs::write(
        workspace.root().join("index.html"),
        STARTER_PAGE.replace("<!--editor-->", &editor),
    )
}

async fn to_slash(State(preview): State<Preview>, RawQuery(query): RawQuery) -> Response {
    Redirect::permanent(&with_query(format!("{}/", preview.0.base_path), query)).into_response()
}

async fn elsewhere(State(preview): State<Preview>) -> Response {
    let said = format!("This preview is at {}/\n", preview.0.base_path);
    (StatusCode::NOT_FOUND, said).into_response()
}

async fn index(State(preview): State<Preview>, request: Request) -> Response {
    preview.answer("index.html", request).await
}

async fn file(
    State(preview): State<Preview>,
    UrlPath(path): UrlPath<String>,
    request: Request,
) -> Response {
    let Some(folder) = path.strip_suffix('/') else {
        if preview.find(&path).is_some_and(|found| found.is_dir()) {
            // Relative links of the folder's page need the slash. The raw path, not the decoded one, is the client's.
            let query = request.uri().query().map(str::to_owned);
            let slash = format!("{}/", request.uri().path());
            return Redirect::temporary(&with_query(slash, query)).into_response();
        }
        return preview.answer(&path, request).await;
    };
    preview
        .answer(&format!("{folder}/index.html"), request)
        .await
}

impl Preview {
    /// The real path of what may be served. Links must not show by another name what is hidden.
    fn find(&self, path: &str) -> Option<PathBuf> {
        let hidden = |name: &str| name.starts_with('.') && name != ".well-known";
        let found = self.0.workspace.existing(path).ok()?;
        let real = found.strip_prefix(self.0.workspace.root()).ok()?.to_str()?;
        (!path.split('/').chain(real.split('/')).any(hidden)).then_some(found)
    }

    async fn answer(&self, path: &str, request: Request) -> Response {
        let Some(file) = self.find(path).filter(|found| found.is_file()) else {
            return self.missing(path);
        };
        let answer = if is_page(&file) && small(&file).await {
            self.page(&file).await
        } else {
            let served = ServeFile::new(&file).try_call(request).await;
            served.map(|served| served.map(Body::new))
        };
        // Removed or made unreadable meanwhile.
        let Ok(mut answer) = answer else {
            return self.missing(path);
        };
        let headers = answer.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        // Such a file cannot name its encoding, and browsers take it for Windows-1252 unless told.
        let plain = headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind == "text/plain" || kind == "text/markdown");
        if plain {
            let kind = HeaderValue::from_static("text/plain; charset=utf-8");
            headers.insert(header::CONTENT_TYPE, kind);
        }
        answer
    }

    /// A page with the reload script. It has no validator: its script carries the version of the workspace.
    async fn page(&self, file: &Path) -> io::Result<Response> {
        let version = self.0.version.borrow().clone();
        let content = tokio::fs::read(file).await?;
        let kind = if std::str::from_utf8(&content).is_ok() {
            page::HTML
        } else {
            "text/html"
        };
        let content = inject::reload(content, &self.0.base_path, &version);
        Ok(([(header::CONTENT_TYPE, kind)], content).into_response())
    }

    /// Says what is missing and how to make it; reloads as soon as it is there.
    fn missing(&self, path: &str) -> Response {
        let hint = match &self.0.editor {
            Some(editor) => format!(
                "<a class=\"button\" href=\"{editor}/\" target=\"_top\">Create it in the editor</a>"
            ),
            None => "<p>Create it in the workspace folder.</p>".to_owned(),
        };
        let page = MISSING
            .replace("/*look*/", page::LOOK)
            .replace("<!--hint-->", &hint);
        let page = page.replace("<!--path-->", &page::escape(path));
        let version = self.0.version.borrow().clone();
        let page = inject::reload(page.into_bytes(), &self.0.base_path, &version);
        let headers = [
            (header::CONTENT_TYPE, page::HTML),
            (header::CACHE_CONTROL, "no-store"),
        ];
        (StatusCode::NOT_FOUND, headers, page).into_response()
    }
}

fn is_page(file: &Path) -> bool {
    let extension = file.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| {
        extension.eq_ignore_ascii_case("html") || extension.eq_ignore_ascii_case("htm")
    })
}

async fn small(file: &Path) -> bool {
    tokio::fs::metadata(file)
        .await
        .is_ok_and(|found| found.len() <= LARGEST_PAGE)
}

fn with_query(path: String, query: Option<String>) -> String {
    query.map_or(path.clone(), |query| format!("{path}?{query}"))
}

/// The socket of an open page: the workspace's version, now and whenever it changes.
async fn reload(State(preview): State<Preview>, upgrade: WebSocketUpgrade) -> Response {
    let drain = preview.0.drain.clone();
    upgrade.on_upgrade(move |socket| async move {
        let version = preview.0.version.clone();
        let stop = drain.clone();
        // Through the drain, so that the end of the process waits for the goodbye. A failed task closed its socket.
        let _ = drain.spawn("reload", tell(socket, version, stop)).await;
    })
}

async fn tell(mut socket: ws::WebSocket, mut version: value::Receiver<String>, drain: Drain) {
    version.mark_changed();
    loop {
        let now = tokio::select! {
            // The watching task ends with the drain, so both of these are the end of the process.
            changed = version.changed() => changed.ok().map(|()| version.borrow_and_update().clone()),
            () = drain.reached(Stage::Draining) => None,
            received = socket.recv() => match received {
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => return,
            },
        };
        let ending = now.is_none();
        let message = now.map_or_else(goodbye, |now| ws::Message::Text(now.into()));
        if socket.send(message).await.is_err() || ending {
            return;
        }
    }
}

fn goodbye() -> ws::Message {
    ws::Message::Close(Some(ws::CloseFrame {
        code: ws::close_code::AWAY,
        reason: "".into(),
    }))
}
