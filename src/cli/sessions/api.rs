//! The calls of the admin API that `sessions` makes.

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http::{Method, Uri};
use serde::Deserialize;
use serde_json::Value;

use crate::client::Client;
use crate::session::SessionId;

/// The admin API at one address.
pub(super) struct Api {
    client: Client,
    base: String,
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

impl Api {
    pub(super) fn new(admin: SocketAddr) -> Self {
        // A gateway that listens on all addresses is reached on this machine's own.
        let ip = match admin.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        Self {
            client: Client::new(),
            base: format!("http://{}/", SocketAddr::new(ip, admin.port())),
        }
    }

    /// All sessions, page by page.
    pub(super) async fn list(&self) -> anyhow::Result<Vec<Value>> {
        let mut all = Vec::new();
        let mut path = "api/sessions".to_owned();
        loop {
            let page: Page = serde_json::from_value(self.call(Method::GET, &path).await?)
                .context("the admin API answered something that is no list of sessions")?;
            all.extend(page.sessions);
            let Some(next) = page.next else {
                return Ok(all);
            };
            let next: SessionId = next
                .parse()
                .context("the admin API named a next page that is no session id")?;
            let following = format!("api/sessions?after={next}");
            if following == path {
                bail!("the admin API answers the same page again");
            }
            path = following;
        }
    }

    pub(super) async fn show(&self, id: SessionId) -> anyhow::Result<Value> {
        self.call(Method::GET, &format!("api/sessions/{id}")).await
    }

    pub(super) async fn start(&self, id: SessionId) -> anyhow::Result<Value> {
        self.call(Method::POST, &format!("api/sessions/{id}/start"))
            .await
    }

    pub(super) async fn stop(&self, id: SessionId) -> anyhow::Result<Value> {
        self.call(Method::POST, &format!("api/sessions/{id}/stop"))
            .await
    }

    async fn call(&self, method: Method, path: &str) -> anyhow::Result<Value> {
        let url: Uri = format!("{}{path}", self.base).parse()?;
        let answer = self.client.call(method, &url, Bytes::new()).await;
        let answer = answer.map_err(|error| self.unreachable(&error))?;
        if answer.status().is_success() {
            return serde_json::from_slice(answer.body()).with_context(|| {
                format!(
                    "the admin API at {} answered something that is no JSON",
                    self.base
                )
            });
        }
        Err(match serde_json::from_slice::<Problem>(answer.body()) {
            Ok(Problem {
                title,
                detail: Some(detail),
            }) => anyhow!("{title}: {detail}"),
            Ok(Problem {
                title,
                detail: None,
            }) => anyhow!(title),
            Err(_) => anyhow!(
                "{url} answered {}: is {} the admin API?",
                answer.status(),
                self.base
            ),
        })
    }

    /// Says what is wrong in one line, from the bottom of the chain, and what to do.
    fn unreachable(&self, error: &(dyn Error + 'static)) -> anyhow::Error {
        let cause = std::iter::successors(Some(error), |&error| error.source())
            .map(|error| {
                error
                    .downcast_ref()
                    .map_or_else(|| error.to_string(), |io: &io::Error| io.kind().to_string())
            })
            .last()
            .unwrap_or_default();
        anyhow!(
            "cannot reach the admin API at {}: {cause}. Is `session-gateway serve` running? \
             --admin gives another address",
            self.base
        )
    }
}
