//! The session's own page: where it and its services stand, how its last start went, what was said last, and what can
//! be done.

use askama::Template;

use super::{
    Frame, LARGEST, LIVE, OF_SESSION, OF_START, ROOM, STYLE, page, script, start::StartView, tail,
};
use crate::session::{Because, Course, Phase, Reason, SessionId, Stage, clock};

/// The last lines of a service that are shown: there may be many services.
const LINES: usize = 5;
/// The bytes that are around them.
const AROUND: usize = 120;
/// Above what a cluster said.
const CLUSTER: &str = "The cluster said last";

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
    /// Why nothing of it runs, if something keeps it from that.
    pub failure: Option<&'a Reason>,
    /// How its start goes, or how the last one went, if one was seen.
    pub start: Option<&'a Course>,
    /// What a start waits for, in order.
    pub stages: &'a [Stage],
    /// Whether all services write to one output, which is told of the first.
    pub has_one_output: bool,
}

/// What was said last.
struct Said {
    title: String,
    lines: String,
}

impl<'a> SessionView<'a> {
    /// Whether it will be stopped for this reason.
    fn ends(&self, because: Because) -> bool {
        self.stop.is_some_and(|(why, _)| why == because)
    }

    /// The time until it is stopped: whole minutes, but for the last two.
    fn left(&self) -> String {
        let left = self.stop.map(|(_, left)| left).unwrap_or_default();
        if left < 120 {
            format!("{left} s")
        } else {
            format!("{} min", left / 60)
        }
    }

    /// What kept its start for a while. What keeps it now is said of each service.
    fn kept(&self) -> Option<&'a Reason> {
        let over = self.start.filter(|course| course.ended().is_some())?;
        let is_told = self.failure.is_some() || self.lost.is_some();
        over.hindrance().filter(|_| !is_told)
    }

    /// The start as it is shown, and whether it goes on.
    fn start(&self) -> (Option<StartView>, bool) {
        let mut phases = self.services.iter().map(|service| &service.phase);
        let position = phases.find_map(|phase| match phase {
            Phase::Starting { position, .. } => Some(*position),
            Phase::Idle(_) | Phase::Failed(_) | Phase::Ending | Phase::Running => None,
        });
        let goes_on = position.is_some();
        match self.start.map(|course| (course, course.ended())) {
            Some((course, Some(is_well))) => (Some(StartView::past(course, is_well)), false),
            Some((course, None)) => {
                let at = (course.stage(), course.since());
                let position = position.flatten();
                let mut start = StartView::under_way(self.stages, at, Some(course), position);
                if !goes_on {
                    start.fail();
                }
                (Some(start), goes_on)
            }
            None => (None, false),
        }
    }
}

#[derive(Template)]
#[template(path = "session.html", config = ".askama.toml")]
struct Session<'a> {
    frame: Frame<'a>,
    style: &'static str,
    view: SessionView<'a>,
    failed: bool,
    start: Option<StartView>,
    /// When that was.
    begun: String,
    /// Whether it goes on.
    starts: bool,
    kept: Option<&'a Reason>,
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
    let (start, starts) = view.start();
    let live: &[_] = if starts {
        &[LIVE, OF_START, OF_SESSION]
    } else {
        &[LIVE, OF_SESSION]
    };
    let mut shown = Session {
        frame,
        style: STYLE,
        failed,
        starts,
        start,
        begun: view.start.map(begun).unwrap_or_default(),
        kept: view.kept(),
        view,
        refresh,
        said: vec![],
        live: script(live),
    };
    if page(&shown).len() >= LARGEST {
        // There are very many services, with long names.
        (shown.start, shown.starts) = (None, false);
        shown.live = script(&[LIVE, OF_SESSION]);
    }
    // Whatever there is room for, with as much for each.
    let room = LARGEST.saturating_sub(page(&shown).len() + 1).min(ROOM);
    shown.said = said(&shown.view, room);
    page(&shown)
}

/// When it was, and from when on it was seen.
fn begun(start: &Course) -> String {
    let at = clock::at(start.since()).strftime("%Y-%m-%d %H:%M:%S UTC");
    match start.at(Stage::Queue) {
        Some(_) => format!("Begun {at}"),
        None => format!("Seen from here since {at}"),
    }
}

fn said(view: &SessionView<'_>, room: usize) -> Vec<Said> {
    let words = |title: &str, reason: &Reason, room: usize| {
        let lines = tail(reason.detail()?, LINES, room.saturating_sub(AROUND));
        let title = title.to_owned();
        Some(Said { title, lines })
    };
    // What is gone says nothing more.
    if let Some(said) = view.lost.and_then(|lost| words(CLUSTER, lost, room)) {
        return vec![said];
    }
    let speak = view.services.iter().filter(|one| !one.said.is_empty());
    let count = speak.clone().count();
    let failure = view
        .failure
        .filter(|failure| count == 0 || !failure.is_of_a_program());
    // Only a cluster keeps a start for a while.
    let first = match (failure, view.kept()) {
        (Some(failure), _) => Some(("What was said last", failure)),
        (None, kept) => kept.map(|kept| (CLUSTER, kept)),
    };
    let first = first.filter(|(_, reason)| reason.detail().is_some());
    let each = room / (count + usize::from(first.is_some())).max(1);
    let first = first.and_then(|(title, reason)| words(title, reason, each));
    let said = speak.map(|service| Said {
        title: if view.has_one_output {
            "The session said last".to_owned()
        } else {
            format!("{} said last", service.name)
        },
        lines: tail(&service.said, LINES, each.saturating_sub(AROUND)),
    });
    let said = first.into_iter().chain(said);
    said.filter(|said| !said.lines.is_empty()).collect()
}

#[cfg(test)]
mod tests;
