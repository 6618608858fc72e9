//! `sessions watch`: what changes, as it changes.

use std::ops::ControlFlow;

use anyhow::anyhow;
use serde_json::Value;

use super::{Output, api::Api, table};
use crate::{
    cli::{Failure, print},
    session::SessionId,
    settings::yaml,
};

/// The text of events, as far as it has come.
#[derive(Default)]
struct Events(Vec<u8>);

/// Prints all sessions, or one, and then each that changes. It does not end by itself.
pub(super) async fn run(api: &Api, only: Option<SessionId>, output: Output) -> Result<(), Failure> {
    let only = only.map(|id| id.to_string());
    let mut printed = Ok(());
    if output == Output::Table {
        print(&table::watched(None)?)?;
    }
    let mut events = Events::default();
    let mut each = |piece: &[u8]| {
        printed = events.take(piece).into_iter().try_for_each(|(name, data)| {
            let is_meant = only.as_ref().is_none_or(|only| data["id"] == **only);
            match text(&name, data, output).filter(|_| is_meant) {
                Some(text) => print(&text?),
                None => Ok(()),
            }
        });
        match printed {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    };
    Box::pin(api.follow("api/events", &mut each)).await?;
    printed?;
    Err(Failure::Unreachable(anyhow!(
        "the gateway has ended, or broken off"
    )))
}

/// What is printed of an event, if anything is.
fn text(name: &str, data: Value, output: Output) -> Option<anyhow::Result<String>> {
    let document = match name {
        "session" => data,
        // Of what is gone no more is known.
        "gone" => serde_json::json!({ "id": data["id"], "state": "absent" }),
        _ => return None,
    };
    Some(match output {
        Output::Json => Ok(format!("{document}\n")),
        Output::Yaml => Ok(format!("---\n{}", yaml::text(&document))),
        Output::Table => serde_json::from_value(document)
            .map_err(anyhow::Error::new)
            .and_then(|session| table::watched(Some(&session))),
    })
}

impl Events {
    /// Takes in a piece, and gives the events that are whole: their names and what they tell.
    fn take(&mut self, piece: &[u8]) -> Vec<(String, Value)> {
        self.0.extend_from_slice(piece);
        let mut events = Vec::new();
        while let Some(end) = self.0.windows(2).position(|two| two == b"\n\n") {
            let event: Vec<u8> = self.0.drain(..end + 2).collect();
            let event = String::from_utf8_lossy(&event);
            let field = |name: &str| {
                let mut lines = event.lines();
                lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            };
            if let (Some(name), Some(data)) = (field("event"), field("data"))
                && let Ok(data) = serde_json::from_str(data)
            {
                events.push((name.to_owned(), data));
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_they_are_cut() {
        let text =
            "event: session\ndata: {\"id\":\"a\"}\n\n:\n\nevent: gone\ndata: {\"id\":\"b\"}\n\n";
        for size in 1..text.len() {
            let mut events = Events::default();
            let taken = text.as_bytes().chunks(size);
            let taken: Vec<_> = taken.flat_map(|piece| events.take(piece)).collect();
            let expected = [("session", "a"), ("gone", "b")]
                .map(|(name, id)| (name.to_owned(), serde_json::json!({ "id": id })));
            assert_eq!(taken, expected, "in pieces of {size}");
        }
    }
}
