//! Incarnations that are there and do not run: what they make of a session, in every order in which it is heard.

use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::{
    activator::{Fact, Facts, Observed, Table, phase, tests::Log},
    session::{Phase, SessionId},
};

struct Bench {
    table: Arc<Table>,
    id: SessionId,
}

impl Bench {
    fn new() -> Self {
        Self {
            table: Table::new().0,
            id: SessionId::random(),
        }
    }

    fn pending(&self, uid: InstanceUid, progress: Progress) -> &Self {
        self.table.apply(Fact::Pending(self.id, uid, progress));
        self
    }

    fn apply(&self, fact: Fact) -> &Self {
        self.table.apply(fact);
        self
    }

    fn saw(&self, uid: InstanceUid) -> &Self {
        let address = ([127, 0, 0, 1], 1).into();
        self.apply(Fact::Saw(self.id, Observed::new(uid, vec![address])))
    }

    /// Where the session stands, by name, and what it waits for.
    fn stands(&self) -> (&'static str, Option<Stage>) {
        let service = Service::first(1).next().expect("one");
        match phase(&self.table.slot(self.id), service, Instant::now()) {
            Some(Phase::Starting { stage, .. }) => ("starting", Some(stage)),
            Some(phase) => (phase.name(), None),
            None => ("unknown", None),
        }
    }
}

fn uid(number: u128) -> InstanceUid {
    InstanceUid(Uuid::from_u128(number))
}

fn stuck() -> Progress {
    Progress::Stuck(Arc::new(Reason::Internal))
}

#[test]
fn what_waits_is_starting_and_what_is_stuck_has_failed_until_it_runs() {
    let bench = Bench::new();
    let waits = Progress::Waits(Stage::Pull);
    bench.pending(uid(1), waits.clone());
    assert_eq!(bench.stands(), ("starting", Some(Stage::Pull)));
    bench.pending(uid(1), stuck());
    assert_eq!(bench.stands(), ("failed", None));
    bench.saw(uid(1));
    assert_eq!(bench.stands(), ("starting", Some(Stage::Port)));
    bench.pending(uid(1), stuck());
    assert_eq!(bench.stands(), ("failed", None));
    bench
        .pending(uid(1), waits)
        .apply(Fact::Gone(bench.id, uid(1)));
    assert_eq!(bench.stands(), ("unknown", None));
    assert!(bench.table.slot(bench.id).pending.is_none());
}

#[test]
fn a_start_under_way_shows_how_far_its_pod_has_come() {
    let bench = Bench::new();
    bench
        .apply(Fact::Begun(bench.id))
        .apply(Fact::Stage(bench.id, Stage::Schedule));
    bench.pending(uid(1), Progress::Waits(Stage::Pull));
    assert_eq!(bench.stands(), ("starting", Some(Stage::Pull)));
    // A retry is under way: what the old pod says is not the outcome of it.
    bench.pending(uid(1), stuck());
    assert_eq!(bench.stands(), ("starting", Some(Stage::Schedule)));
    bench.apply(Fact::Done(bench.id));
    assert_eq!(bench.stands(), ("failed", None));
}

#[test]
fn the_end_of_an_old_one_is_not_the_end_of_the_one_after_it() {
    let bench = Bench::new();
    bench.pending(uid(2), Progress::Waits(Stage::Pull));
    bench.pending(uid(1), Progress::Ends);
    assert_eq!(bench.stands(), ("starting", Some(Stage::Pull)));
    bench.apply(Fact::Gone(bench.id, uid(1)));
    assert_eq!(bench.stands(), ("starting", Some(Stage::Pull)));
    bench.pending(uid(2), Progress::Ends);
    assert_eq!(bench.stands(), ("stopping", None));
}

#[tokio::test(start_paused = true)]
async fn what_is_stuck_is_tried_again_after_pauses_that_grow() {
    let bench = Bench::new();
    bench.pending(uid(1), stuck());
    for pause in [5, 10, 20] {
        assert_eq!(bench.stands(), ("failed", None));
        tokio::time::advance(Duration::from_secs(pause)).await;
        assert_eq!(bench.stands(), ("vanished", None), "after {pause} s");
        bench.apply(Fact::Begun(bench.id));
        // The kubelet says it again meanwhile.
        bench.pending(uid(1), stuck()).apply(Fact::Done(bench.id));
    }
}

#[test]
fn the_same_failure_is_counted_once_and_a_new_one_again() {
    let bench = Bench::new();
    let attempts = || match bench
        .table
        .slot(bench.id)
        .pending
        .expect("it is there")
        .stands
    {
        Standing::Stuck(failure) => failure.attempts,
        Standing::Waits(_) | Standing::Ends => 0,
    };
    bench.pending(uid(1), stuck()).pending(uid(1), stuck());
    assert_eq!(attempts(), 1);
    let other = Reason::Image {
        error: "none".into(),
    };
    bench.pending(uid(1), Progress::Stuck(Arc::new(other)));
    assert_eq!(attempts(), 2);
}

#[test]
fn only_what_may_be_over_by_itself_is_said_to_pass() {
    let bench = Bench::new();
    let passes = || match phase(
        &bench.table.slot(bench.id),
        Service::first(1).next().expect("one"),
        Instant::now(),
    ) {
        Some(Phase::Failed(failure)) => failure.passes,
        other => panic!("{other:?}"),
    };
    bench.pending(uid(1), stuck());
    assert!(passes(), "a pod that is stuck is watched");
    // A start that found nothing to do about it.
    bench
        .apply(Fact::Begun(bench.id))
        .apply(Fact::Done(bench.id));
    assert!(passes());
    let (service, reason) = (
        Service::first(1).next().expect("one"),
        Arc::new(Reason::Internal),
    );
    bench.saw(uid(1));
    bench.apply(Fact::Late(bench.id, uid(1), service, Arc::clone(&reason)));
    assert!(passes(), "its port is asked further");
    bench.apply(Fact::Broke(bench.id, uid(1), service, Arc::clone(&reason)));
    assert!(!passes(), "a program that ended stays ended");
    bench.apply(Fact::Gone(bench.id, uid(1)));
    let error: Arc<str> = "no route to host".into();
    for (reason, expected) in [
        (Reason::Internal, false),
        (
            Reason::Refused {
                error: Arc::clone(&error),
            },
            false,
        ),
        (
            Reason::Unavailable {
                error: Arc::clone(&error),
            },
            true,
        ),
        (Reason::Unresolved { error }, true),
        (Reason::Terminating { what: "namespace" }, true),
    ] {
        let code = reason.code();
        bench
            .apply(Fact::Begun(bench.id))
            .apply(Fact::Failed(bench.id, Arc::new(reason)));
        assert_eq!(passes(), expected, "{code}");
    }
}

#[test]
fn what_keeps_a_session_from_running_is_logged_once() {
    let log = Log::begin();
    let bench = Bench::new();
    let facts = Facts::new(Arc::clone(&bench.table));
    let image = |error: &str| {
        let error = error.into();
        Progress::Stuck(Arc::new(Reason::Image { error }))
    };
    // As a kubelet says it, in turn.
    for error in ["ErrImagePull: no such image", "ImagePullBackOff: waits"].repeat(3) {
        facts.pending(bench.id, uid(1), image(error));
    }
    facts.pending(bench.id, uid(1), stuck());
    let lines = log.lines();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    let told = [
        "WARN",
        "image_unavailable",
        "ErrImagePull: no such image",
        &bench.id.to_string(),
    ];
    for part in told {
        assert!(lines[0].contains(part), "{part}: {}", lines[0]);
    }
    assert!(lines[1].contains("start_broke_off"), "{}", lines[1]);
}

#[test]
fn the_next_stop_is_the_earlier_one_and_of_two_at_once_the_one_that_is_not_taken_back() {
    let bench = Bench::new();
    let at = |second| Timestamp::from_second(second).unwrap();
    let because = |bench: &Bench| {
        let stop = bench.table.slot(bench.id).next_stop();
        stop.map(|stop| (stop.because, stop.at.as_second()))
    };
    bench.saw(uid(1));
    assert_eq!(because(&bench), None);
    bench.apply(Fact::Aged(bench.id, uid(1), at(10)));
    for (idle, expected) in [
        (None, (Because::MaxAge, 10)),
        (Some(at(9)), (Because::Idle, 9)),
        (Some(at(10)), (Because::MaxAge, 10)),
        (Some(at(11)), (Because::MaxAge, 10)),
    ] {
        bench.apply(Fact::Announced(bench.id, uid(1), idle));
        assert_eq!(because(&bench), Some(expected));
    }
    // What is told of one instance is not known of the next.
    bench
        .saw(uid(2))
        .apply(Fact::Aged(bench.id, uid(1), at(10)));
    assert_eq!(because(&bench), None);
}

#[test]
fn the_course_of_the_last_start_that_was_seen_is_kept() {
    let bench = Bench::new();
    let course = || {
        let slot = bench.table.slot(bench.id);
        let course = slot.last_start()?;
        let stages = course.stages(Instant::now()).map(|(stage, _)| stage);
        Some((stages.collect::<Vec<_>>(), course.ended()))
    };
    let service = Service::first(1).next().expect("one");
    let open = |number| {
        bench.apply(Fact::Open(bench.id, uid(number), service));
    };
    // One that runs already: nobody here has seen how it came to that.
    bench.saw(uid(1));
    open(1);
    assert_eq!(course(), None);
    bench.apply(Fact::Closed(bench.id, uid(1), service));
    assert_eq!(course(), None);
    open(1);
    // A start that finds all of it there.
    bench
        .apply(Fact::Begun(bench.id))
        .apply(Fact::Done(bench.id));
    assert_eq!(course(), None);
    bench.apply(Fact::Gone(bench.id, uid(1)));
    bench
        .apply(Fact::Begun(bench.id))
        .apply(Fact::Stage(bench.id, Stage::Pull));
    bench.pending(uid(2), stuck()).saw(uid(2));
    let whole = vec![Stage::Queue, Stage::Pull, Stage::Port];
    assert_eq!(course(), Some((whole.clone(), None)));
    open(2);
    bench.apply(Fact::Done(bench.id));
    assert_eq!(course(), Some((whole.clone(), Some(true))));
    let slot = bench.table.slot(bench.id);
    let hindrance = slot.last_start().and_then(Course::hindrance);
    assert_eq!(hindrance, Some(&Reason::Internal));
    // A port that comes back is no start.
    bench.apply(Fact::Closed(bench.id, uid(2), service));
    assert_eq!(course(), Some((whole, Some(true))));
    // One of another replica is seen as far as its pod tells, and one that fails is over.
    bench.pending(uid(3), Progress::Waits(Stage::Pull));
    bench.apply(Fact::Gone(bench.id, uid(2)));
    assert_eq!(course(), Some((vec![Stage::Pull], None)));
    bench
        .apply(Fact::Begun(bench.id))
        .apply(Fact::Failed(bench.id, Arc::new(Reason::Internal)));
    assert_eq!(course(), Some((vec![Stage::Queue], Some(false))));
}
