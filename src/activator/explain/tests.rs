//! Sessions in every state, and at which condition each is said to be.

use uuid::Uuid;

use super::*;
use crate::activator::{Fact, InstanceUid, Observed, Progress, Table};

const STAGES: [Stage; 7] = [
    Stage::Queue,
    Stage::Former,
    Stage::Namespace,
    Stage::Disk,
    Stage::Schedule,
    Stage::Pull,
    Stage::Port,
];
const UID: InstanceUid = InstanceUid(Uuid::from_u128(1));

fn services() -> Vec<Service> {
    Service::first(2).collect()
}

/// What is explained after these facts and with this record.
fn after(
    facts: impl FnOnce(SessionId) -> Vec<Fact>,
    found: Result<Found, Reason>,
) -> (Option<&'static str>, Vec<Step>) {
    let (table, id) = (Table::new().0, SessionId::random());
    for fact in facts(id) {
        table.apply(fact);
    }
    let services = services();
    let explained = explain(
        &table.slot(id),
        found.map_err(SpawnError::new),
        (&STAGES, &services),
        Instant::now(),
    );
    (explained.state, explained.steps)
}

/// The one condition that neither holds nor comes later, once all before it hold and all after it do not.
fn at(steps: &[Step]) -> &Step {
    let place = steps.iter().position(|step| step.stands != Stands::Done);
    let place = place.expect("something is missing");
    let rest = &steps[place + 1..];
    let is_later = |step: &Step| matches!(step.stands, Stands::Later | Stands::Unknown);
    assert!(rest.iter().all(is_later), "{steps:#?}");
    &steps[place]
}

fn reason(text: &str) -> Arc<str> {
    text.into()
}

#[test]
fn what_nobody_asked_for_waits_to_be_asked_for() {
    for (found, state) in [
        (Found::Absent, "absent"),
        (Found::Stopped, "stopped"),
        (Found::Vanished, "vanished"),
    ] {
        let (told, steps) = after(|_| vec![], Ok(found));
        assert_eq!(told, Some(state));
        let step = at(&steps);
        assert_eq!(step.link, Link::Request);
        let waits = Stands::Now {
            position: None,
            passes: false,
        };
        assert_eq!(step.stands, waits);
    }
}

#[test]
fn a_start_is_at_what_it_waits_for() {
    let begun = |id| vec![Fact::Begun(id)];
    let entered = |id| vec![Fact::Begun(id), Fact::Owner(id, reason("7"))];
    let queued = |id| [entered(id), vec![Fact::Position(id, 3)]].concat();
    let made = |id| [entered(id), vec![Fact::Stage(id, Stage::Disk)]].concat();
    let waits = |id| {
        let pending = Fact::Pending(id, UID, Progress::Waits(Stage::Pull));
        [made(id), vec![pending]].concat()
    };
    let asked = |id| [waits(id), vec![Fact::Done(id)]].concat();
    type Facts<'a> = &'a dyn Fn(SessionId) -> Vec<Fact>;
    let first = |id| [entered(id), vec![Fact::Stage(id, Stage::Former)]].concat();
    let cases: [(Facts<'_>, Link, Option<usize>); 7] = [
        (&first, Link::Former, None),
        (&begun, Link::Project, None),
        (&entered, Link::Stage(Stage::Queue), None),
        (&queued, Link::Stage(Stage::Queue), Some(3)),
        (&made, Link::Stage(Stage::Disk), None),
        (&waits, Link::Stage(Stage::Pull), None),
        (&asked, Link::Stage(Stage::Pull), None),
    ];
    for (facts, link, position) in cases {
        let (state, steps) = after(facts, Ok(Found::Absent));
        let step = at(&steps);
        assert_eq!((state, step.link), (Some("starting"), link));
        let passes = true;
        assert_eq!(step.stands, Stands::Now { position, passes });
        assert!(step.since.is_some(), "{step:?}");
    }
}

/// Reasons at their conditions, with whether waiting can help.
#[test]
fn a_failure_is_where_it_happened_and_says_whether_waiting_helps() {
    let error = || reason("no");
    let stage = Link::Stage;
    let failed = [
        (Reason::NoProject, None, Link::Project, false),
        (
            Reason::Unresolved { error: error() },
            None,
            Link::Project,
            true,
        ),
        (Limit::Sessions { most: 1 }.into(), None, Link::Limits, true),
        (
            Limit::Queue { most: 1 }.into(),
            None,
            stage(Stage::Queue),
            true,
        ),
        (
            Reason::Terminating { what: "pod" },
            Some(Stage::Schedule),
            Link::Former,
            true,
        ),
        (
            Reason::Refused { error: error() },
            Some(Stage::Disk),
            stage(Stage::Disk),
            false,
        ),
        (
            Reason::Unavailable { error: error() },
            Some(Stage::Namespace),
            stage(Stage::Namespace),
            true,
        ),
        // A stage that this spawner does not have: the next one.
        (
            Reason::Secret { error: error() },
            None,
            stage(Stage::Namespace),
            false,
        ),
    ];
    for (reason, reached, link, passes) in failed {
        let begin = |id| {
            let mut facts = vec![Fact::Begun(id)];
            facts.extend(reached.map(|stage| Fact::Stage(id, stage)));
            facts.push(Fact::Failed(id, Arc::new(reason.clone())));
            facts
        };
        let (state, steps) = after(begin, Ok(Found::Absent));
        assert_eq!(state, Some("failed"));
        assert_is_failed(at(&steps), &reason, link, passes);
    }
}

#[test]
fn what_is_stuck_goes_on_by_itself() {
    let (error, stage) = (|| reason("no"), Link::Stage);
    for (reason, link) in [
        (
            Reason::Unschedulable { error: error() },
            stage(Stage::Schedule),
        ),
        (Reason::Image { error: error() }, stage(Stage::Pull)),
        (Reason::Container { error: error() }, stage(Stage::Pull)),
        (Reason::Storage { error: error() }, stage(Stage::Disk)),
    ] {
        let stuck = Progress::Stuck(Arc::new(reason.clone()));
        let (state, steps) = after(
            |id| vec![Fact::Pending(id, UID, stuck)],
            Ok(Found::Vanished),
        );
        assert_eq!(state, Some("failed"));
        assert_is_failed(at(&steps), &reason, link, true);
    }
}

fn assert_is_failed(step: &Step, expected: &Reason, link: Link, may_pass: bool) {
    assert_eq!(step.link, link, "{expected}");
    let Stands::Failed {
        reason,
        retry: Some(_),
        passes,
    } = &step.stands
    else {
        panic!("{step:?}");
    };
    assert_eq!((&**reason, *passes), (expected, may_pass));
}

/// It may be started again at once, so it is not said to have failed; why it is gone is said all the same.
#[test]
fn what_the_cluster_ended_says_why_until_somebody_stops_it() {
    let evicted = Reason::Evicted {
        error: reason("no memory"),
    };
    let lost = |id| vec![Fact::Lost(id, Arc::new(evicted.clone()))];
    let (state, steps) = after(lost, Ok(Found::Vanished));
    assert_eq!(state, Some("vanished"));
    let step = at(&steps);
    assert_eq!(step.link, Link::Stage(Stage::Schedule));
    let expected = Stands::Failed {
        reason: Arc::new(evicted.clone()),
        retry: None,
        passes: true,
    };
    assert_eq!(step.stands, expected);
    let (state, steps) = after(lost, Ok(Found::Stopped));
    assert_eq!((state, at(&steps).link), (Some("stopped"), Link::Request));
    // Another runs by now, or is about to.
    for fact in [
        |id| Fact::Pending(id, UID, Progress::Waits(Stage::Pull)),
        Fact::Begun,
    ] {
        let (state, _) = after(
            |id| [vec![fact(id)], lost(id)].concat(),
            Ok(Found::Vanished),
        );
        assert_eq!(state, Some("starting"));
    }
}

#[test]
fn a_record_that_cannot_be_read_leaves_the_rest_unknown() {
    let away = Reason::Unavailable {
        error: reason("no"),
    };
    let (state, steps) = after(|_| vec![], Err(away));
    assert_eq!((state, at(&steps).link), (None, Link::Record));
    assert_eq!(steps.last().unwrap().stands, Stands::Unknown);
    let (_, steps) = after(|_| vec![], Err(Reason::NoProject));
    assert_eq!(at(&steps).link, Link::Project);
    assert_eq!(steps.last().unwrap().stands, Stands::Later);
}

#[test]
fn what_is_being_ended_comes_first() {
    let ends = |id| vec![Fact::Pending(id, UID, Progress::Ends)];
    let (state, steps) = after(ends, Ok(Found::Stopped));
    assert_eq!((state, at(&steps).link), (Some("stopping"), Link::Former));
}

#[test]
fn of_what_runs_each_port_is_told_by_itself() {
    let services = services();
    let [one, other] = services[..] else {
        panic!("two were asked for");
    };
    let address = ([127, 0, 0, 1], 1).into();
    let runs = |id| {
        vec![
            Fact::Saw(id, Observed::new(UID, vec![address; 2])),
            Fact::Open(id, UID, one),
        ]
    };
    let (state, steps) = after(runs, Ok(Found::Vanished));
    assert_eq!(state, Some("running"));
    let step = at(&steps);
    assert_eq!(step.link, Link::Port(other));
    assert!(step.since.is_some());
    let late = Reason::NotListening {
        port: 1,
        after: std::time::Duration::from_secs(1),
    };
    let late_fact = |id| Fact::Late(id, UID, other, Arc::new(late.clone()));
    let (_, steps) = after(
        |id| [runs(id), vec![late_fact(id)]].concat(),
        Ok(Found::Vanished),
    );
    assert_is_failed(at(&steps), &late, Link::Port(other), true);
    let all = |id| [runs(id), vec![Fact::Open(id, UID, other)]].concat();
    let (_, steps) = after(all, Ok(Found::Vanished));
    assert!(steps.iter().all(|step| step.stands == Stands::Done));
}
