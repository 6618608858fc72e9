//! What becomes of sessions on a real node: they are stopped when nobody uses them and come back with their files, and
//! what a kubelet says of those that fail is told.

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use http::Request;
use http_body_util::Full;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::Value;
use session_gateway::session::SessionId;
use tokio::time::{Duration, Instant, sleep};

use super::{IMAGE, put};
use crate::{
    kubernetes::idle::{moment::Aim, until_announced},
    support::{
        DEADLINE, client,
        cluster::{API, Relay},
        serve::Serve,
        told::{CLAIM, Told, event_says, pod_says},
    },
};

/// Sessions at once, and how often each of them is stopped.
const ROUNDS: (usize, usize) = (5, 4);
/// How long a session lives after a request, by the times of that test.
const LIFE: Duration = Duration::from_secs(3);

/// Waits until a session is stopped for want of use, which must have been announced. To ask is no use of it.
async fn until_stopped(gateway: &Serve, id: SessionId) {
    let begun = Instant::now();
    let mut is_announced = false;
    loop {
        let reply = gateway.send("GET", &format!("/{id}/-/status"), API).await;
        let told: Value = serde_json::from_slice(&reply.body).expect("a status");
        is_announced |= told["stop"].is_string();
        if told["state"] == "stopped" {
            assert!(is_announced, "it was stopped without a word");
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "it is not stopped: {told}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// The session's pod.
async fn uid(relay: &Relay, id: SessionId) -> Option<String> {
    relay.pod(id).await.metadata.uid
}

/// Reads a file at all gateways at the very moment at which the session is to be stopped. Returns whether it was.
async fn is_stopped_under_requests(
    (relay, gateways): (&Relay, &[Serve; 3]),
    id: SessionId,
    (file, text): (&str, &str),
    aim: &mut Aim,
) -> bool {
    let before = uid(relay, id).await;
    aim.reached(until_announced(&gateways[1], id).await).await;
    let reads = gateways.iter().map(|one| one.send("GET", file, API));
    for read in join_all(reads).await {
        assert_eq!((read.status.as_u16(), read.text()), (200, text));
    }
    // Whichever pod has answered, nobody stops it now.
    let used = uid(relay, id).await;
    sleep(LIFE / 2).await;
    assert_eq!(uid(relay, id).await, used, "{id} was stopped after its use");
    aim.next(used != before);
    used != before
}

#[tokio::test]
async fn a_session_that_nobody_uses_is_stopped_and_comes_back_with_its_files_twenty_times() {
    // Apart from the sessions of other tests, which would be stopped as well.
    let relay = Relay::apart().await;
    let (second, third) = (relay.another().await, relay.another().await);
    let settings = [&IMAGE[..], &["idle.after=1s,idle.countdown=2s"]].concat();
    let gateways = [
        relay.gateway(&settings).await,
        second.gateway(&settings).await,
        third.gateway(&settings).await,
    ];
    let begun = Instant::now();
    let (sessions, rounds) = ROUNDS;
    let stopped = join_all((0..sessions).map(async |session| {
        let id = SessionId::random();
        let file = |round: usize| format!("/{id}/chat/files/note-{round}");
        let text = |round: usize| format!("round {round} of session {session}");
        let (mut aim, mut stopped) = (Aim::of(session), 0);
        for round in 0..rounds {
            let gateway = &gateways[round % 3];
            let (note, says) = (file(round), text(round));
            let written = put(gateway, &note, says.clone()).await;
            assert!(written < 300, "{written}");
            let all = (&relay, &gateways);
            let was = is_stopped_under_requests(all, id, (&note, &says), &mut aim).await;
            stopped += usize::from(was);
            let before = uid(&relay, id).await;
            until_stopped(gateway, id).await;
            let pods = relay.within::<Pod>(&relay.namespace(id));
            let pods = pods.list(&ListParams::default()).await.expect("a list");
            assert!(pods.items.is_empty(), "{pods:#?}");
            for earlier in 0..=round {
                let read = gateway.send("GET", &file(earlier), API).await;
                assert_eq!((read.status.as_u16(), read.text()), (200, &*text(earlier)));
            }
            assert_ne!(uid(&relay, id).await, before);
        }
        stopped
    }));
    let stopped: usize = stopped.await.into_iter().sum();
    let took = begun.elapsed().as_secs_f64();
    let count = sessions * rounds;
    assert!(
        0 < stopped && stopped < count,
        "{stopped} of {count}: not at that very moment"
    );
    eprintln!(
        "measured: {count} stops for want of use and returns with all files in {took:.1} s, {stopped} more under requests"
    );
}

/// What a start meets, by which words the cluster is known to know it, and the code and the words that are to be shown.
const FAILURES: [(&str, &str, &str, &str); 9] = [
    (
        "image.tag=none",
        "ErrImageNeverPull",
        "image_unavailable",
        "ErrImageNeverPull",
    ),
    (
        "image.pullPolicy=IfNotPresent,image.repository=registry.invalid/none",
        "ErrImagePull",
        "image_unavailable",
        "registry.invalid/none",
    ),
    // What it wrote last.
    (
        "env.EXIT_CODE=3",
        "\"exitCode\":3",
        "service_exited",
        "ending as EXIT_CODE asks for",
    ),
    (
        "podTemplate.spec.containers[0].command={/none},podTemplate.spec.containers[0].name=session",
        "StartError",
        "container_unstartable",
        "/none",
    ),
    (
        "resources.requests.cpu=1000",
        "Unschedulable",
        "unschedulable",
        "Insufficient cpu",
    ),
    (
        "podTemplate.spec.containers[0].envFrom[0].configMapRef.name=none,podTemplate.spec.containers[0].name=session",
        "CreateContainerConfigError",
        "container_unstartable",
        "CreateContainerConfigError: configmap",
    ),
    // It runs, and is not ready.
    (
        "env.START_DELAY=10m,spawn.hold=1s,spawn.timeout=5s",
        "startedAt",
        "port_not_listening",
        "nothing listens on port",
    ),
    // As events say it, of the pod and of its claim. A volume that no container mounts is none of a kubelet's concern.
    (
        "podTemplate.spec.volumes[0].name=none,podTemplate.spec.volumes[0].secret.secretName=none,\
         podTemplate.spec.containers[0].volumeMounts[0].name=none,\
         podTemplate.spec.containers[0].volumeMounts[0].mountPath=/none,podTemplate.spec.containers[0].name=session",
        "MountVolume.SetUp failed",
        "workspace_unusable",
        "FailedMount: MountVolume.SetUp failed for volume",
    ),
    (
        "storage.className=nowhere",
        "nowhere",
        "workspace_unusable",
        "nowhere",
    ),
];

#[tokio::test]
async fn what_a_real_kubelet_says_of_a_failed_start_is_told() {
    let relay = Relay::new().await;
    for (setting, known, code, words) in FAILURES {
        let limits = "resources.limits.cpu=1000";
        let settings = [&IMAGE[..], &[limits, setting]].concat();
        let gateway = relay.gateway(&settings).await;
        let id = SessionId::random();
        let explained = format!("\"code\":\"{code}\"");
        let data = format!("data-code=\"{code}\"");
        let exit = if code == "service_exited" {
            "exit code 3"
        } else {
            ""
        };
        let told = Told {
            page: "chat/",
            on_page: &[&data, words, exit],
            explained: &[&explained, words, exit],
        };
        let fact: BoxFuture<'_, ()> = match code {
            "workspace_unusable" if known == "nowhere" => {
                Box::pin(event_says(&relay, id, (CLAIM, known)))
            }
            "workspace_unusable" => Box::pin(event_says(&relay, id, ("Pod", known))),
            "port_not_listening" => Box::pin(async {
                pod_says(&relay, id, known).await;
                sleep(Duration::from_secs(5)).await;
            }),
            _ => Box::pin(pod_says(&relay, id, known)),
        };
        told.in_time(&gateway, id, setting, fact).await;
    }
}

/// A service that uses more memory than it may is ended, at first to be started again at once.
#[tokio::test]
async fn a_container_over_its_memory_limit_is_told_to_be_out_of_memory() {
    let relay = Relay::new().await;
    let limit = "resources.limits.memory=64Mi,resources.requests.memory=64Mi";
    let gateway = relay.gateway(&[&IMAGE[..], &[limit]].concat()).await;
    let id = SessionId::random();
    let told = Told {
        page: "chat/",
        on_page: &["data-code=\"out_of_memory\"", "exit code 137"],
        explained: &["\"code\":\"out_of_memory\"", "exit code 137"],
    };
    let path = format!("/{id}/chat/files/large");
    let large = Bytes::from(vec![1; 256 << 20]);
    let uses = async {
        loop {
            // It keeps the whole file in memory. Cut off when it is ended meanwhile.
            let request = Request::put(&path).header("host", gateway.address.to_string());
            let request = request.body(Full::new(large.clone())).expect("a request");
            let sent = client::try_send(gateway.address, request).await;
            let has_room = sent.is_some_and(|reply| reply.status.is_success());
            assert!(!has_room, "it has room for a large file");
            sleep(Duration::from_millis(20)).await;
        }
    };
    // That it waits before the next time, a kubelet that looks too late never says.
    let fact = pod_says(&relay, id, "OOMKilled");
    tokio::select! {
        () = uses => unreachable!("it goes on for ever"),
        () = told.in_time(&gateway, id, "a container over its memory limit", fact) => {}
    }
}
