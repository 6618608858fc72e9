//! chat: a page that talks to a program without a model. It shows what a real agent's service will do here: an answer
//! as server-sent events (`POST api/chat`) and over a websocket (`GET ws`), word by word.

use std::{convert::Infallible, fs, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{
        DefaultBodyLimit, State, WebSocketUpgrade,
        rejection::JsonRejection,
        ws::{CloseFrame, Message, WebSocket, close_code},
    },
    http::StatusCode,
    middleware,
    response::{
        IntoResponse, Json, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::{get, post},
};
use futures_util::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};

use super::{Environment, guard, page, workspace::Workspace};
use crate::shutdown::{Drain, Stage};

/// Between two words: slow enough to be seen as a stream, fast enough to read along.
const WORD: Duration = Duration::from_millis(25);

/// A question is typed by a person.
const LONGEST_MESSAGE: usize = 8 << 10;

/// JSON may write a character of the message as six.
const LARGEST_BODY: usize = 64 << 10;

/// Names of files shown in an answer.
const SHOWN: usize = 12;

#[derive(Clone)]
struct Chat(Arc<Shared>);

struct Shared {
    workspace: Workspace,
    drain: Drain,
}

#[derive(Deserialize)]
struct Question {
    message: String,
}

/// What is sent over the websocket; the event stream has the same as event names and data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Said {
    Token { text: String },
    Done,
    Error { error: &'static str },
}

/// The service's routes, without the public prefix.
pub(super) fn router(environment: &Environment, workspace: Workspace, drain: &Drain) -> Router {
    let index = include_str!("chat/index.html").replace("<!--links-->", &page::links(environment));
    let talk = Router::new()
        .route("/api/chat", post(answer_events))
        .route("/ws", get(answer_socket))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(middleware::from_fn(guard::same_origin));
    Router::new()
        .route("/", page::asset(page::HTML, index))
        .route(
            "/chat.css",
            page::asset(
                page::CSS,
                format!("{}{}", page::LOOK, include_str!("chat/chat.css")),
            ),
        )
        .route(
            "/chat.js",
            page::asset(page::SCRIPT, include_str!("chat/chat.js").to_owned()),
        )
        .merge(talk)
        .with_state(Chat(Arc::new(Shared {
            workspace,
            drain: drain.clone(),
        })))
}

async fn answer_events(
    State(chat): State<Chat>,
    question: Result<Json<Question>, JsonRejection>,
) -> Response {
    let question = match question {
        Ok(Json(question)) => question,
        Err(refused) => return page::problem(refused.status(), &refused.body_text()),
    };
    if let Err(error) = fit(&question.message) {
        return page::problem(StatusCode::BAD_REQUEST, error);
    }
    let drain = chat.0.drain.clone();
    // A stream that the client has left is dropped, and with it its clock. One that is told to stop just ends.
    let events = said(chat.words(&question.message))
        .map(|said| Ok::<_, Infallible>(event(&said)))
        .take_until(async move { drain.reached(Stage::Draining).await });
    Sse::new(events)
        .keep_alive(KeepAlive::default())
        .into_response()
}

fn event(said: &Said) -> Event {
    match said {
        Said::Token { text } => Event::default()
            .event("token")
            .data(serde_json::json!({ "text": text }).to_string()),
        Said::Done => Event::default().event("done").data("{}"),
        Said::Error { error } => Event::default()
            .event("error")
            .data(serde_json::json!({ "error": error }).to_string()),
    }
}

async fn answer_socket(State(chat): State<Chat>, upgrade: WebSocketUpgrade) -> Response {
    let drain = chat.0.drain.clone();
    let upgrade = upgrade
        .max_message_size(LARGEST_BODY)
        .read_buffer_size(4 << 10);
    upgrade.on_upgrade(move |socket| async move {
        // Through the drain, so that the end of the process waits for the goodbye. A failed task closed its socket.
        let _ = drain.spawn("chat", talk(socket, chat)).await;
    })
}

/// One question after the other: each message is answered to its end, the client's leaving ends it at once.
async fn talk(mut socket: WebSocket, chat: Chat) {
    let mut answer = said(Vec::new()).boxed();
    let mut answering = false;
    loop {
        let send = tokio::select! {
            said = answer.next(), if answering => {
                answering = said.as_ref().is_some_and(|said| *said != Said::Done);
                said
            }
            received = socket.recv() => match received {
                Some(Ok(Message::Text(text))) => match read(&text, answering) {
                    Ok(question) => {
                        answer = said(chat.words(&question.message)).boxed();
                        answering = true;
                        None
                    }
                    Err(error) => Some(Said::Error { error }),
                },
                Some(Ok(_)) => None,
                Some(Err(_)) | None => return,
            },
            () = chat.0.drain.reached(Stage::Draining) => {
                let away = CloseFrame { code: close_code::AWAY, reason: "".into() };
                // The client may be gone already.
                let _ = socket.send(Message::Close(Some(away))).await;
                return;
            }
        };
        let Some(said) = send else { continue };
        let text = serde_json::to_string(&said).expect("plain text becomes JSON");
        if socket.send(Message::Text(text.into())).await.is_err() {
            return;
        }
    }
}

fn read(text: &str, answering: bool) -> Result<Question, &'static str> {
    if answering {
        return Err("wait for the end of the answer");
    }
    let question: Question =
        serde_json::from_str(text).map_err(|_| "send {\"message\": \"...\"}")?;
    fit(&question.message)?;
    Ok(question)
}

fn fit(message: &str) -> Result<(), &'static str> {
    match message.trim().len() {
        0 => Err("the message is empty"),
        length if length > LONGEST_MESSAGE => Err("the message is longer than 8 KiB"),
        _ => Ok(()),
    }
}

/// The words at a reader's pace, then the end.
fn said(words: Vec<String>) -> impl Stream<Item = Said> + Send {
    let words = stream::iter(words).then(|text| async move {
        tokio::time::sleep(WORD).await;
        Said::Token { text }
    });
    words.chain(stream::iter([Said::Done]))
}

impl Chat {
    fn words(&self, message: &str) -> Vec<String> {
        let message = message.trim();
        let text = format!(
            "This is a demonstration: no language model is behind it. You wrote: “{message}”\n\n{}\n\nTo talk to a \
             real agent here, set local.services.chat.command in the gateway's configuration to a program that listens \
             on $PORT.",
            self.files()
        );
        text.split_inclusive([' ', '\n'])
            .map(str::to_owned)
            .collect()
    }

    fn files(&self) -> String {
        let Ok(entries) = fs::read_dir(self.0.workspace.root()) else {
            return "I cannot read the workspace.".to_owned();
        };
        let names = entries.flatten().map(|entry| {
            let slash = if entry.path().is_dir() { "/" } else { "" };
            format!("{}{slash}", entry.file_name().to_string_lossy())
        });
        let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
        names.sort();
        match names.len() {
            0 => "Your workspace is empty.".to_owned(),
            count if count > SHOWN => {
                format!(
                    "Your workspace has {count} entries, among them: {}.",
                    names[..SHOWN].join(", ")
                )
            }
            _ => format!("Your workspace has: {}.", names.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shutdown::Ending;

    #[tokio::test(start_paused = true)]
    async fn an_answer_says_what_it_is_word_by_word_and_then_that_it_is_done() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("index.html"), "").unwrap();
        fs::write(folder.path().join(".hidden"), "").unwrap();
        let workspace = Workspace::open(folder.path()).unwrap();
        let drain = Ending::new().drain(tokio::runtime::Handle::current());
        let chat = Chat(Arc::new(Shared { workspace, drain }));
        let start = tokio::time::Instant::now();
        let said: Vec<_> = said(chat.words(" hello ")).collect().await;
        let (last, words) = said.split_last().unwrap();
        assert_eq!(*last, Said::Done);
        assert_eq!(start.elapsed(), WORD * u32::try_from(words.len()).unwrap());
        let text: String = words
            .iter()
            .map(|said| match said {
                Said::Token { text } => text.as_str(),
                other => panic!("{other:?} before the end"),
            })
            .collect();
        for part in [
            "no language model",
            "“hello”",
            "index.html.",
            "local.services.chat.command",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains(".hidden"));
    }
}
