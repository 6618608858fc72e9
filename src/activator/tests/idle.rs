//! Sessions that nobody uses, and those that somebody does.

use jiff::SignedDuration;

use super::*;
use crate::session::InputRule;

const MINUTE: Duration = Duration::from_mins(1);

/// A session that runs, and the spawner that runs it.
async fn running() -> (Arc<Activator>, Arc<FakeSpawner>, SessionId) {
    running_by(Plan::DEFAULT_PROFILE).await
}

/// One that is made by this profile.
pub(super) async fn running_by(profile: &str) -> (Arc<Activator>, Arc<FakeSpawner>, SessionId) {
    let spawner = FakeSpawner::that_takes(Duration::from_secs(1));
    let activator = of_profile(profile, &spawner, true);
    let id = SessionId::random();
    drop(activator.lease(wanted(id, Intent::Api)).await.unwrap());
    (activator, spawner, id)
}

/// Waits until a stop of it is announced, or is not any more, or is past; returns how long that took.
async fn until_announced(activator: &Activator, id: SessionId, is_so: bool) -> Duration {
    until(activator, id, |slot| slot.stop.is_some() == is_so).await
}

/// Waits until that is so of a session; returns how long that took.
pub(super) async fn until(
    activator: &Activator,
    id: SessionId,
    is_so: impl Fn(&Slot) -> bool,
) -> Duration {
    let begun = Instant::now();
    loop {
        let waiters = activator.table.slot(id).waiters;
        let changed = waiters.changed.notified();
        if is_so(&activator.table.slot(id)) {
            return begun.elapsed();
        }
        changed.await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_nobody_uses_is_stopped_after_its_time_and_the_countdown() {
    let (activator, spawner, id) = running().await;
    let unused = until_announced(&activator, id, true).await;
    // It is looked for four times in that time.
    assert!(IDLE <= unused && unused <= IDLE + IDLE / 4, "{unused:?}");
    let counted = until_announced(&activator, id, false).await;
    assert!(
        counted.abs_diff(COUNTDOWN) < Duration::from_secs(1),
        "{counted:?}"
    );
    assert_eq!(spawner.expired.load(Ordering::Relaxed), 1);
    let phase = activator.phase(id, services()[0]).await.unwrap();
    assert_eq!(phase, Phase::Idle(Found::Stopped));
    assert!(activator.lease(wanted(id, Intent::Asset)).await.is_err());
    assert!(activator.lease(wanted(id, Intent::Api)).await.is_ok());
    assert_eq!(spawner.starts(), 2, "the next visit starts it again");
}

/// A profile that is not configured any more is like none.
#[tokio::test(start_paused = true)]
async fn the_times_are_those_of_the_profile_that_it_is_made_by() {
    for (profile, after, countdown) in [
        ("short", SHORT.after, SHORT.countdown),
        ("gone", IDLE, COUNTDOWN),
    ] {
        let (activator, spawner, id) = running_by(profile).await;
        let unused = until_announced(&activator, id, true).await;
        assert!(
            after <= unused && unused <= after + after / 4,
            "{profile}: {unused:?}"
        );
        let counted = until_announced(&activator, id, false).await;
        assert!(
            counted.abs_diff(countdown) < Duration::from_secs(1),
            "{profile}: {counted:?}"
        );
        assert_eq!(spawner.expired.load(Ordering::Relaxed), 1, "{profile}");
    }
    let (activator, spawner, id) = running_by("never").await;
    let announced = until_announced(&activator, id, true);
    assert!(tokio::time::timeout(IDLE * 3, announced).await.is_err());
    assert_eq!(spawner.looks.load(Ordering::Relaxed), 1, "of its start");
}

/// What counts as work is counted within a time that follows from them, too.
#[tokio::test(start_paused = true)]
async fn another_profile_shortens_no_window_of_a_sessions_frames() {
    for (profile, window) in [("short", SHORT.after / 4), ("gone", MINUTE)] {
        let (activator, _spawner, id) = running_by(profile).await;
        let lease = activator.running(id, services()[0]).unwrap();
        let (windows, begun) = (lease.instance().window(), Instant::now());
        sleep(window * 10).await;
        let took = begun.elapsed().as_secs() / window.as_secs();
        let passed = u64::from(lease.instance().window() - windows);
        assert!(passed.abs_diff(took) <= 1, "{profile}: {passed}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_meet_an_announced_stop_wait_until_it_is_taken_back_once() {
    let (activator, spawner, id) = running().await;
    until_announced(&activator, id, true).await;
    let begun = Instant::now();
    assert!(activator.running(id, services()[0]).is_none());
    let leases = join_all((0..20).map(|_| activator.lease(wanted(id, Intent::Asset)))).await;
    assert!(leases.iter().all(Result::is_ok));
    assert_eq!(begun.elapsed(), CALL, "all of them waited for one call");
    assert_eq!(spawner.kept.load(Ordering::Relaxed), 1);
    drop(leases);
    let unused = until_announced(&activator, id, true).await;
    assert!(unused >= IDLE, "{unused:?}");
    assert_eq!(
        (spawner.expired.load(Ordering::Relaxed), spawner.starts()),
        (0, 1)
    );
}

/// The answer to the first call says nothing of what was announced after it was given.
#[tokio::test(start_paused = true)]
async fn a_stop_that_is_announced_while_another_is_taken_back_is_taken_back_for_itself() {
    let (activator, spawner, id) = running().await;
    until_announced(&activator, id, true).await;
    let slot = activator.table.slot(id);
    let (uid, stop) = (slot.instance.unwrap().uid(), slot.stop.unwrap());
    let announce = async {
        sleep(CALL / 2).await;
        let another = stop + SignedDuration::from_secs(1);
        Facts::new(Arc::clone(&activator.table)).announced(id, uid, Some(another));
    };
    let begun = Instant::now();
    let (lease, ()) = join(activator.lease(wanted(id, Intent::Asset)), announce).await;
    assert!(lease.is_ok());
    assert_eq!(begun.elapsed(), CALL * 2);
    assert_eq!(spawner.kept.load(Ordering::Relaxed), 2);
    assert_eq!(activator.table.slot(id).stop, None);
}

#[tokio::test(start_paused = true)]
async fn an_answer_under_way_is_use_and_what_only_stays_open_is_not() {
    let (activator, spawner, id) = running().await;
    let mut lease = activator.running(id, services()[0]).unwrap();
    let waiting = until_announced(&activator, id, true);
    assert!(tokio::time::timeout(IDLE * 3, waiting).await.is_err());
    lease.rest();
    let begun = Instant::now();
    let ended = Arc::clone(lease.instance());
    ended.ended().await;
    let least = IDLE + COUNTDOWN;
    let took = begun.elapsed();
    assert!(least <= took && took <= least + IDLE / 4, "{took:?}");
    assert_eq!(spawner.expired.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn work_in_a_websocket_and_a_person_who_says_so_take_an_announced_stop_back() {
    let (activator, spawner, id) = running().await;
    let mut lease = activator.running(id, services()[0]).unwrap();
    lease.rest();
    let rule = InputRule::default();
    for kept in 1..=3 {
        until_announced(&activator, id, true).await;
        if kept < 3 {
            lease.instance().heard(rule.frames / 2, rule);
            assert!(activator.table.slot(id).stop.is_some());
            lease.instance().heard(rule.frames / 2, rule);
        } else {
            activator.keep_alive(id).await.unwrap();
        }
        let took = until_announced(&activator, id, false).await;
        assert!(took <= CALL, "at once: {took:?}");
        assert_eq!(spawner.kept.load(Ordering::Relaxed), kept);
    }
    assert_eq!(
        (
            spawner.expired.load(Ordering::Relaxed),
            lease.instance().has_ended()
        ),
        (0, false)
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_is_served_while_its_announced_stop_cannot_be_taken_back() {
    let (activator, spawner, id) = running().await;
    until_announced(&activator, id, true).await;
    spawner.is_away.store(true, Ordering::Relaxed);
    let lease = activator.lease(wanted(id, Intent::Asset)).await.unwrap();
    sleep(COUNTDOWN * 2).await;
    assert!(
        !lease.instance().has_ended(),
        "whoever has seen use stops nothing"
    );
    spawner.is_away.store(false, Ordering::Relaxed);
    until_announced(&activator, id, false).await;
    assert_eq!(spawner.kept.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_read_of_a_session_that_ran_does_not_start_it_again_once_it_is_stopped() {
    let (activator, spawner, id) = running().await;
    until_announced(&activator, id, true).await;
    let instance = activator.table.slot(id).instance.unwrap();
    sleep(COUNTDOWN - Duration::from_millis(500)).await;
    // Its page is open, so its record was read a moment ago.
    assert_eq!(activator.look(id).await.unwrap().found, Found::Vanished);
    instance.ended().await;
    let error = activator.lease(wanted(id, Intent::PageSocket)).await;
    let error = error.unwrap_err();
    let stopped = Phase::Idle(Found::Stopped);
    assert!(
        matches!(&error, ActivateError::NotReady(_, phase) if *phase == stopped),
        "{error}"
    );
    assert_eq!(spawner.starts(), 1);
}

#[tokio::test(start_paused = true)]
async fn last_use_is_stamped_once_a_minute_as_long_as_there_is_use() {
    let (activator, spawner, id) = running().await;
    let other = SessionId::random();
    let once = activator.lease(wanted(other, Intent::Api)).await.unwrap();
    drop(once);
    let lease = activator.running(id, services()[0]).unwrap();
    for _ in 0..20 * 60 {
        drop(activator.running(id, services()[0]).unwrap());
        sleep(SECOND).await;
    }
    drop(lease);
    sleep(MINUTE * 20).await;
    let stamps = spawner.stamps.lock().unwrap().clone();
    let (used, once): (Vec<_>, Vec<_>) = stamps.into_iter().partition(|stamp| stamp.0 == id);
    assert!((20..=21).contains(&used.len()), "{used:?}");
    let mut pauses = used.windows(2).map(|pair| pair[1].1 - pair[0].1);
    assert!(pauses.all(|pause| pause >= MINUTE), "{used:?}");
    assert_eq!(once.len(), 1, "{once:?}");
    assert_eq!(once[0].0, other);
}
