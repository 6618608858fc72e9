//! What a session's own page shows, and that it has room for it.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::*;
use crate::{
    pages::{
        WIDTH,
        tests::{FRAME, check},
    },
    session::{Failure, Services},
};

/// Of a session in a cluster.
const STAGES: [Stage; 7] = [
    Stage::Queue,
    Stage::Former,
    Stage::Namespace,
    Stage::Disk,
    Stage::Schedule,
    Stage::Pull,
    Stage::Port,
];

fn view<'a>(state: &'a str, services: &'a [ServiceView<'a>]) -> SessionView<'a> {
    SessionView {
        id: SessionId::random(),
        state,
        services,
        used: None,
        stop: None,
        lost: None,
        failure: None,
        start: None,
        stages: &STAGES,
        has_one_output: false,
    }
}

fn service(phase: Phase, said: &str) -> ServiceView<'static> {
    ServiceView {
        name: "chat",
        path: "/chat",
        phase,
        said: said.to_owned(),
    }
}

fn starting(course: &Course) -> Phase {
    Phase::Starting {
        stage: course.stage(),
        since: course.since(),
        position: None,
        course: Some(Arc::new(course.clone())),
    }
}

fn stuck() -> Reason {
    let error = "0/3 nodes are available: <b>Insufficient cpu</b>".into();
    Reason::Unschedulable { error }
}

/// A start that was begun a minute ago, and has come to this stage after a second for each before.
fn course(stages: &[Stage]) -> Course {
    let begun = Instant::now() - Duration::from_secs(60);
    let mut course = Course::begin(stages[0], begun);
    for (after, stage) in (1..).zip(&stages[1..]) {
        course.reach(*stage, begun + Duration::from_secs(after));
    }
    course
}

fn after(course: &Course, seconds: u64) -> Instant {
    course.since() + Duration::from_secs(seconds)
}

#[test]
fn a_session_shows_the_last_lines_of_its_services_as_far_as_there_is_room() {
    let said = |said: &str| service(Phase::Running, said);
    let show = |services: &[ServiceView<'_>], has_one_output| {
        let view = view("running", services);
        let view = SessionView {
            has_one_output,
            ..view
        };
        session(FRAME, view)
    };
    let lines = "1\n2\n3\n4\n5\n<b>6\u{1b}[2J";
    let page = show(&[said(""), said(lines)], false);
    check(&page);
    assert!(page.contains("2\n3\n4\n5\n&#60;b&#62;6[2J</pre>"), "{page}");
    assert_eq!(page.matches("chat said last").count(), 1, "{page}");
    assert!(show(&[said(lines)], true).contains("The session said last"));
    let long = format!("{}\n", "&".repeat(WIDTH)).repeat(9) + "the last word";
    for count in 1..=Services::MAX {
        let page = show(&vec![said(&long); count], false);
        check(&page);
        assert!(
            count > 4 || page.matches("the last word").count() == count,
            "{page}"
        );
    }
}

#[test]
fn a_start_that_goes_on_is_shown_with_what_is_to_come() {
    let course = course(&STAGES[..4]);
    let services = [service(starting(&course), "")];
    let mut view = view("starting", &services);
    view.start = Some(&course);
    let page = session(FRAME, view.clone());
    check(&page);
    for part in [
        "<h2>Last start</h2>",
        "Begun 20",
        "<span data-elapsed>60 s</span><span data-goes> so far",
        r#"<li class="done" data-stage="namespace">Making the session's place"#,
        r#"<li class="now" data-stage="disk" aria-current="step">"#,
        r#"<li class="later" data-stage="pull">"#,
        r#" data-starts="yes">"#,
        "const course =",
    ] {
        let part = part.replace('\'', "&#39;");
        assert!(page.contains(&part), "{part} is missing in {page}");
    }
    // Nothing of it goes on.
    let failed = [service(Phase::Idle(crate::session::Found::Vanished), "")];
    view.services = &failed;
    let page = session(FRAME, view);
    assert!(
        page.contains(r#"<li class="failed" data-stage="disk">"#),
        "{page}"
    );
    assert!(page.contains("; not every service has answered."), "{page}");
    assert!(
        !page.contains("data-starts=") && !page.contains("aria-current"),
        "{page}"
    );
}

#[test]
fn the_last_start_is_shown_as_far_as_it_was_seen() {
    let mut whole = course(&STAGES);
    whole.hinder(Arc::new(stuck()));
    whole.end(true, after(&whole, 8));
    let services = [service(Phase::Running, "")];
    let mut view = view("running", &services);
    view.start = Some(&whole);
    let page = session(FRAME, view.clone());
    check(&page);
    for part in [
        "<h2>Last start</h2>",
        "Begun 20",
        "every service answered after 8.0 s",
        "What kept it for a while: no machine has room for the session at present.",
        r#"<li class="done">Finding a machine with room <small>1.0 s</small></li>"#,
        r#"<li class="done">Waiting for the service to answer <small>2.0 s</small></li>"#,
        "<h2>The cluster said last</h2>",
        "0/3 nodes are available: &#60;b&#62;Insufficient cpu",
    ] {
        assert!(page.contains(part), "{part} is missing in {page}");
    }
    // Another replica has begun it, and it broke off.
    let mut part = course(&STAGES[4..6]);
    part.end(false, after(&part, 60));
    view.start = Some(&part);
    let page = session(FRAME, view.clone());
    check(&page);
    for part in [
        "Seen from here since 20",
        "over after 60 s, before every service answered",
        r#"<li class="failed">Fetching the image"#,
    ] {
        assert!(page.contains(part), "{part} is missing in {page}");
    }
    assert_eq!(page.matches("<li ").count(), 2, "{page}");
    // And where none was seen, none is made up.
    view.start = None;
    let page = session(FRAME, view);
    assert!(
        !page.contains("Last start") && !page.contains("<li "),
        "{page}"
    );
}

#[test]
fn what_was_said_of_a_failure_is_shown_once() {
    let failure = |reason: &Reason| {
        Phase::Failed(Failure {
            reason: Arc::new(reason.clone()),
            retry_at: Instant::now(),
            attempts: 1,
            passes: true,
        })
    };
    let show = |reason: &Reason, said: &str| {
        let services = [service(failure(reason), said)];
        let mut view = view("failed", &services);
        view.failure = Some(reason);
        let page = session(FRAME, view);
        check(&page);
        page
    };
    let page = show(&stuck(), "");
    assert!(
        page.contains("What was said last") && page.contains("Insufficient cpu"),
        "{page}"
    );
    let exited = Reason::Exited {
        status: crate::session::ExitStatus::Code(1),
        output: "its last word".into(),
    };
    for said in ["", "its last word"] {
        let page = show(&exited, said);
        assert_eq!(page.matches("its last word").count(), 1, "{page}");
    }
}

#[test]
fn the_largest_page_has_room_for_its_start_and_for_words() {
    let named = |phase: &Phase| ServiceView {
        name: "a-service-with-a-long-name",
        path: "/a/long/path",
        phase: phase.clone(),
        said: "&".repeat(WIDTH).replace("", "\"\n"),
    };
    let frame = Frame {
        nonce: "0123456789abcdef0123456789abcdef",
        request_id: "01234567-89ab-cdef-0123-456789abcdef",
    };
    let mut whole = course(&STAGES);
    whole.hinder(Arc::new(stuck()));
    let phase = starting(&whole);
    for (state, phase) in [
        ("starting", &phase),
        ("running", &phase),
        ("running", &Phase::Running),
    ] {
        if *phase == Phase::Running {
            whole.end(true, after(&whole, 8));
        }
        let services = vec![named(phase); Services::MAX];
        let mut view = view(state, &services);
        view.used = Some("2026-11-25 22:04 UTC".to_owned());
        view.stop = Some((Because::MaxAge, 59));
        view.start = Some(&whole);
        let page = session(frame, view);
        let size = page.len();
        assert!(size < LARGEST, "{size} bytes, {state}, {phase:?}: {page}");
        let shown = page.contains("Fetching the image");
        assert!(shown || state != phase.name(), "{page}");
    }
}

#[test]
fn a_stop_is_counted_down_in_minutes_but_for_the_last_two() {
    for (left, expected) in [(0, "0 s"), (119, "119 s"), (120, "2 min"), (3599, "59 min")] {
        let mut view = view("running", &[]);
        view.stop = Some((Because::Idle, left));
        assert_eq!(view.left(), expected);
    }
}
