//! What people see: one template a page, one style sheet, no script.
//!
//! Pure functions from what a session is to a document below 10 KiB that asks for nothing else: the style sheet is
//! inside. Pages that wait refresh themselves, so they cannot be stuck, and work wherever a browser does.

use std::time::Duration;

use askama::Template;

use crate::session::{Found, Phase, Reason, SessionId, Stage};

/// The one style sheet.
const STYLE: &str = include_str!("pages/style.css");
/// The last lines of a service's output that a page shows.
const LINES: usize = 40;
/// The bytes of a page that they may take, of the 10 KiB that it has with its style sheet.
const ROOM: usize = 5 * 1024;
/// The most of such a line, in characters.
const WIDTH: usize = 160;

/// What every page has around it.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Allows the page's own style under its content security policy.
    pub nonce: &'a str,
    /// By which the log line of this answer is found.
    pub request_id: &'a str,
}

/// A service on the session's own page.
#[derive(Debug, Clone)]
pub struct ServiceView<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its path below the session, with the slash before it.
    pub path: &'a str,
    /// Where it stands.
    pub phase: Phase,
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
}

#[derive(Template)]
#[template(path = "waiting.html", config = ".askama.toml")]
struct Waiting<'a> {
    frame: Frame<'a>,
    style: &'static str,
    id: SessionId,
    service: &'a str,
    state: &'a str,
    stages: Vec<(&'static str, &'static str)>,
    elapsed: u64,
}

#[derive(Template)]
#[template(path = "failed.html", config = ".askama.toml")]
struct Failed<'a> {
    frame: Frame<'a>,
    style: &'static str,
    id: SessionId,
    service: &'a str,
    reason: &'a Reason,
    output: String,
    retry: u64,
}

#[derive(Template)]
#[template(path = "stopped.html", config = ".askama.toml")]
struct Stopped<'a> {
    frame: Frame<'a>,
    style: &'static str,
    id: SessionId,
    service: &'a str,
    found: Found,
    state: &'a str,
    form: bool,
}

#[derive(Template)]
#[template(path = "session.html", config = ".askama.toml")]
struct Session<'a> {
    frame: Frame<'a>,
    style: &'static str,
    view: SessionView<'a>,
    failed: bool,
    refresh: u32,
}

#[derive(Template)]
#[template(path = "refused.html", config = ".askama.toml")]
struct Refused<'a> {
    frame: Frame<'a>,
    style: &'static str,
    state: &'a str,
    title: &'a str,
    sentence: &'a str,
}

/// The page of a session, or a service of it, that is starting or being stopped. It asks again every second. `stages`
/// is what a start waits for, in order.
#[must_use]
pub fn waiting(
    frame: Frame<'_>,
    id: SessionId,
    service: &str,
    phase: &Phase,
    stages: &[Stage],
) -> String {
    let (at, elapsed) = match phase {
        Phase::Starting { stage, since } => (Some(*stage), since.elapsed().as_secs()),
        Phase::Idle(_) | Phase::Failed(_) | Phase::Ending | Phase::Running => (None, 0),
    };
    let place = |stage: Stage| match at {
        Some(at) if stage < at => "done",
        Some(at) if stage == at => "now",
        _ => "later",
    };
    let stages = if at.is_some() {
        stages
            .iter()
            .map(|stage| (stage.label(), place(*stage)))
            .collect()
    } else {
        vec![]
    };
    let state = phase.name();
    page(&Waiting {
        frame,
        style: STYLE,
        id,
        service,
        state,
        stages,
        elapsed,
    })
}

/// The page of a session, or a service of it, that failed: why, what it said last, and a button to try again.
#[must_use]
pub fn failed(
    frame: Frame<'_>,
    id: SessionId,
    service: &str,
    reason: &Reason,
    retry_in: Duration,
) -> String {
    let output = reason.detail().map(tail).unwrap_or_default();
    page(&Failed {
        frame,
        style: STYLE,
        id,
        service,
        reason,
        output,
        retry: retry_in.as_secs(),
    })
}

/// The page of a session that this request does not start. `form`: it was a form, which was not sent on.
#[must_use]
pub fn stopped(frame: Frame<'_>, id: SessionId, service: &str, found: Found, form: bool) -> String {
    let state = Phase::Idle(found).name();
    page(&Stopped {
        frame,
        style: STYLE,
        id,
        service,
        found,
        state,
        form,
    })
}

/// The session's own page.
#[must_use]
pub fn session(frame: Frame<'_>, view: SessionView<'_>) -> String {
    // While something changes it is worth looking often.
    let refresh = if matches!(view.state, "starting" | "stopping") {
        1
    } else {
        10
    };
    let failed = view
        .services
        .iter()
        .any(|service| matches!(service.phase, Phase::Failed(_)));
    page(&Session {
        frame,
        style: STYLE,
        view,
        failed,
        refresh,
    })
}

/// The page of an address that leads nowhere.
#[must_use]
pub fn not_found(frame: Frame<'_>) -> String {
    let sentence = "An address here is /<uuid>/ for a session, or /<uuid>/preview/, /chat/ or /vscode/ for one of its \
                    services, with the uuid in lower case. Check the link, or open the session from where you got it.";
    page(&Refused {
        frame,
        style: STYLE,
        state: "not_found",
        title: "There is nothing at this address",
        sentence,
    })
}

/// The page of any other request that gets no answer of its service.
#[must_use]
pub fn refused(frame: Frame<'_>, code: &str, title: &str, sentence: &str) -> String {
    page(&Refused {
        frame,
        style: STYLE,
        state: code,
        title,
        sentence,
    })
}

fn page(template: &impl Template) -> String {
    template
        .render()
        .expect("a template of this program renders to memory")
}

/// The last lines of a program's output, without what a terminal would obey, and no more than a page can hold once
/// they are escaped.
fn tail(output: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut room = ROOM;
    for line in output.lines().rev().take(LINES) {
        let shown = line
            .chars()
            .filter(|char| !char.is_control() || *char == '\t');
        let shown: String = shown.take(WIDTH).collect();
        let size = shown.chars().map(escaped).sum::<usize>() + 1;
        let Some(left) = room.checked_sub(size) else {
            break;
        };
        room = left;
        lines.push(shown);
    }
    lines.reverse();
    lines.join("\n")
}

/// The bytes that a character takes in a page.
fn escaped(char: char) -> usize {
    match char {
        '<' | '>' | '&' | '"' | '\'' => "&#38;".len(),
        other => other.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::session::ExitStatus;

    const STAGES: [Stage; 4] = [Stage::Queue, Stage::Disk, Stage::Process, Stage::Port];
    const FRAME: Frame<'static> = Frame {
        nonce: "NONCE",
        request_id: "REQUEST",
    };
    /// A page must come at once on any line.
    const LARGEST: usize = 10 * 1024;

    #[test]
    fn what_a_service_wrote_cannot_become_part_of_the_page() {
        let hostile = "</pre><script>alert(1)</script>\u{1b}[31mred\u{7}\n".repeat(200);
        let reason = Reason::Exited {
            status: ExitStatus::Code(3),
            output: hostile.as_str().into(),
        };
        let page = failed(
            FRAME,
            SessionId::random(),
            "preview",
            &reason,
            Duration::from_secs(5),
        );
        assert!(
            !page.contains("<script") && !page.contains('\u{1b}') && !page.contains('\u{7}'),
            "{page}"
        );
        assert!(
            page.contains("[31mred") && page.contains("exit code 3"),
            "{page}"
        );
        assert!(page.len() < LARGEST, "{} bytes", page.len());
    }

    #[test]
    fn a_page_stays_small_whatever_a_service_wrote() {
        for char in ['"', '&', '\u{1f980}', 'x'] {
            let line = char.to_string().repeat(WIDTH * 2);
            let output = format!("{line}\n").repeat(LINES * 2) + "the last word";
            let reason = Reason::Exited {
                status: ExitStatus::Code(1),
                output: output.into(),
            };
            let id = SessionId::random();
            let page = failed(FRAME, id, "preview", &reason, Duration::from_secs(5));
            assert!(page.len() < LARGEST, "{} bytes of {char}", page.len());
            assert!(page.contains("the last word"), "{page}");
        }
    }

    #[test]
    fn every_page_is_small_and_complete() {
        let id = SessionId::random();
        let starting = Phase::Starting {
            stage: Stage::Process,
            since: Instant::now(),
        };
        let view = ServiceView {
            name: "a-service-with-a-long-name",
            path: "/a/long/path",
            phase: starting.clone(),
        };
        let services = vec![view; crate::session::Services::MAX];
        let used = Some("2026-11-25 22:04 UTC".to_owned());
        let pages = [
            waiting(FRAME, id, "preview", &starting, &STAGES),
            waiting(FRAME, id, "preview", &Phase::Ending, &STAGES),
            stopped(FRAME, id, "preview", Found::Stopped, true),
            session(
                FRAME,
                SessionView {
                    id,
                    state: "starting",
                    services: &services,
                    used,
                },
            ),
            not_found(FRAME),
            refused(FRAME, "cross_site", "A title", "A sentence."),
        ];
        for page in pages {
            assert!(page.len() < LARGEST, "{} bytes", page.len());
            assert_eq!(page.matches("<h1").count(), 1, "{page}");
            for part in [
                "<!doctype html>",
                "lang=\"en\"",
                "nonce=\"NONCE\"",
                "REQUEST",
                "data-state=\"",
            ] {
                assert!(page.contains(part), "{part} is missing in {page}");
            }
            assert!(
                !page.contains("http://")
                    && !page.contains("https://")
                    && !page.contains(" style="),
                "{page}"
            );
        }
    }
}
