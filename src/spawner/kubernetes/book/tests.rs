//! Sequences of what the watch says, and what the table is told.

use uuid::Uuid;

use super::*;

fn view(id: SessionId, uid: u128, address: &str, state: State) -> View {
    View {
        id,
        uid: InstanceUid(Uuid::from_u128(uid)),
        address: address.parse().ok(),
        ports: [3000].into(),
        state,
        is_helms: false,
        made: None,
        stop: None,
        profile: None,
    }
}

fn saw(view: &View) -> Word {
    let address = SocketAddr::new(view.address.expect("an address"), 3000);
    let observed = Observed {
        profile: view.profile.clone(),
        made: view.made,
        ..Observed::new(view.uid, vec![address])
    };
    Word::Saw(view.id, observed)
}

fn waits(view: &View) -> Word {
    Word::Pending(view.id, view.uid, Progress::Waits(Stage::Port))
}

#[test]
fn what_has_not_changed_is_not_told_again() {
    let mut book = Book::default();
    let one = view(SessionId::random(), 1, "10.0.0.1", State::Runs);
    assert_eq!(book.learn(one.clone()), [saw(&one)]);
    assert_eq!(book.learn(one.clone()), []);
    assert_eq!(book.forget(one.uid), [Word::Gone(one.id, one.uid)]);
    assert_eq!(book.forget(one.uid), []);
}

#[test]
fn an_announced_stop_is_told_after_what_it_is_of_and_again_with_it() {
    let mut book = Book::default();
    let stop = Some(Timestamp::UNIX_EPOCH);
    let mut one = view(
        SessionId::random(),
        1,
        "10.0.0.1",
        State::Waits(Stage::Pull),
    );
    one.stop = stop;
    let waiting = Word::Pending(one.id, one.uid, Progress::Waits(Stage::Pull));
    assert_eq!(book.learn(one.clone()), [waiting]);
    one.state = State::Runs;
    let announced = |stop| Word::Announced(one.id, one.uid, stop);
    assert_eq!(book.learn(one.clone()), [saw(&one), announced(stop)]);
    assert_eq!(book.learn(one.clone()), []);
    let kept = View {
        stop: None,
        ..one.clone()
    };
    assert_eq!(book.learn(kept), [announced(None)]);
    assert_eq!(book.learn(one.clone()), [announced(stop)]);
    // Another pod has the same address for a while.
    let other = view(SessionId::random(), 2, "10.0.0.1", State::Runs);
    book.learn(other.clone());
    let words = book.forget(other.uid);
    assert_eq!(words[1..], [saw(&one), announced(stop)]);
}

#[test]
fn two_pods_with_one_address_are_both_not_routed_to_until_one_is_gone() {
    let mut book = Book::default();
    let one = view(SessionId::random(), 1, "10.0.0.1", State::Runs);
    let other = view(SessionId::random(), 2, "10.0.0.1", State::Runs);
    assert_eq!(book.learn(one.clone()), [saw(&one)]);
    let mut words = book.learn(other.clone());
    words.sort_by_key(|word| *word != waits(&one));
    assert_eq!(words, [waits(&one), waits(&other)]);
    assert_eq!(
        book.forget(one.uid),
        [Word::Gone(one.id, one.uid), saw(&other)]
    );
}

#[test]
fn an_address_is_free_once_its_pod_is_being_deleted() {
    let mut book = Book::default();
    let one = view(SessionId::random(), 1, "10.0.0.1", State::Runs);
    let other = view(SessionId::random(), 2, "10.0.0.1", State::Runs);
    book.learn(one.clone());
    let ends = view(one.id, 1, "10.0.0.1", State::Ends);
    assert_eq!(book.learn(ends), [Word::Ending(one.id, one.uid)]);
    assert_eq!(book.learn(other.clone()), [saw(&other)]);
    assert_eq!(book.forget(one.uid), [Word::Gone(one.id, one.uid)]);
}

#[test]
fn what_a_list_does_not_name_is_gone_and_the_rest_is_untouched() {
    let mut book = Book::default();
    let one = view(SessionId::random(), 1, "10.0.0.1", State::Runs);
    let other = view(SessionId::random(), 2, "10.0.0.2", State::Runs);
    book.learn(one.clone());
    book.learn(other.clone());
    book.begin();
    assert_eq!(book.learn(other.clone()), []);
    assert_eq!(book.end(), [Word::Gone(one.id, one.uid)]);
    assert!(book.knows(other.uid));
}

#[test]
fn an_event_counts_while_its_pod_waits() {
    let mut book = Book::default();
    let id = SessionId::random();
    let waiting = view(id, 1, "", State::Waits(Stage::Pull));
    book.learn(waiting.clone());
    assert_eq!(book.waiting(), std::slice::from_ref(&waiting));
    let reason = Reason::Storage {
        error: "FailedMount: no disk".into(),
    };
    let stuck = Word::Pending(id, waiting.uid, Progress::Stuck(Arc::new(reason.clone())));
    assert_eq!(book.heard(waiting.uid, reason), Some(stuck));
    // What is said later counts for more.
    assert_eq!(book.waiting(), std::slice::from_ref(&waiting));
    let error = "FailedMount: no machine".into();
    let reason = Reason::Storage { error };
    let stuck = Word::Pending(id, waiting.uid, Progress::Stuck(Arc::new(reason.clone())));
    assert_eq!(book.heard(waiting.uid, reason.clone()), Some(stuck));
    assert_eq!(book.heard(waiting.uid, reason), None);
    let runs = view(id, 1, "10.0.0.1", State::Runs);
    assert_eq!(book.learn(runs.clone()), [saw(&runs)]);
    let again = Word::Pending(id, waiting.uid, Progress::Waits(Stage::Pull));
    assert_eq!(book.learn(waiting), [again]);
}

#[test]
fn a_pod_that_ended_for_good_is_gone_though_it_is_still_there() {
    let mut book = Book::default();
    let one = view(SessionId::random(), 1, "10.0.0.1", State::Runs);
    book.learn(one.clone());
    let over = view(one.id, 1, "10.0.0.1", State::Over(None));
    assert_eq!(book.learn(over.clone()), [Word::Gone(one.id, one.uid)]);
    assert_eq!(book.learn(over), []);
}

#[test]
fn why_a_pod_ended_for_good_is_told_also_by_a_gateway_that_did_not_see_it_run() {
    let id = SessionId::random();
    let error = "Evicted: no memory".into();
    let reason = Arc::new(Reason::Evicted { error });
    let over = view(id, 1, "10.0.0.1", State::Over(Some(Arc::clone(&reason))));
    let lost = Word::Lost(id, reason);
    let mut book = Book::default();
    assert_eq!(book.learn(over.clone()), std::slice::from_ref(&lost));
    let runs = view(id, 1, "10.0.0.1", State::Runs);
    book.learn(runs);
    assert_eq!(book.learn(over.clone()), [Word::Gone(id, over.uid), lost]);
    let helms = View {
        is_helms: true,
        ..over
    };
    assert_eq!(book.learn(helms), []);
}
