//! Sessions that have run for as long as they may.

use super::{
    idle::{running_by, until},
    *,
};
use crate::session::{Because, clock};

/// Waits until it is told that it will be stopped; returns how long that took.
async fn until_told(activator: &Activator, id: SessionId) -> Duration {
    until(activator, id, |slot| slot.last.is_some()).await
}

#[tokio::test(start_paused = true)]
async fn a_session_in_use_is_stopped_at_its_age_after_the_countdown_and_serves_until_then() {
    let (activator, spawner, id) = running_by("old").await;
    let lease = activator.running(id, services()[0]).unwrap();
    let instance = Arc::clone(lease.instance());
    let told = until_told(&activator, id).await;
    let expected = OLD.max_age - OLD.countdown;
    assert!(told.abs_diff(expected) < SECOND * 2, "{told:?}");
    let begun = Instant::now();
    assert!(activator.running(id, services()[0]).is_some());
    drop(activator.lease(wanted(id, Intent::Asset)).await.unwrap());
    let kept = activator.keep_alive(id).await.unwrap_err();
    assert!(
        matches!(kept, KeepError::Aged(one, _) if one == id),
        "{kept}"
    );
    assert_eq!(begun.elapsed(), Duration::ZERO, "nobody waits for anything");
    instance.ended().await;
    let counted = begun.elapsed();
    assert!(counted.abs_diff(OLD.countdown) < SECOND / 10, "{counted:?}");
    let calls = [&spawner.expired, &spawner.kept].map(|calls| calls.load(Ordering::Relaxed));
    assert_eq!(calls, [1, 0]);
    let phase = activator.phase(id, services()[0]).await.unwrap();
    assert_eq!(phase, Phase::Idle(Found::Stopped));
    assert!(
        activator
            .lease(wanted(id, Intent::PageSocket))
            .await
            .is_err()
    );
    assert!(activator.lease(wanted(id, Intent::Api)).await.is_ok());
    assert_eq!(spawner.starts(), 2, "the next visit starts it again");
    // Its age is another one's.
    assert!(activator.table.slot(id).last.is_none());
    let told = until_told(&activator, id).await;
    assert!(told.abs_diff(expected) < SECOND * 2, "{told:?}");
}

/// A replica that has not started it comes later, and one that hears of it too late tells it for as long all the same.
#[tokio::test(start_paused = true)]
async fn the_replica_that_started_a_session_comes_first() {
    let spawner = FakeSpawner::that_takes(SECOND);
    let activator = of_profile("old", &spawner, true);
    let facts = Facts::new(Arc::clone(&activator.table));
    for (age, expected) in [
        (Duration::ZERO, OLD.max_age - OLD.countdown),
        (OLD.max_age - OLD.countdown / 2, Duration::ZERO),
        (OLD.max_age * 9, Duration::ZERO),
    ] {
        let id = SessionId::random();
        let observed = Observed {
            profile: Some("old".into()),
            made: Some(clock::now() - age),
            ..Observed::new(
                InstanceUid(Uuid::new_v4()),
                vec![([127, 0, 0, 1], 1).into(); 2],
            )
        };
        facts.saw(id, observed);
        facts.synced();
        let told = until_told(&activator, id).await;
        assert!(told.abs_diff(expected) < SECOND, "{told:?}");
        let begun = Instant::now();
        let stop = activator.table.slot(id).next_stop().unwrap();
        assert_eq!(stop.because, Because::MaxAge);
        activator.table.slot(id).instance.unwrap().ended().await;
        let after = begun.elapsed().checked_sub(OLD.countdown);
        let after = after.expect("it was told for as long");
        assert!(
            (SECOND * 9 / 10..SECOND * 7 / 2).contains(&after),
            "{after:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_grows_no_old_is_not_stopped() {
    for profile in ["never", "gone"] {
        let (activator, spawner, id) = running_by(profile).await;
        let _used = activator.running(id, services()[0]).unwrap();
        let told = until_told(&activator, id);
        assert!(tokio::time::timeout(OLD.max_age * 20, told).await.is_err());
        assert_eq!(spawner.expired.load(Ordering::Relaxed), 0, "{profile}");
    }
}
