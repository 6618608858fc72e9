//! The program itself, `session-gateway serve`, as a process with a folder of its own.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use session_gateway::session::SessionId;

use super::{DEADLINE, Reply, client};

const PROGRAM: &str = env!("CARGO_BIN_EXE_session-gateway");

/// A gateway that runs until it is dropped, and then leaves nothing.
pub struct Serve {
    child: Child,
    /// What it wrote to its log.
    pub log: Log,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    /// The session it tells to open.
    pub id: SessionId,
}

/// The lines of a log, as they come. They are shown as well, if the test fails.
#[derive(Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// Reads to the end, in a thread of its own.
    fn follow(&self, from: ChildStderr) {
        let lines = Arc::clone(&self.0);
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                eprintln!("{line}");
                lines.lock().unwrap().push(line);
            }
        });
    }

    /// How many lines there are with this text.
    pub fn count(&self, text: &str) -> usize {
        let lines = self.0.lock().unwrap();
        lines.iter().filter(|line| line.contains(text)).count()
    }
}

impl Serve {
    /// Starts the program on free ports and waits for what it says.
    pub fn start(data: &Path, settings: &[String]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.arg("serve");
        command.args(["--set", &format!("local.data={}", data.display())]);
        Self::spawn(command, settings)
    }

    /// As [`start`](Self::start), for a program that may have so many files open.
    pub fn limited(data: &Path, settings: &[String], descriptors: usize) -> Self {
        let mut command = Command::new("sh");
        let limit = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
        command.args(["-c", &limit, PROGRAM, "serve"]);
        command.args(["--set", &format!("local.data={}", data.display())]);
        Self::spawn(command, settings)
    }

    /// Starts the program with sessions in the cluster of this kubeconfig.
    pub fn in_cluster(kubeconfig: &str, settings: &[String]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.arg("serve").env("KUBECONFIG", kubeconfig);
        Self::spawn(command, settings)
    }

    fn spawn(mut command: Command, settings: &[String]) -> Self {
        command.args([
            "--set",
            "listen=127.0.0.1:0,admin.listen=127.0.0.1:0,log.level=warn",
        ]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let log = Log::default();
        log.follow(child.stderr.take().expect("it was asked for"));
        let mut said = BufReader::new(child.stdout.take().expect("it was asked for"));
        let (mut text, mut read) = (String::new(), 1);
        while read > 0 && !text.contains("Ctrl-C") {
            read = said.read_line(&mut text).expect("it says text");
        }
        let mut urls = text.split("://").skip(1);
        let mut next = || {
            let url = urls
                .next()
                .unwrap_or_else(|| panic!("no address in {text}"));
            url.split_whitespace().next().expect("it is not empty")
        };
        let (open, admin) = (next(), next());
        let (address, path) = open.split_once('/').expect("it has a path");
        let admin = admin.split('/').next().expect("it has a host");
        Self {
            child,
            log,
            address: address.parse().expect("an address"),
            admin: admin.parse().expect("an address"),
            id: path.trim_matches('/').parse().expect("a session"),
        }
    }

    /// Its resident memory in bytes.
    pub fn resident(&self) -> usize {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .expect("it has memory");
        let kib: usize = line
            .split_whitespace()
            .nth(1)
            .and_then(|kib| kib.parse().ok())
            .expect("a number");
        kib * 1024
    }

    /// Sends a signal by its name, such as `KILL`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let kill = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(kill.expect("kill is there").success());
    }

    /// Waits until it has ended.
    pub fn ended(&mut self) -> ExitStatus {
        self.child.wait().expect("it was started here")
    }

    /// Sends a request to the gateway and reads its answer.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        let request = request(self.address, method, path, headers);
        client::send(self.address, request).await
    }

    /// Where it expects this service of a session, once that is started.
    pub async fn place(&self, id: SessionId, service: &str) -> SocketAddr {
        let path = format!("/api/sessions/{id}");
        let address = async {
            loop {
                let told = self.ask("GET", &path).await;
                let told: serde_json::Value = serde_json::from_slice(&told.body).expect("JSON");
                let services = told["services"].as_array().cloned().unwrap_or_default();
                let found = services.iter().find(|one| one["name"] == service);
                if let Some(address) = found.and_then(|found| found["address"].as_str()) {
                    return address.parse().expect("an address");
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let address = tokio::time::timeout(DEADLINE, address).await;
        address.expect("it is started")
    }

    /// Sends a request to the operators' port and reads its answer.
    pub async fn ask(&self, method: &str, path: &str) -> Reply {
        client::send(self.admin, request(self.admin, method, path, &[])).await
    }
}

/// A request that may be cut off at any moment.
pub async fn try_send(address: SocketAddr, method: &str, path: &str) -> Option<Reply> {
    client::try_send(address, request(address, method, path, &[])).await
}

/// As [`try_send`], a GET with these headers.
pub async fn try_send_with(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
) -> Option<Reply> {
    client::try_send(address, request(address, "GET", path, headers)).await
}

fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path);
    if headers.iter().all(|(name, _)| *name != "host") {
        request = request.header("host", address.to_string());
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(Bytes::new())).expect("a request")
}

impl Drop for Serve {
    fn drop(&mut self) {
        // Its supervisors end all else. If it has ended already there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
