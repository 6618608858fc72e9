//! Those who watch: how many may, what they are told, and how it ends.

use futures_util::future::join_all;
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::time::timeout;

use crate::support::{DEADLINE, Gateway, Service, Way, kept::nothing};

#[tokio::test]
async fn so_many_may_watch_and_all_of_them_end_with_the_gateway() {
    let service = Service::echo().await;
    let gateway = Gateway::with(service.address, &[]);
    let running = gateway.runs().await;
    let admin = gateway.admin;
    let watch = async || {
        let mut kept = Way::Http1.plain(admin).await.unwrap();
        let request = kept.ask("GET", "/api/events").body(nothing()).unwrap();
        let answer = kept.send(request).await.unwrap();
        (answer.status(), answer, kept)
    };
    let mut watching = Vec::new();
    for _ in 0..8 {
        watching.push(watch().await);
    }
    assert!(
        watching
            .iter()
            .all(|(status, ..)| *status == StatusCode::OK)
    );
    let (status, refused, _kept) = watch().await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let refused = refused.into_body().collect().await.unwrap().to_bytes();
    let refused: Value = serde_json::from_slice(&refused).unwrap();
    assert_eq!(refused["code"], "too_many_watchers");
    // Whoever leaves gives the place back.
    drop(watching.pop());
    let next = async {
        loop {
            let (status, answer, kept) = watch().await;
            if status == StatusCode::OK {
                return (status, answer, kept);
            }
        }
    };
    watching.push(timeout(DEADLINE, next).await.expect("a place"));
    let read = watching.into_iter().map(|(_, answer, kept)| async move {
        let mut told = Vec::new();
        let mut body = answer.into_body();
        while let Some(Ok(frame)) = body.frame().await {
            told.extend_from_slice(frame.data_ref().expect("no trailers"));
        }
        drop(kept);
        String::from_utf8(told).unwrap()
    });
    let ended = tokio::task::spawn_blocking(move || gateway.stop());
    let told = timeout(DEADLINE, join_all(read)).await.expect("all end");
    ended.await.unwrap();
    let session = format!("event: session\ndata: {{\"id\":\"{running}\",\"state\":\"running\"");
    let counts = "event: counts\ndata: {\"states\":{\"running\":1},\"queued\":0}\n\n";
    for told in told {
        assert!(
            told.starts_with(&session) && told.contains(counts),
            "{told}"
        );
    }
}
