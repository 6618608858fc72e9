//! Requests at the very moment at which their session is stopped because nobody has used it.

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use session_gateway::session::SessionId;
use tokio::time::{Duration, Instant, sleep};

use super::until_announced;
use crate::{
    kubernetes::shape::starts,
    support::{
        DEADLINE, Reply,
        cluster::{API, ASSET, NAVIGATION, Relay},
        long,
        serve::Serve,
    },
};

/// The countdown is longer than a request may take, whose session is looked at after it.
const TIMES: &str = "idle.after=1s,idle.countdown=2s";
/// How long a session lives after a request, by these.
const LIFE: Duration = Duration::from_secs(3);

/// The identity of the session's pod, if it is there and is not being deleted.
async fn living(relay: &Relay, id: SessionId) -> Option<String> {
    let pods = relay.within::<Pod>(&relay.namespace(id));
    let pod = pods.get_opt(&format!("dev-session-{id}")).await;
    let pod = pod.expect("an answer")?;
    let living = pod.metadata.deletion_timestamp.is_none();
    pod.metadata.uid.filter(|_| living)
}

/// Uses the session, which starts it if need be; returns its pod.
async fn used(relay: &Relay, gateway: &Serve, id: SessionId) -> String {
    loop {
        starts(gateway, id).await;
        let asked = Instant::now();
        let reply = gateway.send("GET", &format!("/{id}/chat/"), API).await;
        let living = living(relay, id).await;
        let took = asked.elapsed();
        match living {
            Some(pod) if reply.status == 200 => return pod,
            // It had nearly been used for the last time, or a machine was slow.
            _ => assert!(
                reply.status != 200 || took >= LIFE,
                "{id} was stopped within {took:?} of its use: {reply:?}"
            ),
        }
    }
}

/// Which pod answered.
fn answered_by(reply: &Reply) -> Option<String> {
    let text = reply.text();
    let address = text.split(' ').next().unwrap_or_default();
    (reply.status == 200).then(|| address.to_owned())
}

/// Gives the session's pod an address that no other ever had, and waits until all gateways know it: the cluster gives
/// that of a pod that is gone to the next one.
async fn moves(relay: &Relay, gateways: &[Serve; 3], id: SessionId, address: &str) {
    relay.move_pod(id, address.parse().expect("one")).await;
    let path = format!("/{id}/chat/");
    for gateway in gateways {
        let begun = Instant::now();
        while answered_by(&gateway.send("GET", &path, API).await).as_deref() != Some(address) {
            assert!(begun.elapsed() < DEADLINE, "it has not moved");
        }
    }
}

/// Whether this is an answer that a request of this kind may get at such a moment.
fn is_fine(kind: &[(&str, &str)], reply: &Reply) -> bool {
    if reply.status == 200 {
        return true;
    }
    let is_waiting = || ["starting", "stopping", "vanished"].contains(&reply.state());
    reply.status == 503 && (kind == ASSET || kind == NAVIGATION && is_waiting())
}

/// How long after the announced time requests come, in milliseconds: searched for until it is the very moment at which
/// the session is stopped, wherever a machine has that.
struct Aim {
    late: i64,
    step: i64,
    last: Option<bool>,
}

impl Aim {
    /// The first of a session, which is not the same for all.
    fn of(number: usize) -> Self {
        Self {
            late: i64::try_from(number % 8).expect("it is small") * 10,
            step: 60,
            last: None,
        }
    }

    /// Waits until then.
    async fn reached(&self, stop: Timestamp) {
        let left = stop.duration_since(Timestamp::now()) + SignedDuration::from_millis(self.late);
        sleep(left.try_into().unwrap_or_default()).await;
    }

    /// Farther away from what has come of it, twice as far if that came the last time, and half as far if not.
    fn next(&mut self, stopped: bool) {
        match self.last {
            Some(last) if last == stopped => self.step *= 2,
            Some(_) => self.step = (self.step / 2).max(1),
            None => {}
        }
        self.late += if stopped { -self.step } else { self.step };
        self.last = Some(stopped);
    }
}

/// One session, again and again until its stop, with requests at three gateways at that very moment. Returns how often
/// it was stopped.
async fn rounds(relay: &Relay, gateways: &[Serve; 3], count: usize, number: usize) -> usize {
    let id = SessionId::random();
    let path = format!("/{id}/chat/");
    let mut aim = Aim::of(number);
    starts(&gateways[number % 3], id).await;
    let disk = relay.disk(id).await;
    let mut stops = 0;
    for round in 0..count {
        let before = used(relay, &gateways[round % 3], id).await;
        let address = format!("127.{}.{}.{}", 100 + number, round / 200, round % 200 + 1);
        moves(relay, gateways, id, &address).await;
        let stop = until_announced(&gateways[(round + 1) % 3], id).await;
        aim.reached(stop).await;
        let requests = [
            (0, API),
            (1, API),
            (2, API),
            (0, NAVIGATION),
            (1, NAVIGATION),
            (2, ASSET),
        ];
        let requests = requests.map(|(at, kind)| {
            let (gateway, path, address) = (&gateways[(at + round) % 3], &path, &address);
            async move {
                let asked = Instant::now();
                let reply = gateway.send("GET", path, kind).await;
                let served = answered_by(&reply).as_ref() == Some(address);
                let still = if served {
                    living(relay, id).await
                } else {
                    None
                };
                // Later, it may be that nobody has used it since.
                let within = Some(asked.elapsed()).filter(|took| served && *took < LIFE);
                (kind, reply, within, still)
            }
        });
        for (kind, reply, within, still) in join_all(requests).await {
            assert!(
                within.is_none() || still.as_ref() == Some(&before),
                "{id} round {round}: it was stopped within {within:?} of its use"
            );
            assert!(is_fine(kind, &reply), "round {round}: {reply:?}");
        }
        let after = used(relay, &gateways[(round + 1) % 3], id).await;
        aim.next(after != before);
        stops += usize::from(after != before);
        assert_eq!(relay.disk(id).await, disk, "round {round}");
    }
    stops
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_session_is_stopped_that_was_used_since_its_stop_was_announced() {
    let (sessions, count) = if long() { (20, 100) } else { (10, 20) };
    let one = Relay::apart().await;
    let (second, third) = (one.another().await, one.another().await);
    let gateways = [
        one.gateway(&[TIMES]).await,
        second.gateway(&[TIMES]).await,
        third.gateway(&[TIMES]).await,
    ];
    let all = (0..sessions).map(|number| rounds(&one, &gateways, count, number));
    let stops: usize = join_all(all).await.into_iter().sum();
    let rounds = sessions * count;
    assert!(
        0 < stops && stops < rounds,
        "{stops} of {rounds}: not at that very moment"
    );
}
