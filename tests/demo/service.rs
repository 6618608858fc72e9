//! A built-in service as a process, and a client of it.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use futures_util::StreamExt;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use session_gateway::shutdown::{Drain, Ending};
use tempfile::TempDir;
use tokio::{net::TcpStream, runtime::Handle, time::timeout};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

/// Ten times what the slowest step takes here.
pub(crate) const LONG: Duration = Duration::from_secs(10);

pub(crate) const BASE: &str = "/3f0e3a52-6ff5-4a3b-9c39-1e6a1f0ce1a7/preview";

pub(crate) struct Service {
    child: Child,
    pub(crate) address: String,
    pub(crate) folder: TempDir,
    drain: Drain,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Service {
    pub(crate) fn start(arguments: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("workspace")).unwrap();
        prepare(&folder.path().join("workspace"));
        let mut service = Self::launch(folder, arguments, "0", "/usr/bin:/bin");
        let mut line = String::new();
        BufReader::new(service.child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap();
        service.address = address.split('/').next().unwrap().to_owned();
        service
    }

    /// Starts a service in a folder with a workspace, without waiting for it.
    pub(crate) fn launch(folder: TempDir, arguments: &[&str], port: &str, path: &str) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_session-gateway"))
            .arg("demo")
            .args(arguments)
            .env("PORT", port)
            .env("PATH", path)
            .env("BASE_PATH", BASE)
            .env("VSCODE_BASE_PATH", "/s/vscode")
            .env("WORKSPACE", folder.path().join("workspace"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let address = format!("127.0.0.1:{port}");
        let drain = Ending::new().drain(Handle::current());
        Self {
            child,
            address,
            folder,
            drain,
        }
    }

    pub(crate) fn workspace(&self) -> std::path::PathBuf {
        self.folder.path().join("workspace")
    }

    pub(crate) async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> http::Response<Incoming> {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        self.drain.spawn("connection", connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.address);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(Bytes::from(body.to_owned())))
            .unwrap();
        timeout(LONG, send.send_request(request))
            .await
            .unwrap()
            .unwrap()
    }

    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let (parts, body) = self.open(method, path, headers, body).await.into_parts();
        let body = timeout(LONG, body.collect())
            .await
            .unwrap()
            .unwrap()
            .to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], "").await
    }

    pub(crate) async fn socket(&self, path: &str) -> WebSocketStream<TcpStream> {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        client_async(format!("ws://{}{path}", self.address), stream)
            .await
            .unwrap()
            .0
    }

    pub(crate) fn id(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Ends the service and keeps its folder.
    pub(crate) fn into_folder(mut self) -> TempDir {
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) async fn end(&mut self) -> ExitStatus {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, ended).await.expect("it ends")
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

pub(crate) async fn next(socket: &mut WebSocketStream<TcpStream>) -> Message {
    timeout(LONG, socket.next())
        .await
        .expect("a message comes")
        .expect("the socket is open")
        .unwrap()
}
