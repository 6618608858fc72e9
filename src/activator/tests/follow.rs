//! Following a session, under a paused clock.

use tokio::sync::mpsc::Receiver;

use super::*;
use crate::session::{Prefix, ServiceSpec, Services};

async fn follow(activator: &Arc<Activator>, id: SessionId) -> Receiver<Option<&'static str>> {
    let specs = ["preview", "chat"].map(|name| ServiceSpec::example(name, Prefix::Keep));
    let services = Services::new(specs.into()).unwrap();
    let state = |overview: Option<&Overview>| overview.map(|overview| overview.state);
    activator.follow(id, &services, state).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn without_news_a_word_is_said_every_15_seconds_and_no_record_is_read_for_it() {
    let spawner = FakeSpawner::that_takes(Duration::from_secs(1));
    let activator = activator(&spawner, true);
    let mut told = follow(&activator, SessionId::random()).await;
    assert_eq!(told.recv().await, Some(Some("absent")));
    let looks = spawner.looks.load(Ordering::Relaxed);
    for _ in 0..100 {
        let begun = Instant::now();
        assert_eq!(told.recv().await, Some(None));
        assert_eq!(begun.elapsed().as_secs(), 15);
    }
    assert_eq!(spawner.looks.load(Ordering::Relaxed), looks);
    assert_eq!(spawner.starts(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_keeps_nobody_waiting_any_more_is_told_though_nothing_happens() {
    let spawner = FakeSpawner::that_takes(Duration::from_secs(1));
    spawner.fails.store(true, Ordering::Relaxed);
    let (activator, id) = (activator(&spawner, true), SessionId::random());
    let mut told = follow(&activator, id).await;
    assert_eq!(told.recv().await, Some(Some("absent")));
    activator.start(id, GRANT);
    assert_eq!(told.recv().await, Some(Some("starting")));
    while told.recv().await != Some(Some("failed")) {}
    let begun = Instant::now();
    assert_eq!(told.recv().await, Some(Some("absent")));
    assert_eq!(begun.elapsed().as_secs(), 5);
    assert_eq!(spawner.starts(), 1, "who listens starts nothing");
}

#[tokio::test(start_paused = true)]
async fn who_is_slow_is_told_the_newest_and_who_left_is_forgotten() {
    let spawner = FakeSpawner::that_takes(Duration::from_secs(1));
    let (activator, id) = (activator(&spawner, true), SessionId::random());
    let mut told = follow(&activator, id).await;
    for _ in 0..10 {
        activator.start(id, GRANT);
        assert!(activator.lease(wanted(id, Intent::Asset)).await.is_ok());
        let (slot, facts) = (
            activator.table.slot(id),
            Facts::new(Arc::clone(&activator.table)),
        );
        facts.gone(id, slot.instance.expect("it runs").uid());
    }
    let mut words = 0;
    while told.recv().await != Some(None) {
        words += 1;
    }
    assert!(words <= 3, "{words} of at least 30");
    // Three may listen.
    let others = [follow(&activator, id).await, follow(&activator, id).await];
    let services = Services::new(vec![ServiceSpec::example("preview", Prefix::Keep)]).unwrap();
    let more = activator.follow(id, &services, |_| ()).await;
    assert!(matches!(more, Err(ActivateError::Crowded(_, 3))));
    drop((told, others));
    sleep(Duration::from_millis(1)).await;
    let again = [follow(&activator, id).await, follow(&activator, id).await];
    assert_eq!(again.len(), 2);
}
