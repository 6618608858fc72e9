//! The small editor: its page and the API behind it. Paths are relative to the workspace, in the query.
//!
//! | request | does | answers |
//! | --- | --- | --- |
//! | `GET api/files` | lists the workspace | 200 |
//! | `GET api/file?path=` | a file's text with its `ETag` | 200; 415 not text; 413 above 2 MiB |
//! | `PUT api/file?path=` | saves: `If-Match: <etag>` replaces, `If-None-Match: *` makes | 200; 412; 428 if neither |
//! | `DELETE api/file?path=` | removes a file or a folder | 204 |
//! | `POST api/file?path=&to=` | renames; never overwrites | 204; 409 |
//! | `PUT api/folder?path=` | makes a folder | 204; 409 |

use std::io;

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Query, State},
    http::{HeaderMap, StatusCode, header},
    middleware,
    response::{IntoResponse, Json, Response},
    routing::{get, post, put},
};
use serde::Deserialize;

use super::{
    super::{
        Environment, guard, page,
        workspace::{PathError, Workspace},
    },
    files::{Expected, FileError, Files, LARGEST_FILE},
};
use crate::shutdown::Drain;

#[derive(Clone)]
struct Editor {
    files: Files,
    drain: Drain,
}

#[derive(Deserialize)]
struct Target {
    path: String,
}

#[derive(Deserialize)]
struct Rename {
    path: String,
    to: String,
}

/// The service's routes, without the public prefix.
pub(in crate::demo) fn router(
    environment: &Environment,
    workspace: Workspace,
    drain: &Drain,
) -> Router {
    let index = include_str!("index.html").replace("<!--links-->", &page::links(environment));
    let changes = Router::new()
        .route("/api/file", put(save).delete(remove).merge(post(rename)))
        .route("/api/folder", put(make_folder))
        .layer(DefaultBodyLimit::max(LARGEST_FILE as usize))
        .layer(middleware::from_fn(guard::same_origin));
    Router::new()
        .route("/", page::asset(page::HTML, index))
        .route(
            "/editor.css",
            page::asset(
                page::CSS,
                format!("{}{}", page::LOOK, include_str!("editor.css")),
            ),
        )
        .route(
            "/editor.js",
            page::asset(page::SCRIPT, include_str!("editor.js").to_owned()),
        )
        .route(
            "/tree.js",
            page::asset(page::SCRIPT, include_str!("tree.js").to_owned()),
        )
        .route("/api/files", get(tree))
        .route("/api/file", get(read))
        .merge(changes)
        .with_state(Editor {
            files: Files::new(workspace),
            drain: drain.clone(),
        })
}

async fn tree(State(editor): State<Editor>) -> Response {
    editor
        .answer(|files| {
            Ok(([(header::CACHE_CONTROL, "no-store")], Json(files.tree())).into_response())
        })
        .await
}

async fn read(State(editor): State<Editor>, Query(Target { path }): Query<Target>) -> Response {
    editor
        .answer(move |files| {
            let (text, tag) = files.read(&path)?;
            // Plain text and nosniff: a page of the workspace must not run at the editor's address.
            let headers = [
                (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
                (header::CACHE_CONTROL, "no-store"),
                (header::ETAG, tag.as_str()),
            ];
            Ok((headers, text).into_response())
        })
        .await
}

async fn save(
    State(editor): State<Editor>,
    Query(Target { path }): Query<Target>,
    headers: HeaderMap,
    content: Bytes,
) -> Response {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let expected = match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
        (Some(tag), None) => Expected::Tag(tag.to_owned()),
        (None, Some("*")) => Expected::Absent,
        _ => {
            let error = "say If-Match with the ETag of the file, or If-None-Match: * for a new one";
            return page::problem(StatusCode::PRECONDITION_REQUIRED, error);
        }
    };
    editor
        .answer(move |files| {
            let tag = files.save(&path, &content, &expected)?;
            Ok(([(header::ETAG, tag)], StatusCode::OK).into_response())
        })
        .await
}

async fn remove(State(editor): State<Editor>, Query(Target { path }): Query<Target>) -> Response {
    editor
        .answer(move |files| files.remove(&path).map(done))
        .await
}

async fn rename(
    State(editor): State<Editor>,
    Query(Rename { path, to }): Query<Rename>,
) -> Response {
    editor
        .answer(move |files| files.rename(&path, &to).map(done))
        .await
}

async fn make_folder(
    State(editor): State<Editor>,
    Query(Target { path }): Query<Target>,
) -> Response {
    editor
        .answer(move |files| files.make_folder(&path).map(done))
        .await
}

fn done(_: ()) -> Response {
    StatusCode::NO_CONTENT.into_response()
}

impl Editor {
    /// Does file work off the runtime's threads. A client that leaves does not stop a save.
    async fn answer(
        &self,
        work: impl FnOnce(&Files) -> Result<Response, FileError> + Send + 'static,
    ) -> Response {
        let files = self.files.clone();
        match self.drain.spawn_blocking(move || work(&files)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => refusal(&error),
            Err(_) => page::problem(StatusCode::INTERNAL_SERVER_ERROR, "the editor failed"),
        }
    }
}

fn refusal(error: &FileError) -> Response {
    let (status, cause) = match error {
        FileError::Path(PathError::Unfit(_)) => (StatusCode::BAD_REQUEST, None),
        FileError::Path(PathError::Outside(_)) => (StatusCode::FORBIDDEN, None),
        FileError::Path(PathError::Io { source, .. }) | FileError::Io { source, .. } => {
            (io_status(source), Some(source))
        }
        FileError::Changed(_) => (StatusCode::PRECONDITION_FAILED, None),
        FileError::Exists(_) => (StatusCode::CONFLICT, None),
        FileError::Binary(_) | FileError::Folder(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, None),
        FileError::Large(_) => (StatusCode::PAYLOAD_TOO_LARGE, None),
    };
    page::problem(
        status,
        &cause.map_or(error.to_string(), |cause| format!("{error}: {cause}")),
    )
}

fn io_status(error: &io::Error) -> StatusCode {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => StatusCode::NOT_FOUND,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            StatusCode::FORBIDDEN
        }
        // A folder moved into itself; a name too long for the file system.
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename => StatusCode::BAD_REQUEST,
        io::ErrorKind::AlreadyExists => StatusCode::CONFLICT,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            StatusCode::INSUFFICIENT_STORAGE
        }
        // Whatever else a file system says.
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
