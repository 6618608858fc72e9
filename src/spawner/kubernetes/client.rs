//! The client of the API server: kube's layers with deadlines that suit a gateway, and one way to call.
//!
//! kube's own client connects for 30 s, waits for answers without an end, and tries again for minutes.

use std::{fmt, future::Future, time::Duration};

use futures_util::future::BoxFuture;
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Client, Config, Error,
    client::{Body, ConfigExt},
};
use rustls::crypto::aws_lc_rs;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};
use tower::{BoxError, ServiceBuilder};

/// A connection that takes longer is given up. Across a cluster it takes milliseconds.
const CONNECT: Duration = Duration::from_secs(5);
/// A call that takes longer is given up: the API server's own writes end in a second (its service level objective).
const CALL: Duration = Duration::from_secs(10);
/// For how long a call that the API server puts off is tried again.
const PATIENCE: Duration = Duration::from_secs(15);
/// For how long a call is tried again if the API server cannot be reached: long enough for one replica of it to give
/// way to another, short enough for an honest answer.
const UNREACHED: Duration = Duration::from_millis(1500);
/// First pause between tries; doubled with each.
const PAUSE: Duration = Duration::from_millis(50);
/// Longest pause between tries.
const LAST_PAUSE: Duration = Duration::from_secs(2);
/// Calls at a time. Each is a connection of its own; more of them only wait for each other in the API server.
const AT_ONCE: usize = 32;

/// Calls the API server.
pub(super) struct Api {
    client: Client,
    turns: Semaphore,
}

/// The client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no usable configuration of a cluster.
    #[error("no cluster is configured: neither a service account nor a kubeconfig can be read")]
    Config(#[source] kube::config::InferConfigError),
    /// What it says of the connection cannot be used.
    #[error("the cluster's certificates or credentials cannot be used")]
    Tls(#[source] Box<Error>),
}

/// It took longer than [`CALL`].
#[derive(Debug, thiserror::Error)]
#[error(
    "no answer from the API server within {}",
    humantime::format_duration(CALL)
)]
struct Late;

impl Api {
    /// A client of the cluster whose account this process has, or that the current kubeconfig names.
    ///
    /// # Errors
    /// If there is none, or what is said of it cannot be used.
    pub(super) fn new(mut config: Config) -> Result<Self, ClientError> {
        // Somebody else may have chosen the provider of this process; it is the same one.
        let _ = aws_lc_rs::default_provider().install_default();
        let agent = concat!("session-gateway/", env!("CARGO_PKG_VERSION"));
        config.headers.push((
            http::header::USER_AGENT,
            http::HeaderValue::from_static(agent),
        ));
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_keepalive(Some(Duration::from_secs(15)));
        connector.set_keepalive_interval(Some(Duration::from_secs(5)));
        connector.set_keepalive_retries(Some(3));
        let tls = |error| ClientError::Tls(Box::new(error));
        let connector = config
            .rustls_https_connector_with_connector(connector)
            .map_err(tls)?;
        let http = HttpClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .build::<_, Body>(connector);
        let service = ServiceBuilder::new()
            .layer(config.base_uri_layer())
            .option_layer(config.auth_layer().map_err(tls)?)
            .layer(config.extra_headers_layer().map_err(tls)?)
            .map_err(BoxError::from)
            .service(http);
        Ok(Self {
            client: Client::new(service, config.default_namespace),
            turns: Semaphore::new(AT_ONCE),
        })
    }

    /// All objects of a kind, in every namespace.
    pub(super) fn everywhere<K>(&self) -> kube::Api<K>
    where
        K: kube::Resource<DynamicType = ()>,
    {
        kube::Api::all(self.client.clone())
    }

    /// The objects of a kind in one namespace.
    pub(super) fn within<K>(&self, namespace: &str) -> kube::Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        kube::Api::namespaced(self.client.clone(), namespace)
    }

    /// Makes a call until it has an answer: what the API server puts off, and what did not reach it, is tried again
    /// for a bounded time. Every call must be one that may be made twice.
    ///
    /// # Errors
    /// What the last try said.
    pub(super) fn call<'a, T, F>(
        &'a self,
        attempt: impl Fn() -> F + Send + 'a,
    ) -> BoxFuture<'a, Result<T, Error>>
    where
        T: Send + 'a,
        F: Future<Output = Result<T, Error>> + Send + 'a,
    {
        Box::pin(self.tried(attempt))
    }

    async fn tried<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let begun = Instant::now();
        let mut pause = PAUSE;
        loop {
            let outcome = {
                let turn = self.turns.acquire().await;
                let outcome = timeout(CALL, attempt()).await;
                drop(turn);
                outcome.unwrap_or_else(|_| Err(Error::Service(Box::new(Late))))
            };
            let Err(error) = outcome else { return outcome };
            let Some(wait) = again(&error, pause, begun.elapsed()) else {
                return Err(error);
            };
            // Replicas that were put off together must not come back together.
            sleep(wait.mul_f64(1.0 + jitter() / 2.0)).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }
}

/// How long to wait before the next try, if there is to be one.
fn again(error: &Error, pause: Duration, elapsed: Duration) -> Option<Duration> {
    let (wait, patience) = match error {
        Error::Api(status) if matches!(status.code, 429 | 503 | 504) || is_passing(status) => {
            let asked = status
                .details
                .as_ref()
                .map_or(0, |details| details.retry_after_seconds);
            (pause.max(Duration::from_secs(asked.into())), PATIENCE)
        }
        Error::Api(_) => return None,
        Error::Service(_) | Error::HyperError(_) => (pause, UNREACHED),
        _ => return None,
    };
    (elapsed + wait < patience).then_some(wait)
}

/// A server error that is not about what was asked for.
fn is_passing(status: &kube::core::Status) -> bool {
    status.code == 500 && matches!(status.reason.as_str(), "InternalError" | "ServerTimeout")
}

/// A number from 0 to 1.
fn jitter() -> f64 {
    let random = uuid::Uuid::new_v4().as_u128() as u32;
    f64::from(random) / f64::from(u32::MAX)
}

/// What an error of the API server says, without what it is wrapped in.
pub(super) fn words(error: &Error) -> String {
    match error {
        Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        Error::Service(inner) => Chain(&**inner).to_string(),
        other => Chain(other).to_string(),
    }
}

/// An error with all its causes, each told once.
struct Chain<'a>(&'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let words = error.to_string();
            if !said.contains(&words) {
                write!(f, ": {words}")?;
                said = words;
            }
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn status(code: u16, reason: &str) -> Error {
        Error::Api(Status::failure("no", reason).with_code(code).boxed())
    }

    #[test]
    fn what_was_put_off_is_tried_again_and_what_was_refused_is_not() {
        let soon = Duration::from_secs(1);
        for (error, is_tried) in [
            (status(429, "TooManyRequests"), true),
            (status(503, "ServiceUnavailable"), true),
            (status(500, "InternalError"), true),
            (status(403, "Forbidden"), false),
            (status(409, "AlreadyExists"), false),
            (status(422, "Invalid"), false),
            (Error::Service(Box::new(Late)), true),
        ] {
            assert_eq!(again(&error, PAUSE, soon).is_some(), is_tried, "{error}");
            assert_eq!(again(&error, PAUSE, PATIENCE), None, "{error}");
        }
        assert_eq!(
            again(&Error::Service(Box::new(Late)), PAUSE, UNREACHED),
            None
        );
    }
}
