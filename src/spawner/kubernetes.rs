//! Sessions as pods of a Kubernetes cluster, which is their only store: any replica starts and serves any session.
//!
//! A start is one straight line ([`make`]). What runs is learned from one watch ([`watch`]), never from a reply. The
//! durable record is the session's ServiceAccount ([`record`]).
#![expect(
    clippy::large_futures,
    reason = "objects of the cluster take kilobytes, and there is one such task for a start or a stop"
)]

use std::{fmt::Debug, sync::Arc};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Pod, ServiceAccount},
    api::networking::v1::NetworkPolicyPeer,
};
use kube::{
    Config, Error,
    api::{ListParams, LogParams, Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::json;

pub use client::ClientError;
pub use config::KubernetesConfig;
pub use import::{Address, Difference, Release};
pub use objects::{Objects, Template};

use crate::{
    activator::{Facts, Inspect, InstanceUid, Listed, Named, Seen, SpawnError, Spawner},
    session::{Found, Plan, Reason, Services, SessionId, Stage},
    shutdown::{self, Drain},
};
use client::{Api, words};
use make::Make;
use names::{USED, UUID};
use watch::Pods;

mod book;
mod client;
mod config;
mod events;
mod gateway;
mod import;
mod make;
mod names;
mod objects;
mod pod;
mod record;
mod remove;
mod status;
mod stop;
mod text;
mod watch;

/// Accounts in one page of a list.
const PAGE: u32 = 500;
/// The last lines of a container's output that are shown.
const TAIL: i64 = 20;
/// And the most of them in bytes, however long they are.
const TAIL_BYTES: i64 = 64 * 1024;

/// Runs sessions as pods. Cheap to clone.
#[derive(Clone)]
pub struct KubernetesSpawner {
    cluster: Arc<Cluster>,
    drain: Drain,
}

/// What all sessions share.
struct Cluster {
    api: Api,
    config: KubernetesConfig,
    services: Services,
    /// Who reaches a session's pod, unless the configuration says it.
    gateway: Vec<NetworkPolicyPeer>,
    /// The gateway's own namespace.
    namespace: String,
    /// The API server's address, for people.
    server: String,
    pods: Pods,
}

impl KubernetesSpawner {
    /// Reads the service account of this pod, or else the current kubeconfig. Nothing is asked of the cluster: it may
    /// be away for now.
    ///
    /// # Errors
    /// If there is neither, or it cannot be used.
    pub async fn connect(
        config: KubernetesConfig,
        services: Services,
        drain: Drain,
    ) -> Result<Self, ClientError> {
        let kube = Config::infer().await.map_err(ClientError::Config)?;
        let server = kube.cluster_url.to_string();
        let namespace = kube.default_namespace.clone();
        let gateway = gateway::peers(&kube);
        let cluster = Cluster {
            api: Api::new(kube)?,
            config,
            services,
            gateway,
            namespace,
            server,
            pods: Pods::default(),
        };
        Ok(Self {
            cluster: Arc::new(cluster),
            drain,
        })
    }

    /// The address of the cluster's API server, for people.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.cluster.server
    }

    /// Runs `work` to its end, whether or not the caller waits for it.
    fn whole<T, F>(&self, work: F) -> BoxFuture<'static, Result<T, SpawnError>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, SpawnError>> + Send + 'static,
    {
        let task = self.drain.spawn("cluster", work);
        Box::pin(async move {
            let done = task.await;
            done.unwrap_or_else(|_| Err(SpawnError::new(Reason::Internal)))
        })
    }
}

impl Spawner for KubernetesSpawner {
    fn watch(&self, facts: Facts) -> BoxFuture<'_, SpawnError> {
        Box::pin(async move {
            watch::run(&self.cluster, &facts).await;
            SpawnError::new(Reason::Internal)
        })
    }

    fn stages(&self) -> &'static [Stage] {
        &[
            Stage::Queue,
            Stage::Former,
            Stage::Namespace,
            Stage::Disk,
            Stage::Schedule,
            Stage::Pull,
            Stage::Port,
        ]
    }

    fn look(&self, id: SessionId) -> BoxFuture<'_, Result<Seen, SpawnError>> {
        Box::pin(async move {
            let account = self.cluster.account(id).await?;
            let nothing = Seen {
                found: Found::Absent,
                used: None,
            };
            Ok(account.as_ref().map_or(nothing, record::seen))
        })
    }

    fn ensure<'a>(
        &'a self,
        id: SessionId,
        plan: &'a Plan,
        facts: &'a Facts,
    ) -> BoxFuture<'a, Result<(), SpawnError>> {
        let Some(config) = self.cluster.config.by(&plan.profile) else {
            let name = plan.profile.as_str().into();
            let error = SpawnError::new(Reason::NoProfile { name });
            return Box::pin(std::future::ready(Err(error)));
        };
        let template = Template {
            config,
            services: &self.cluster.services,
            gateway: &self.cluster.gateway,
        };
        let objects = template.objects(id, plan);
        let (cluster, facts) = (Arc::clone(&self.cluster), facts.clone());
        self.whole(async move { Make::new(&cluster, id, &objects, &facts).run().await })
    }

    fn stamp(&self, id: SessionId, used: Timestamp) -> BoxFuture<'_, Result<(), SpawnError>> {
        let cluster = Arc::clone(&self.cluster);
        Box::pin(async move {
            if cluster.pods.is_helms(id) {
                return Ok(());
            }
            let stamped = cluster.annotate(id, USED, &used.to_string()).await;
            stamped.map_err(asked)
        })
    }

    fn stop<'a>(
        &'a self,
        id: SessionId,
        facts: &'a Facts,
    ) -> BoxFuture<'a, Result<(), SpawnError>> {
        let (cluster, facts) = (Arc::clone(&self.cluster), facts.clone());
        self.whole(async move { cluster.stop(id, &facts).await })
    }

    fn announce<'a>(
        &'a self,
        instance: Named,
        stop: Timestamp,
        _: &'a Facts,
    ) -> BoxFuture<'a, Result<(), SpawnError>> {
        let cluster = Arc::clone(&self.cluster);
        self.whole(async move { cluster.announce(instance, stop).await })
    }

    fn keep<'a>(
        &'a self,
        instance: Named,
        used: Timestamp,
        facts: &'a Facts,
    ) -> BoxFuture<'a, Result<bool, SpawnError>> {
        let (cluster, facts) = (Arc::clone(&self.cluster), facts.clone());
        self.whole(async move { cluster.keep(instance, used, &facts).await })
    }

    fn expire<'a>(
        &'a self,
        instance: Named,
        stop: Option<Timestamp>,
        facts: &'a Facts,
    ) -> BoxFuture<'a, Result<bool, SpawnError>> {
        let (cluster, facts) = (Arc::clone(&self.cluster), facts.clone());
        self.whole(async move { cluster.expire(instance, stop, &facts).await })
    }

    fn delete<'a>(
        &'a self,
        id: SessionId,
        unused: Option<Timestamp>,
        facts: &'a Facts,
    ) -> BoxFuture<'a, Result<bool, SpawnError>> {
        let (cluster, facts) = (Arc::clone(&self.cluster), facts.clone());
        self.whole(async move { cluster.remove(id, unused, &facts).await })
    }

    /// Pods need no gateway to run.
    fn close(&self) -> BoxFuture<'_, ()> {
        debug_assert!(*self.drain.stage().borrow() >= shutdown::Stage::Draining);
        Box::pin(std::future::ready(()))
    }
}

impl Inspect for KubernetesSpawner {
    fn list(
        &self,
        after: Option<SessionId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Listed>, SpawnError>> {
        Box::pin(self.cluster.list(after, limit))
    }

    fn find(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Listed>, SpawnError>> {
        Box::pin(async move {
            Ok(self
                .cluster
                .account(id)
                .await?
                .as_ref()
                .and_then(record::listed))
        })
    }

    fn is_protected<'a>(&'a self, listed: &'a Listed) -> BoxFuture<'a, Result<bool, SpawnError>> {
        Box::pin(self.cluster.is_protected(listed))
    }

    fn has_one_output(&self) -> bool {
        true
    }

    /// One container runs all services, so its lines are shown once, at the first of them.
    fn tail(&self, id: SessionId) -> BoxFuture<'_, Result<Vec<String>, SpawnError>> {
        Box::pin(async move {
            let mut tails = vec![String::new(); self.cluster.services.count()];
            let (pods, name) = (self.cluster.pods_of(id), names::base(id));
            let last = LogParams {
                tail_lines: Some(TAIL),
                limit_bytes: Some(TAIL_BYTES),
                container: Some(pod::CONTAINER.to_owned()),
                ..LogParams::default()
            };
            match self.cluster.api.call(|| pods.logs(&name, &last)).await {
                Ok(text) => tails[0] = text,
                // There is no pod, or its container has not begun.
                Err(Error::Api(status)) if matches!(status.code, 400 | 404) => {}
                Err(error) => return Err(asked(error)),
            }
            Ok(tails)
        })
    }
}

impl Cluster {
    fn pods_of(&self, id: SessionId) -> kube::Api<Pod> {
        self.api.within(&self.config.namespace.of(id))
    }

    fn accounts_of(&self, id: SessionId) -> kube::Api<ServiceAccount> {
        self.api.within(&self.config.namespace.of(id))
    }

    /// Reads an object that may not be there.
    async fn find<K>(&self, objects: &kube::Api<K>, name: &str) -> Result<Option<K>, SpawnError>
    where
        K: Clone + Debug + DeserializeOwned + Send,
    {
        let found = self.api.call(|| objects.get_opt(name)).await;
        found.map_err(asked)
    }

    /// The account of a session: one read.
    async fn account(&self, id: SessionId) -> Result<Option<ServiceAccount>, SpawnError> {
        let (accounts, name) = (self.accounts_of(id), names::base(id));
        self.find(&accounts, &name).await
    }

    /// Sets an annotation of a session's account, if there is one.
    async fn annotate(&self, id: SessionId, key: &str, value: &str) -> Result<(), Error> {
        let (accounts, name) = (self.accounts_of(id), names::base(id));
        let patch = Patch::Merge(record::annotate(json!({ key: value })));
        let params = PatchParams::default();
        match self
            .api
            .call(|| accounts.patch_metadata(&name, &params, &patch))
            .await
        {
            Ok(_) => Ok(()),
            Err(Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The API server lists by namespace and name, which is the order of the ids.
    async fn list(
        &self,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<Listed>, SpawnError> {
        let template = &self.config.namespace;
        let accounts: kube::Api<ServiceAccount> = if template.is_shared() {
            self.api.within(&template.0)
        } else {
            self.api.everywhere()
        };
        let mut all = Vec::new();
        let mut page = ListParams::default().labels(UUID).limit(PAGE);
        loop {
            let list = self
                .api
                .call(|| accounts.list(&page))
                .await
                .map_err(asked)?;
            let listed = list.items.iter().filter(|account| {
                let (name, namespace) = (&account.metadata.name, &account.metadata.namespace);
                record::listed(account).is_some_and(|Listed { id, .. }| {
                    *name == Some(names::base(id)) && *namespace == Some(template.of(id))
                })
            });
            all.extend(listed.filter_map(record::listed));
            match list.metadata.continue_ {
                Some(token) if !token.is_empty() => page = page.continue_token(&token),
                _ => break,
            }
        }
        all.sort_by_key(|listed| listed.id);
        all.retain(|listed| after.is_none_or(|after| listed.id > after));
        all.truncate(limit);
        Ok(all)
    }
}

fn identity(pod: &Pod) -> Option<InstanceUid> {
    pod.metadata.uid.as_deref()?.parse().ok().map(InstanceUid)
}

/// Why a call failed, for people: what the cluster refused, or that it cannot be asked.
fn asked(error: Error) -> SpawnError {
    let said = words(&error).into();
    let reason = match &error {
        Error::Api(status) if matches!(status.code, 401 | 429 | 500..) => {
            Reason::Unavailable { error: said }
        }
        Error::Api(_) => Reason::Refused { error: said },
        _ => Reason::Unavailable { error: said },
    };
    SpawnError::new(reason)
}
