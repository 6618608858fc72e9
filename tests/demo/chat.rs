//! Answers word by word.

use http::Method;
use http_body_util::BodyExt;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::service::{LONG, Service, next};

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
