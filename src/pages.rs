//! What people see: one template a page, one style sheet, one script.
//!
//! Pure functions from what a session is to a document below 10 KiB that asks for nothing of others: style sheet and
//! script are inside. Pages that wait listen to the session's events, and ask where those do not come; without the
//! script they refresh themselves. So they cannot be stuck, and work wherever a browser does.

mod own;
mod start;

use std::time::Duration;

use askama::Template;
use tokio::time::Instant;

pub use own::{ServiceView, SessionView, session};

use crate::session::{Failure, Found, Limit, Phase, Reason, SessionId, Stage};
use start::StartView;

/// The one style sheet.
const STYLE: &str = include_str!("pages/style.css");
/// The script of all pages that have one, and what those add to it that show a start, that stand in for a service, and
/// the session's own.
const LIVE: &str = include_str!("pages/live.js");
const OF_START: &str = include_str!("pages/live/start.js");
const OF_SERVICE: &str = include_str!("pages/live/service.js");
const OF_SESSION: &str = include_str!("pages/live/session.js");
/// The script of those that have nothing to follow.
const LATER: &str = include_str!("pages/live/again.js");
/// The last lines of a service's output that a page shows.
const LINES: usize = 40;
/// The bytes of a page that they may take, of the 10 KiB that it has with its style sheet.
const ROOM: usize = 2 * 1024;
/// The bytes of a whole page: it must come at once on any line.
const LARGEST: usize = 10 * 1024;
/// The most of such a line, in characters: what a cluster says is one long line, and its cause is at the end.
const WIDTH: usize = 400;

/// How often, in seconds, a page looks again that has nothing else to wait for.
const AGAIN: u64 = 5;

/// What every page has around it.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Allows the page's own style under its content security policy.
    pub nonce: &'a str,
    /// By which the log line of this answer is found.
    pub request_id: &'a str,
}

#[derive(Template)]
#[template(path = "waiting.html", config = ".askama.toml")]
struct Waiting<'a> {
    frame: Frame<'a>,
    style: &'static str,
    id: SessionId,
    service: &'a str,
    state: &'a str,
    start: StartView,
    now: &'static str,
    live: Option<String>,
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
    again: Option<u64>,
    live: Option<String>,
}

#[derive(Template)]
#[template(path = "limited.html", config = ".askama.toml")]
struct Limited<'a> {
    frame: Frame<'a>,
    style: &'static str,
    id: SessionId,
    service: &'a str,
    limit: Limit,
    retry: u64,
    form: bool,
    live: String,
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
    live: Option<String>,
}

#[derive(Template)]
#[template(path = "refused.html", config = ".askama.toml")]
struct Refused<'a> {
    frame: Frame<'a>,
    style: &'static str,
    state: &'a str,
    title: &'a str,
    sentence: &'a str,
    again: Option<u64>,
    live: String,
}

/// The page of a session, or a service of it, that is starting or being stopped. `stages` is what a start waits for, in
/// order; `form`: it is the answer to a form, and asks again every second, as all do without their script.
#[must_use]
pub fn waiting(
    frame: Frame<'_>,
    (id, service): (SessionId, &str),
    phase: &Phase,
    stages: &[Stage],
    form: bool,
) -> String {
    let mut page = Waiting {
        frame,
        style: STYLE,
        id,
        service,
        state: phase.name(),
        start: StartView::default(),
        now: "",
        live: of_service(form),
    };
    if let Phase::Starting {
        stage: at,
        since,
        position,
        course,
    } = phase
    {
        page.now = at.label();
        page.start = StartView::under_way(stages, (*at, *since), course.as_deref(), *position);
    }
    self::page(&page)
}

/// The page of a session, or a service of it, that failed: why, what it said last, and a button to try again. It looks
/// again by itself if the failure may pass; `form`: it is the answer to a form, and does not.
#[must_use]
pub fn failed(
    frame: Frame<'_>,
    id: SessionId,
    service: &str,
    failure: &Failure,
    form: bool,
) -> String {
    let reason = &*failure.reason;
    let output = reason.detail().unwrap_or_default();
    let output = tail(output, LINES, ROOM);
    let retry_in = failure.retry_at.saturating_duration_since(Instant::now());
    page(&Failed {
        frame,
        style: STYLE,
        id,
        service,
        reason,
        output,
        retry: retry_in.as_secs(),
        again: (failure.passes && !form).then_some(AGAIN),
        live: of_service(form),
    })
}

/// The page of a session that a limit keeps from being started: which one, and what would help. It asks again when that
/// may help; `form`: it is the answer to a form, and asks for the session's own page instead.
#[must_use]
pub fn limited(
    frame: Frame<'_>,
    (id, service): (SessionId, &str),
    limit: Limit,
    retry_in: Duration,
    form: bool,
) -> String {
    page(&Limited {
        frame,
        style: STYLE,
        id,
        service,
        limit,
        // Not before: a reload of this very moment would find the same.
        retry: retry_in.as_secs() + 1,
        form,
        live: script(&[LATER]),
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
        live: of_service(form),
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
        again: None,
        live: String::new(),
    })
}

/// The page of any other request that gets no answer of its service. `passes`: it looks again by itself.
#[must_use]
pub fn refused(
    frame: Frame<'_>,
    code: &str,
    (title, sentence): (&str, &str),
    passes: bool,
) -> String {
    page(&Refused {
        frame,
        style: STYLE,
        state: code,
        title,
        sentence,
        again: passes.then_some(AGAIN),
        live: script(&[LATER]),
    })
}

/// The script of a page that stands in for a service. None on the answer to a form, of which it is not known whether
/// what is at its address is worth seeing.
fn of_service(form: bool) -> Option<String> {
    (!form).then(|| script(&[LIVE, OF_START, OF_SERVICE]))
}

/// A script of these parts, without what is for its readers alone.
fn script(parts: &[&str]) -> String {
    let lines = parts.iter().flat_map(|part| part.lines());
    let lines = lines.map(str::trim_start);
    let lines: Vec<_> = lines
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .collect();
    lines.join("\n")
}

fn page(template: &impl Template) -> String {
    template
        .render()
        .expect("a template of this program renders to memory")
}

/// The last lines of a program's output, without what a terminal would obey, and no more than there is room for once
/// they are escaped.
fn tail(output: &str, most: usize, mut room: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in output.lines().rev().take(most) {
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
    use std::sync::Arc;

    use super::*;
    use crate::session::{Because, ExitStatus};

    const STAGES: [Stage; 4] = [Stage::Queue, Stage::Disk, Stage::Process, Stage::Port];
    pub(super) const FRAME: Frame<'static> = Frame {
        nonce: "NONCE",
        request_id: "REQUEST",
    };

    fn after(reason: Reason) -> Failure {
        Failure {
            reason: Arc::new(reason),
            retry_at: Instant::now() + Duration::from_secs(5),
            attempts: 1,
            passes: true,
        }
    }

    #[test]
    fn what_a_service_wrote_cannot_become_part_of_the_page() {
        let hostile = "</pre><script>alert(1)</script>\u{1b}[31mred\u{7}\n".repeat(200);
        let reason = Reason::Exited {
            status: ExitStatus::Code(3),
            output: hostile.as_str().into(),
        };
        let page = failed(FRAME, SessionId::random(), "preview", &after(reason), false);
        assert!(
            !page.contains("<script>")
                && page.matches("<script").count() == 1
                && !page.contains('\u{1b}')
                && !page.contains('\u{7}'),
            "{page}"
        );
        assert!(
            page.contains("[31mred") && page.contains("exit code 3"),
            "{page}"
        );
        assert!(page.len() < LARGEST, "{} bytes: {page}", page.len());
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
            let page = failed(FRAME, id, "preview", &after(reason), false);
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
            position: None,
            course: None,
        };
        let view = ServiceView {
            name: "a-service-with-a-long-name",
            path: "/a/long/path",
            phase: starting.clone(),
            said: "&".repeat(WIDTH).replace("", "\"\n"),
        };
        let services = vec![view; crate::session::Services::MAX];
        let used = Some("2026-11-25 22:04 UTC".to_owned());
        let error = "Evicted: & ".repeat(2000).into();
        let evicted = Reason::Evicted { error };
        let pages = [
            waiting(FRAME, (id, "preview"), &starting, &STAGES, false),
            waiting(FRAME, (id, "preview"), &Phase::Ending, &STAGES, false),
            stopped(FRAME, id, "preview", Found::Stopped, true),
            limited(
                FRAME,
                (id, "preview"),
                Limit::Sessions { most: 1 },
                Duration::ZERO,
                true,
            ),
            session(
                FRAME,
                SessionView {
                    id,
                    state: "starting",
                    services: &services,
                    used,
                    stop: Some((Because::MaxAge, 59)),
                    lost: Some(&evicted),
                    failure: None,
                    start: None,
                    stages: &STAGES,
                    has_one_output: false,
                },
            ),
            not_found(FRAME),
            refused(FRAME, "cross_site", ("A title", "A sentence."), true),
        ];
        for page in pages {
            check(&page);
        }
    }

    pub(super) fn check(page: &str) {
        assert!(page.len() < LARGEST, "{} bytes: {page}", page.len());
        // One more in what is shown in place of the rest, one day.
        let hidden = page.matches(r#"data-off="show" hidden"#).count();
        assert_eq!(page.matches("<h1").count(), 1 + hidden, "{page}");
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
            !page.contains("http://") && !page.contains("https://") && !page.contains(" style="),
            "{page}"
        );
    }
}
