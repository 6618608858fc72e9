//! Asking the platform what a new session is made from: `GET <resolver.url>/<uuid>`.
//!
//! The answer is JSON, `{"project": {"id": …}, "user": {"id": …}, "profile": …}`, the profile of which may be left out;
//! 404 says that there is no such project. Whatever else comes, or does not come, is no answer: then a session is not
//! started, or is by the defaults, as `resolver.failure` says. Redirects are not followed.

mod config;

use std::{
    collections::BTreeSet,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, StatusCode, Uri};
use serde::Deserialize;
use tokio::{sync::Semaphore, time::timeout};
use tracing::{info, warn};

pub use config::{OnFailure, ResolverConfig};

use crate::{
    activator::{Remembered, Resolver, SpawnError},
    client::{Client, ClientError},
    session::{Grant, Plan, Reason, SessionId},
    shutdown::Drain,
};

/// The largest answer that is read: three ids have a few hundred bytes.
const LARGEST: usize = 64 * 1024;
/// How many calls are under way at a time: first requests of unknown sessions must not become the platform's load.
const CALLS: usize = 32;
/// How long it is remembered, at most, that there is no such project: somebody may be making it.
const NO_PROJECT: Duration = Duration::from_secs(5);
/// How long it is remembered that there was no answer: a page's burst of requests is one question.
const NO_ANSWER: Duration = Duration::from_secs(1);
/// The longest id that is taken, in bytes.
const LONGEST_ID: usize = 256;

/// Asks the platform.
pub struct RemoteResolver {
    shared: Arc<Shared>,
    plans: Remembered<Plan>,
    drain: Drain,
}

struct Shared {
    config: ResolverConfig,
    url: Uri,
    client: Client,
    default: Plan,
    profiles: BTreeSet<String>,
    calls: Semaphore,
    /// Whether the last call had no answer: said once, not for each session.
    failing: AtomicBool,
}

/// What the platform says of a session.
#[derive(Deserialize)]
struct Answer {
    project: Named,
    user: Named,
    profile: Option<String>,
}

#[derive(Deserialize)]
struct Named {
    id: Id,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(u64),
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
enum NoPlan {
    /// The platform knows no such project.
    #[error("the platform knows no such project")]
    NoProject,
    /// There is no such profile in the configuration.
    #[error("the platform names the profile {0:?}")]
    Profile(String),
    /// It did not answer in time, this replica's other calls included.
    #[error("no answer within {}", humantime::format_duration(*.0))]
    Late(Duration),
    /// There is no whole answer.
    #[error("it does not answer")]
    Call(#[from] ClientError),
    /// It answers with a status that says nothing.
    #[error("it answers {0}")]
    Status(StatusCode),
    /// Its answer is not the JSON that is expected.
    #[error("its answer is not as expected: {0}")]
    Form(#[from] serde_json::Error),
    /// Its answer names something that cannot be an id.
    #[error("its answer has no usable id of the {0}")]
    Id(&'static str),
}

impl RemoteResolver {
    /// Asks at `url`; a plan that is not all said there is `default`'s. `profiles` are those there are.
    ///
    /// # Errors
    /// If the authorities of `https` cannot be read.
    pub fn new(
        (config, url): (ResolverConfig, Uri),
        default: Plan,
        profiles: BTreeSet<String>,
        drain: Drain,
    ) -> Result<Self, ClientError> {
        let mut client = Client::within(config.timeout, LARGEST);
        if url.scheme() == Some(&http::uri::Scheme::HTTPS) {
            client = client.trusting(&config.ca)?;
        }
        let cache = config.cache;
        let plans = Remembered::new(move |plan: &Result<Plan, SpawnError>| match plan {
            Ok(_) => cache,
            Err(error) if *error.reason == Reason::NoProject => cache.min(NO_PROJECT),
            Err(_) => cache.min(NO_ANSWER),
        });
        let shared = Shared {
            config,
            url,
            client,
            default,
            profiles,
            calls: Semaphore::new(CALLS),
            failing: AtomicBool::new(false),
        };
        Ok(Self {
            shared: Arc::new(shared),
            plans,
            drain,
        })
    }

    /// What the platform says, or said a while ago.
    async fn said(&self, id: SessionId) -> Result<Plan, SpawnError> {
        let ask = || async {
            let shared = Arc::clone(&self.shared);
            // On control, and to its end whoever leaves.
            let asked = self
                .drain
                .spawn("resolver", async move { shared.ask(id).await });
            asked
                .await
                .unwrap_or_else(|_| Err(SpawnError::new(Reason::Internal)))
        };
        self.plans.get(id, ask).await
    }
}

impl Resolver for RemoteResolver {
    fn plan(&self, id: SessionId, _: Grant) -> BoxFuture<'_, Result<Plan, SpawnError>> {
        Box::pin(async move {
            let said = self.said(id).await;
            match said {
                Err(error)
                    if self.shared.config.failure == OnFailure::Defaults
                        && matches!(*error.reason, Reason::Unresolved { .. }) =>
                {
                    Ok(self.shared.default.clone())
                }
                said => said,
            }
        })
    }

    fn absence(&self, id: SessionId) -> BoxFuture<'_, Option<SpawnError>> {
        Box::pin(async move {
            let error = self.said(id).await.err()?;
            (*error.reason == Reason::NoProject).then_some(error)
        })
    }
}

impl Shared {
    async fn ask(&self, id: SessionId) -> Result<Plan, SpawnError> {
        let limit = self.config.timeout;
        let plan = timeout(limit, Box::pin(self.call(id))).await;
        let plan = plan.unwrap_or(Err(NoPlan::Late(limit)));
        let failed = plan.as_ref().err().filter(|error| error.is_failure());
        if let Some(error) = failed {
            if !self.failing.swap(true, Relaxed) {
                let cause = error.source().map(tracing::field::display);
                warn!(url = %self.url, %error, cause, "the resolver says nothing of use");
            }
        } else if self.failing.swap(false, Relaxed) {
            info!("the resolver answers again");
        }
        plan.map_err(NoPlan::told)
    }

    async fn call(&self, id: SessionId) -> Result<Plan, NoPlan> {
        let _place = self.calls.acquire().await;
        let base = self.url.to_string();
        let url = format!("{}/{id}", base.trim_end_matches('/'));
        let url = url
            .parse()
            .map_err(|_| ClientError::Address(self.url.clone()))?;
        let answer = self.client.call(Method::GET, &url, Bytes::new()).await?;
        match answer.status() {
            StatusCode::OK => self.plan(answer.body()),
            StatusCode::NOT_FOUND => Err(NoPlan::NoProject),
            other => Err(NoPlan::Status(other)),
        }
    }

    fn plan(&self, body: &[u8]) -> Result<Plan, NoPlan> {
        let answer: Answer = serde_json::from_slice(body)?;
        let profile = answer
            .profile
            .unwrap_or_else(|| self.default.profile.clone());
        if !self.profiles.contains(&profile) {
            return Err(NoPlan::Profile(profile));
        }
        Ok(Plan {
            project: id(answer.project.id).ok_or(NoPlan::Id("project"))?,
            user: id(answer.user.id).ok_or(NoPlan::Id("user"))?,
            profile,
        })
    }
}

/// An id as the services are told of it: it becomes an environment variable.
fn id(said: Id) -> Option<String> {
    let id = match said {
        Id::Text(text) => text,
        Id::Number(number) => number.to_string(),
    };
    let fits = (1..=LONGEST_ID).contains(&id.len()) && !id.contains(char::is_control);
    fits.then_some(id)
}

impl NoPlan {
    /// Whether the platform has not answered what it was asked.
    fn is_failure(&self) -> bool {
        !matches!(self, Self::NoProject | Self::Profile(_))
    }

    /// What people are told of it: not the platform's address.
    fn told(self) -> SpawnError {
        let reason = match &self {
            Self::NoProject => Reason::NoProject,
            Self::Profile(name) => Reason::NoProfile {
                name: name.chars().take(64).collect::<String>().into(),
            },
            Self::Call(ClientError::Late(..)) => Reason::Unresolved {
                error: Self::Late(Duration::ZERO).words(),
            },
            Self::Late(_) | Self::Call(_) | Self::Status(_) | Self::Form(_) | Self::Id(_) => {
                Reason::Unresolved {
                    error: self.words(),
                }
            }
        };
        SpawnError::because(reason, self)
    }

    fn words(&self) -> Arc<str> {
        match self {
            Self::Late(_) => "it does not answer in time".into(),
            other => other.to_string().into(),
        }
    }
}
