//! Requests at the very moment at which their session is stopped because nobody has used it.

use futures_util::{
    FutureExt,
    future::{join, join_all},
};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use session_gateway::session::SessionId;
use tokio::time::{Duration, Instant, sleep, timeout};

use super::until_announced;
use crate::{
    kubernetes::shape::starts,
    support::{
        DEADLINE, Reply, client,
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
pub(crate) struct Aim {
    late: i64,
    step: i64,
    last: Option<bool>,
}

impl Aim {
    /// The first of a session, which is not the same for all.
    pub(crate) fn of(number: usize) -> Self {
        Self {
            late: i64::try_from(number % 8).expect("it is small") * 10,
            step: 60,
            last: None,
        }
    }

    /// Waits until then.
    pub(crate) async fn reached(&self, stop: Timestamp) {
        let left = stop.duration_since(Timestamp::now()) + SignedDuration::from_millis(self.late);
        sleep(left.try_into().unwrap_or_default()).await;
    }

    /// Farther away from what has come of it, twice as far if that came the last time, and half as far if not.
    pub(crate) fn next(&mut self, stopped: bool) {
        match self.last {
            Some(last) if last == stopped => self.step *= 2,
            Some(_) => self.step = (self.step / 2).max(1),
            None => {}
        }
        self.late += if stopped { -self.step } else { self.step };
        self.last = Some(stopped);
    }
}

/// Asks for what does not end by itself. Returns the answer as far as it has come, and the rest.
async fn downloads(gateway: &Serve, id: SessionId) -> (Reply, Incoming) {
    let request = Request::get(format!("/{id}/chat/held"))
        .header("host", gateway.address.to_string())
        .body(Full::default())
        .expect("a request");
    let (head, mut rest) = client::open(gateway.address, request).await.into_parts();
    let first = timeout(DEADLINE, rest.frame()).await.expect("in time");
    let first = first.expect("it is not empty").expect("it is well");
    let reply = Reply {
        status: head.status,
        headers: head.headers,
        body: first.into_data().expect("no trailers"),
    };
    (reply, rest)
}

/// A session whose stop is announced, and what is to come of it.
struct Round<'a> {
    relay: &'a Relay,
    gateways: &'a [Serve; 3],
    id: SessionId,
    number: usize,
    /// Its pod, and an address that no other has.
    before: String,
    address: String,
}

impl Round<'_> {
    fn gateway(&self, at: usize) -> &Serve {
        &self.gateways[(at + self.number) % 3]
    }

    fn is_served(&self, reply: &Reply) -> bool {
        answered_by(reply).as_ref() == Some(&self.address)
    }

    /// A download of the pod that is to be stopped, if it is still there.
    async fn download(&self, at: usize) -> Option<Incoming> {
        let (reply, rest) = downloads(self.gateway(at), self.id).await;
        let Self { id, number, .. } = self;
        assert_eq!(reply.status, 200, "{id} round {number}: {reply:?}");
        self.is_served(&reply).then_some(rest)
    }

    async fn request(&self, at: usize, kind: &[(&str, &str)]) {
        let asked = Instant::now();
        let path = format!("/{}/chat/", self.id);
        let reply = self.gateway(at).send("GET", &path, kind).await;
        let Self { id, number, .. } = self;
        if self.is_served(&reply) {
            let still = living(self.relay, *id).await;
            let took = asked.elapsed();
            // Later, it may be that nobody has used it since.
            assert!(
                took >= LIFE || still.as_ref() == Some(&self.before),
                "{id} round {number}: it was stopped within {took:?} of its use"
            );
        }
        assert!(is_fine(kind, &reply), "{id} round {number}: {reply:?}");
    }

    /// All kinds of requests at once, one of which goes on.
    async fn requests(&self) -> Option<Incoming> {
        let requests = [
            (0, API),
            (1, API),
            (0, NAVIGATION),
            (1, NAVIGATION),
            (2, ASSET),
        ];
        let requests = requests.map(|(at, kind)| self.request(at, kind));
        join(self.download(2), join_all(requests)).await.0
    }

    /// The session is there for as long as somebody downloads something of it.
    async fn goes_on(&self, downloads: impl IntoIterator<Item = Incoming>) {
        let Self { id, number, .. } = self;
        for mut rest in downloads {
            let still = living(self.relay, *id).await;
            assert!(
                still.as_ref() == Some(&self.before) && rest.frame().now_or_never().is_none(),
                "{id} round {number}: it was stopped with a request under way"
            );
        }
    }
}

/// One session, again and again until its stop, with requests at three gateways at that very moment. Returns how often
/// it was stopped, and how often a request was under way from before until long after.
async fn rounds(
    relay: &Relay,
    gateways: &[Serve; 3],
    count: usize,
    session: usize,
) -> (usize, usize) {
    let id = SessionId::random();
    let mut aim = Aim::of(session);
    starts(&gateways[session % 3], id).await;
    let disk = relay.disk(id).await;
    let (mut stops, mut kept) = (0, 0);
    for number in 0..count {
        let before = used(relay, &gateways[number % 3], id).await;
        let address = format!(
            "127.{}.{}.{}",
            100 + session,
            number / 200,
            number % 200 + 1
        );
        moves(relay, gateways, id, &address).await;
        let stop = until_announced(&gateways[(number + 1) % 3], id).await;
        let round = Round {
            relay,
            gateways,
            id,
            number,
            before,
            address,
        };
        let early = if number % 10 == session % 10 {
            round.download(2).await
        } else {
            None
        };
        aim.reached(stop).await;
        let late = round.requests().await;
        if early.is_some() {
            // Nothing but what is under way keeps it for longer than that.
            sleep(LIFE + Duration::from_millis(500)).await;
            kept += 1;
        }
        let is_kept = early.is_some();
        round.goes_on(early.into_iter().chain(late)).await;
        let after = used(relay, &gateways[(number + 1) % 3], id).await;
        if !is_kept {
            aim.next(after != round.before);
        }
        stops += usize::from(after != round.before);
        assert_eq!(relay.disk(id).await, disk, "round {number}");
    }
    (stops, kept)
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
    let all = (0..sessions).map(|session| rounds(&one, &gateways, count, session));
    let (stops, kept): (Vec<_>, Vec<_>) = join_all(all).await.into_iter().unzip();
    let (stops, kept): (usize, usize) = (stops.iter().sum(), kept.iter().sum());
    let rounds = sessions * count;
    assert!(
        0 < stops && stops < rounds,
        "{stops} of {rounds}: not at that very moment"
    );
    assert!(kept > 0, "no request was under way");
}
