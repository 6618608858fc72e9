//! A real control plane with a node whose pods only seem to run, shared by all tests of a run, and gateways on it.
//!
//! ```ignore
//! let relay = Relay::new().await;
//! let gateway = relay.gateway(&[]).await;
//! ```
//!
//! Every gateway has a [`Relay`] of its own before the API server, which counts its calls and does as told. The pods'
//! addresses are all of this machine, so one listener of the test itself is that port of every pod.

mod objects;

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Method, Request, Response};
use http_body_util::{Either, Full, StreamBody};
use hyper::{body::Frame, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{Namespace, Pod},
};
use kube::{
    Api, Client, Config, Resource,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::Deserialize;
use serde_json::{Value, json};
use session_gateway::session::SessionId;
use tokio::net::TcpListener;

use super::{DEADLINE, Reply, client, serve::Serve};

/// Where the test command says what it started.
const CLUSTER: &str = "SESSION_GATEWAY_TEST_CLUSTER";

/// What a client that is no browser sends.
pub const API: &[(&str, &str)] = &[("accept", "application/json")];
/// What a browser sends for a page.
pub const NAVIGATION: &[(&str, &str)] = &[
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-site", "none"),
    ("accept", "text/html"),
];
/// What a browser sends for a script of a page.
pub const ASSET: &[(&str, &str)] = &[
    ("sec-fetch-mode", "no-cors"),
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-dest", "script"),
];

/// In which namespace each session is, unless gateways are told otherwise.
const OWN: &str = "{uuid}";

/// The cluster of this run.
#[derive(Deserialize)]
struct Cluster {
    kubeconfig: String,
    control: String,
    audit: String,
    /// Of the account that the gateway's chart makes: gateways may do what it may do.
    token: String,
}

/// A way to the API server that does as told.
pub struct Relay {
    id: u64,
    kubeconfig: String,
    control: SocketAddr,
    /// For the test's own questions, past the relay.
    pub client: Client,
    /// Ports that all pods have.
    ports: [u16; 3],
    /// In which namespace each session is, as gateways are told.
    namespace: String,
}

/// One call that came through.
#[derive(Debug, Clone, Deserialize)]
pub struct Call {
    pub verb: String,
    pub resource: String,
    pub namespace: String,
    pub name: String,
    pub status: u16,
    #[serde(default)]
    pub cut: String,
}

impl Cluster {
    fn of_this_run() -> Self {
        let said = std::env::var(CLUSTER).unwrap_or_else(|_| {
            panic!("{CLUSTER} is not set: these tests run by tests/run --only kubernetes,node")
        });
        serde_json::from_str(&said).expect("it is what the cluster said")
    }
}

impl Relay {
    /// A new relay, and listeners of this test for the pods of its gateways, which may do what the chart allows them.
    pub async fn new() -> Self {
        let token = Cluster::of_this_run().token;
        Self::made(&json!({ "token": token })).await
    }

    /// As [`new`](Self::new), for gateways that may read every Secret: which ones they may, the chart's values say.
    pub async fn with_every_secret() -> Self {
        Self::made(&Value::Null).await
    }

    async fn made(asked: &Value) -> Self {
        let cluster = Cluster::of_this_run();
        let control = cluster
            .control
            .trim_start_matches("http://")
            .parse()
            .expect("an address");
        let made = ask(control, Method::POST, "/relays", asked).await;
        let kubeconfig = Kubeconfig::read_from(&cluster.kubeconfig).expect("a kubeconfig");
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options);
        let client = Client::try_from(config.await.expect("a usable one")).expect("a client");
        let mut ports = [0; 3];
        for port in &mut ports {
            *port = pods(|local, path| format!("{local} {path}")).await;
        }
        Self {
            id: made["id"].as_u64().expect("an id"),
            kubeconfig: made["kubeconfig"].as_str().expect("a path").to_owned(),
            control,
            client,
            ports,
            namespace: OWN.to_owned(),
        }
    }

    /// As [`new`](Self::new), for gateways that have nothing to do with the sessions of those of other tests.
    pub async fn apart() -> Self {
        let mut relay = Self::new().await;
        relay.namespace = format!("apart-{}-{{uuid}}", relay.id);
        relay
    }

    /// A second relay, for another gateway whose pods are the same.
    pub async fn another(&self) -> Self {
        let mut other = Self::new().await;
        other.ports = self.ports;
        other.namespace.clone_from(&self.namespace);
        other
    }

    /// A second relay, for an operator of the same sessions, who may do anything.
    pub async fn operator(&self) -> Self {
        let mut other = Self::with_every_secret().await;
        other.ports = self.ports;
        other.namespace.clone_from(&self.namespace);
        other
    }

    /// A gateway on this relay, once it knows all pods.
    pub async fn gateway(&self, settings: &[&str]) -> Serve {
        let gateway = self.blind_gateway(settings);
        let ready = async {
            while gateway.ask("GET", "/readyz").await.status != 200 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, ready)
            .await
            .expect("the gateway becomes ready");
        self.clear().await;
        gateway
    }

    /// A gateway on this relay, which may be away.
    pub fn blind_gateway(&self, settings: &[&str]) -> Serve {
        Serve::in_cluster(&self.kubeconfig, &self.settings(settings))
    }

    /// The settings of gateways on this relay, with more of them.
    fn settings(&self, more: &[&str]) -> Vec<String> {
        let [preview, chat, vscode] = self.ports;
        let own = [
            "spawner=kubernetes".to_owned(),
            "auth.none_is_fine=true".to_owned(),
            "image.repository=dev-session".to_owned(),
            format!(
                "service.preview.port={preview},service.chat.port={chat},service.vscode.port={vscode}"
            ),
        ];
        // Braces alone are a list on the command line.
        let apart = (self.namespace != OWN).then(|| format!("namespace={}", self.namespace));
        own.into_iter()
            .chain(apart)
            .chain(more.iter().map(|&set| set.to_owned()))
            .collect()
    }

    /// The three ports of all pods: preview, chat and vscode.
    pub fn ports(&self) -> [u16; 3] {
        self.ports
    }

    /// Runs the program as an operator would, with the settings of the gateways.
    pub fn command(&self, words: &[&str], settings: &[&str]) -> std::process::Output {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_session-gateway"));
        command.args(words).env("KUBECONFIG", &self.kubeconfig);
        for setting in self.settings(settings) {
            command.args(["--set", &setting]);
        }
        command.output().expect("the program runs")
    }

    /// The calls since they were last forgotten.
    pub async fn calls(&self) -> Vec<Call> {
        let calls = ask(
            self.control,
            Method::GET,
            &format!("/relays/{}/calls", self.id),
            &Value::Null,
        )
        .await;
        serde_json::from_value(calls).expect("calls")
    }

    /// The calls that requests caused: without the watch, and without the events that are read of pods that wait, which
    /// may be those of other tests.
    pub async fn asked(&self) -> Vec<Call> {
        let mut calls = self.calls().await;
        calls.retain(|call| call.verb != "watch" && call.resource != "events");
        calls
    }

    /// The calls that change something, since they were last forgotten.
    pub async fn writes(&self) -> Vec<Call> {
        let mut calls = self.calls().await;
        calls.retain(|call| !matches!(call.verb.as_str(), "get" | "list" | "watch"));
        calls
    }

    /// Forgets the calls.
    pub async fn clear(&self) {
        ask(
            self.control,
            Method::DELETE,
            &format!("/relays/{}/calls", self.id),
            &Value::Null,
        )
        .await;
    }

    /// Does as told from now on; an empty mapping ends it.
    pub async fn faults(&self, faults: Value) {
        ask(
            self.control,
            Method::PUT,
            &format!("/relays/{}/faults", self.id),
            &faults,
        )
        .await;
    }

    /// Kills the API server of all, or starts it again and waits until it is ready.
    pub async fn api_server(&self, runs: bool) {
        let state = if runs { "running" } else { "stopped" };
        let wanted = json!({ "apiserver": state });
        ask(self.control, Method::PUT, "/control-plane", &wanted).await;
    }

    /// Ends the running watches, `gone` as too old to go on; returns how many there were.
    pub async fn end_watches(&self, gone: bool) -> u64 {
        let path = format!("/relays/{}/end-watches", self.id);
        let ended = ask(self.control, Method::POST, &path, &json!({ "gone": gone })).await;
        ended["ended"].as_u64().expect("a number")
    }

    /// Gives the pod of a session another address.
    pub async fn move_pod(&self, id: SessionId, address: IpAddr) {
        let (namespace, name) = (self.namespace(id), format!("dev-session-{id}"));
        let pod = json!({ "namespace": namespace, "name": name, "ip": address });
        ask(self.control, Method::POST, "/pods-address", &pod).await;
    }

    /// The namespace of a session.
    pub fn namespace(&self, id: SessionId) -> String {
        self.namespace.replace("{uuid}", &id.to_string())
    }

    /// The objects of one kind in a namespace.
    pub fn within<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// The namespaces.
    pub fn namespaces(&self) -> Api<Namespace> {
        Api::all(self.client.clone())
    }

    /// The pod of a session, which must be there.
    pub async fn pod(&self, id: SessionId) -> Pod {
        self.within(&self.namespace(id))
            .get(&format!("dev-session-{id}"))
            .await
            .expect("its pod is there")
    }
}

/// Serves a port of all pods; answers with what `tell` makes of the address and the path that were asked. The answer to
/// `.../held` does not end by itself.
pub async fn pods(tell: impl Fn(IpAddr, &str) -> String + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let local = stream.local_addr().expect("it is connected").ip();
            let tell = tell.clone();
            let answer = service_fn(move |request: Request<hyper::body::Incoming>| {
                let path = request.uri().path();
                let text = Bytes::from(tell(local, path));
                let body = if path.ends_with("/held") {
                    let first = Ok::<_, Infallible>(Frame::data(text));
                    let held = stream::iter([first]).chain(stream::pending());
                    Either::Right(StreamBody::new(held))
                } else {
                    Either::Left(Full::new(text))
                };
                async move { Ok::<_, Infallible>(Response::new(body)) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    port
}

/// What gateways wrote of a session, and when, by the API server's own record.
pub fn audit(id: SessionId) -> Vec<(Timestamp, String)> {
    let log = std::fs::read_to_string(Cluster::of_this_run().audit).expect("the record is there");
    let id = id.to_string();
    let entries = log.lines().filter(|line| line.contains(&id));
    let entries = entries.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    entries
        .filter_map(|entry| {
            let verb = entry["verb"].as_str()?;
            let agent = entry["userAgent"].as_str()?;
            let is_ours =
                agent.starts_with("session-gateway/") && !["get", "list", "watch"].contains(&verb);
            let time = entry["stageTimestamp"].as_str()?.parse().ok()?;
            is_ours.then(|| (time, format!("{verb} {}", entry["objectRef"]["resource"])))
        })
        .collect()
}

/// Runs Helm as an administrator; returns what it prints.
pub fn helm(words: &[String]) -> String {
    let program = std::env::var("HELM").expect("HELM is set by tests/run");
    let ended = std::process::Command::new(program)
        .args(words)
        .args(["--kubeconfig", &Cluster::of_this_run().kubeconfig])
        .output()
        .expect("helm runs");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "helm {words:?}: {said}");
    String::from_utf8(ended.stdout).expect("text")
}

/// Asks the control server; a refusal is a mistake of the test.
async fn ask(control: SocketAddr, method: Method, path: &str, body: &Value) -> Value {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", control.to_string());
    let request = request
        .body(Full::new(Bytes::from(body)))
        .expect("a request");
    let reply: Reply = client::send(control, request).await;
    assert_eq!(reply.status, 200, "{path}: {reply:?}");
    serde_json::from_slice(&reply.body).expect("it answers JSON")
}
