//! The session's own page: where it and its services stand, what they said last, and what can be done.

use askama::Template;

use super::{Frame, LARGEST, LIVE, OF_SESSION, ROOM, STYLE, page, script, tail};
use crate::session::{Because, Phase, Reason, SessionId};

/// The last lines of a service that are shown: there may be many services.
const LINES: usize = 5;
/// The bytes that are around them.
const AROUND: usize = 120;

/// A service on the session's own page.
#[derive(Debug, Clone)]
pub struct ServiceView<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its path below the session, with the slash before it.
    pub path: &'a str,
    /// Where it stands.
    pub phase: Phase,
    /// The last lines it wrote, if it has written any.
    pub said: String,
}

/// The session's own page, and what it tells.
#[derive(Debug, Clone)]
pub struct SessionView<'a> {
    /// Which session.
    pub id: SessionId,
    /// In one word, where it stands.
    pub state: &'a str,
    /// Its services.
    pub services: &'a [ServiceView<'a>],
    /// When it was last used, as a person reads it.
    pub used: Option<String>,
    /// Why it will be stopped by itself, and in how many seconds.
    pub stop: Option<(Because, u64)>,
    /// Why what ran it is gone, if that is known.
    pub lost: Option<&'a Reason>,
    /// Whether all services write to one output, which is told of the first.
    pub has_one_output: bool,
}

/// What somebody said last.
struct Said {
    who: String,
    lines: String,
}

impl SessionView<'_> {
    /// Whether it will be stopped for this reason.
    fn ends(&self, because: Because) -> bool {
        self.stop.is_some_and(|(why, _)| why == because)
    }

    fn left(&self) -> u64 {
        self.stop.map(|(_, left)| left).unwrap_or_default()
    }
}

#[derive(Template)]
#[template(path = "session.html", config = ".askama.toml")]
struct Session<'a> {
    frame: Frame<'a>,
    style: &'static str,
    view: SessionView<'a>,
    failed: bool,
    refresh: u32,
    said: Vec<Said>,
    live: String,
}

/// The session's own page.
#[must_use]
pub fn session(frame: Frame<'_>, view: SessionView<'_>) -> String {
    // While something changes it is worth looking often.
    let refresh = if matches!(view.state, "starting" | "stopping") || view.stop.is_some() {
        1
    } else {
        10
    };
    let failed = view
        .services
        .iter()
        .any(|service| matches!(service.phase, Phase::Failed(_)));
    let mut shown = Session {
        frame,
        style: STYLE,
        view,
        failed,
        refresh,
        said: vec![],
        live: script(&[LIVE, OF_SESSION]),
    };
    // Whatever there is room for, with as much for each.
    let room = LARGEST.saturating_sub(page(&shown).len() + 1).min(ROOM);
    shown.said = said(&shown.view, room);
    page(&shown)
}

fn said(view: &SessionView<'_>, room: usize) -> Vec<Said> {
    // What is gone says nothing more.
    if let Some(words) = view.lost.and_then(Reason::detail) {
        return vec![Said {
            who: "The cluster".to_owned(),
            lines: tail(words, LINES, room.saturating_sub(AROUND)),
        }];
    }
    let speak = view.services.iter().filter(|one| !one.said.is_empty());
    let each = room / speak.clone().count().max(1);
    let said = speak.map(|service| Said {
        who: if view.has_one_output {
            "The session".to_owned()
        } else {
            service.name.to_owned()
        },
        lines: tail(&service.said, LINES, each.saturating_sub(AROUND)),
    });
    said.filter(|said| !said.lines.is_empty()).collect()
}
