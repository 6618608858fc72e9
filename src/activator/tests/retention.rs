//! Sessions that nobody has used for long.

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::session::clock;

/// A record that says so, of a session last used so many hours ago.
fn listed(found: Found, hours: i64) -> Listed {
    let used = clock::now() - SignedDuration::from_hours(hours);
    Listed {
        id: SessionId::random(),
        seen: Seen {
            found,
            used: Some(used),
        },
        made: Some(Timestamp::UNIX_EPOCH),
        is_kept: false,
        plan: Plan {
            project: "7".into(),
            user: "42".into(),
            profile: Plan::default_profile(),
        },
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_uses_is_removed_one_after_the_other_and_nothing_else() {
    let spawner = FakeSpawner::that_takes(Duration::from_secs(1));
    let activator = activator(&spawner, true);
    let mut unused = [
        listed(Found::Stopped, 41),
        listed(Found::Stopped, 400),
        listed(Found::Absent, 41),
        listed(Found::Vanished, 41),
    ];
    unused.sort_by_key(|listed| listed.id);
    let unused = unused.map(|mut listed| {
        // When it was made counts for what was never used.
        if listed.seen.found == Found::Absent {
            listed.seen.used = None;
        }
        listed
    });
    let used = listed(Found::Stopped, 39);
    let mut runs = listed(Found::Vanished, 41);
    runs.id = SessionId::random();
    drop(activator.lease(wanted(runs.id, Intent::Api)).await.unwrap());
    let mut all = [&unused[..], &[used.clone(), runs.clone()]].concat();
    all.sort_by_key(|listed| listed.id);
    all.clone_into(&mut spawner.listed.lock().unwrap());
    let shown = activator.unused().await.unwrap();
    let ids = |all: &[Listed]| all.iter().map(|listed| listed.id).collect::<Vec<_>>();
    let kept = [used.id, runs.id];
    all.retain(|listed| !kept.contains(&listed.id));
    assert_eq!(
        ids(&shown),
        ids(&all),
        "what will be removed is shown before"
    );
    // A look takes place every two hours.
    sleep(RETENTION / 20 + Duration::from_secs(150)).await;
    let removed = spawner.removed.lock().unwrap().clone();
    assert_eq!(
        removed.iter().map(|one| one.0).collect::<Vec<_>>(),
        ids(&unused)
    );
    for pair in removed.windows(2) {
        assert!(
            pair[1].1 - pair[0].1 >= Duration::from_secs(30),
            "{removed:?}"
        );
    }
    let mut left = [used.id, runs.id];
    left.sort();
    assert_eq!(ids(&spawner.listed.lock().unwrap()), left);
}
