//! The calls of the admin API that `sessions` makes.

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::ControlFlow;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use http::{Method, Response, StatusCode, Uri};
use serde::Deserialize;
use serde_json::Value;

use crate::cli::Failure;
use crate::client::{Client, ClientError};
use crate::session::SessionId;

/// Sessions of one page: few calls, and each answer far below what is read.
const PAGE: usize = 1000;

/// The admin API at one address.
pub(super) struct Api {
    client: Client,
    base: String,
}

/// Which sessions are listed.
#[derive(Debug, Args)]
pub(in crate::cli) struct Filter {
    /// Those in this state
    #[arg(long, value_name = "STATE", value_enum)]
    state: Option<State>,

    /// Those of this user of the platform
    #[arg(long, value_name = "ID")]
    user: Option<String>,

    /// Those of this project of the platform
    #[arg(long, value_name = "ID")]
    project: Option<String>,

    /// Those that are to be removed, since nobody has used them for retention.after, and those that are protected from
    /// it
    #[arg(long)]
    pub(super) unused: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum State {
    Absent,
    Stopped,
    Vanished,
    Starting,
    Failed,
    Stopping,
    Running,
}

/// Some of the sessions, and the id after which the others come.
#[derive(Debug, Deserialize)]
struct Page {
    sessions: Vec<Value>,
    next: Option<String>,
}

/// Why a call was refused (RFC 9457).
#[derive(Debug, Deserialize)]
struct Problem {
    title: String,
    detail: Option<String>,
}

impl Filter {
    /// As the end of a query.
    fn query(&self) -> String {
        let state = self.state.and_then(|state| state.to_possible_value());
        let state = state.map(|state| state.get_name().to_owned());
        let fields = [
            ("state", &state),
            ("user", &self.user),
            ("project", &self.project),
        ];
        let given = fields
            .iter()
            .filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let fields: String = given
            .map(|(name, value)| format!("&{name}={}", escaped(value)))
            .collect();
        fields + if self.unused { "&unused=true" } else { "" }
    }
}

/// What may stand in a query as it is, and all else as its bytes (RFC 3986, section 2.1).
fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

impl Api {
    /// At this address, with this token if there is one.
    pub(super) fn new(admin: SocketAddr, token: Option<&str>) -> anyhow::Result<Self> {
        // A gateway that listens on all addresses is reached on this machine's own.
        let ip = match admin.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let client = match token {
            Some(token) => Client::new()
                .with_token(token)
                .context("the token is not one line of visible characters")?,
            None => Client::new(),
        };
        Ok(Self {
            client,
            base: format!("http://{}/", SocketAddr::new(ip, admin.port())),
        })
    }

    /// All sessions that fit, page by page.
    pub(super) async fn list(&self, filter: &Filter) -> Result<Vec<Value>, Failure> {
        let (mut all, mut after) = (Vec::new(), None);
        let first = format!("api/sessions?limit={PAGE}{}", filter.query());
        loop {
            let path = match after {
                Some(after) => format!("{first}&after={after}"),
                None => first.clone(),
            };
            let page: Page = serde_json::from_value(self.call(Method::GET, &path).await?)
                .context("the admin API answered something that is no list of sessions")?;
            all.extend(page.sessions);
            let Some(next) = page.next else {
                return Ok(all);
            };
            let next: SessionId = next
                .parse()
                .context("the admin API named a next page that is no session id")?;
            if after.replace(next) == Some(next) {
                return Err(anyhow!("the admin API answers the same page again").into());
            }
        }
    }

    pub(super) async fn show(&self, id: SessionId) -> Result<Value, Failure> {
        self.call(Method::GET, &format!("api/sessions/{id}")).await
    }

    pub(super) async fn explain(&self, id: SessionId) -> Result<Value, Failure> {
        self.call(Method::GET, &format!("api/sessions/{id}/explain"))
            .await
    }

    /// Does what the call of this name does.
    pub(super) async fn act(&self, id: SessionId, name: &str) -> Result<Value, Failure> {
        self.call(Method::POST, &format!("api/sessions/{id}/{name}"))
            .await
    }

    pub(super) async fn delete(&self, id: SessionId) -> Result<Value, Failure> {
        self.call(Method::DELETE, &format!("api/sessions/{id}"))
            .await
    }

    /// Reads what is told as long as it is told.
    pub(super) async fn follow(
        &self,
        path: &str,
        each: &mut (dyn FnMut(&[u8]) -> ControlFlow<()> + Send),
    ) -> Result<(), Failure> {
        let url = self.url(path)?;
        let answer = Box::pin(self.client.follow(&url, each)).await;
        let answer = answer.map_err(|error| self.unreachable(&error))?;
        if answer.status().is_success() {
            return Ok(());
        }
        Err(self.refused(&url, &answer))
    }

    async fn call(&self, method: Method, path: &str) -> Result<Value, Failure> {
        let url = self.url(path)?;
        let answer = self.client.call(method, &url, Bytes::new()).await;
        let answer = answer.map_err(|error| self.unreachable(&error))?;
        if !answer.status().is_success() {
            return Err(self.refused(&url, &answer));
        }
        let told = serde_json::from_slice(answer.body()).with_context(|| {
            format!(
                "the admin API at {} answered something that is no JSON",
                self.base
            )
        });
        Ok(told?)
    }

    fn url(&self, path: &str) -> anyhow::Result<Uri> {
        Ok(format!("{}{path}", self.base).parse()?)
    }

    fn refused(&self, url: &Uri, answer: &Response<Bytes>) -> Failure {
        let Ok(problem) = serde_json::from_slice::<Problem>(answer.body()) else {
            return Failure::Run(anyhow!(
                "{url} answered {}: is {} the admin API?",
                answer.status(),
                self.base
            ));
        };
        let said = match problem.detail {
            Some(detail) => anyhow!("{}: {detail}", problem.title),
            None => anyhow!(problem.title),
        };
        match answer.status() {
            StatusCode::NOT_FOUND => Failure::Missing(said),
            StatusCode::UNAUTHORIZED => {
                Failure::Run(said.context("--token-file names a file with it"))
            }
            _ => Failure::Run(said),
        }
    }

    /// Says what is wrong in one line, from the bottom of the chain, and what to do.
    fn unreachable(&self, error: &ClientError) -> Failure {
        let first: &(dyn Error + 'static) = error;
        let cause = std::iter::successors(Some(first), |&error| error.source())
            .map(|error| {
                error
                    .downcast_ref()
                    .map_or_else(|| error.to_string(), |io: &io::Error| io.kind().to_string())
            })
            .last()
            .unwrap_or_default();
        Failure::Unreachable(anyhow!(
            "cannot reach the admin API at {}: {cause}. Is `session-gateway serve` running? \
             --admin gives another address",
            self.base
        ))
    }
}
