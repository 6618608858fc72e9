//! Making what is missing of a session, one straight line: its namespace, all that a pod needs, the pod.
//!
//! Every step may be repeated, raced by another replica, or be the last one before this process dies: what is there
//! is looked at and kept. The account's hash is written when all else is there, so a start that broke off is known by
//! the missing hash and goes through all steps again.

use std::time::Duration;

use futures_util::future::{try_join, try_join_all, try_join3, try_join4};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::{Error, ResourceExt, api::PostParams};
use tokio::time::Instant;
use tracing::info;

pub(super) use step::{foreign, helms};

use super::{
    Cluster,
    names::{PLAN, REMOVED, STATE, STOPPED},
    objects::{Objects, annotation, is_ours},
    record,
    status::{State, view},
};
use crate::{
    activator::{Facts, InstanceUid, SpawnError},
    session::{Reason, SessionId, Stage},
};
use step::{AGAIN, Step};

mod needs;
mod step;

/// How long a start waits for what has to go first: a namespace or a pod that is being deleted. Namespaces take
/// minutes in a busy cluster.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long the watch may take to show the pod that was made: events arrive in milliseconds.
const SHOWN: Duration = Duration::from_secs(5);

/// One start.
pub(super) struct Make<'a> {
    cluster: &'a Cluster,
    id: SessionId,
    objects: &'a Objects,
    facts: &'a Facts,
    deadline: Instant,
    post: PostParams,
}

impl<'a> Make<'a> {
    pub(super) fn new(
        cluster: &'a Cluster,
        id: SessionId,
        objects: &'a Objects,
        facts: &'a Facts,
    ) -> Self {
        Self {
            cluster,
            id,
            objects,
            facts,
            deadline: Instant::now() + PATIENCE,
            post: PostParams::default(),
        }
    }

    /// Makes what is missing; returns when all is asked for.
    pub(super) async fn run(&self) -> Result<(), SpawnError> {
        loop {
            let record = self.cluster.account(self.id).await?;
            if record
                .as_ref()
                .is_some_and(|account| record::is_helms(&account.metadata))
            {
                return Err(helms());
            }
            let made = match record.filter(|account| is_ours(&account.metadata, self.id)) {
                Some(account) if state(&account) == Some(REMOVED) => self.after_removal().await,
                Some(account) if self.is_whole(&account).await? => self.again(&account).await,
                account => self.anew(account.as_ref()).await,
            };
            match made {
                Err(Step::Again) if Instant::now() < self.deadline => {
                    self.facts.stage(self.id, Stage::Former);
                    self.until_namespace_gone().await?;
                }
                Err(Step::Changed) if Instant::now() < self.deadline => {}
                Err(Step::Again | Step::Changed) => return Err(self.terminating("namespace")),
                Err(Step::Failed(error)) => return Err(error),
                Ok(uid) => return self.hold(uid).await,
            }
        }
    }

    /// A stop that came between the record and the pod did not see the pod: it is ended here, so that the record is
    /// true. Then waits for the watch to show the pod, so that nobody takes the session for one that is gone.
    async fn hold(&self, uid: InstanceUid) -> Result<(), SpawnError> {
        let account = self.cluster.account(self.id).await?;
        match account.as_ref().and_then(state) {
            Some(STOPPED) => {
                info!(session = %self.id, "stopped while it was started");
                self.cluster.stop(self.id, self.facts).await
            }
            Some(REMOVED) => Err(self.terminating("namespace")),
            _ => {
                self.cluster.pods.until(uid, true, SHOWN).await;
                Ok(())
            }
        }
    }

    /// A session that is being removed, which whoever began it may not have ended: all of it goes first.
    async fn after_removal(&self) -> Result<InstanceUid, Step> {
        self.cluster.remove_all(self.id).await?;
        self.wait("workspace").await?;
        Err(if self.objects.namespace.is_some() {
            Step::Again
        } else {
            Step::Changed
        })
    }

    /// A session that was there before, with all its objects: only its pod is missing. Secrets are copied all the same:
    /// they may have changed.
    async fn again(&self, account: &ServiceAccount) -> Result<InstanceUid, Step> {
        self.secrets().await?;
        // Whoever removes the session has changed its record, or finds it changed.
        let meta = &account.metadata;
        let is_recorded = record::is_started(account)
            || self.cluster.mark(self.id, meta, record::started()).await?;
        if !is_recorded {
            return Err(Step::Changed);
        }
        self.facts.stage(self.id, Stage::Schedule);
        self.pod().await
    }

    /// A session that is new, or of which the plan changed, or whose first start broke off.
    async fn anew(&self, read: Option<&ServiceAccount>) -> Result<InstanceUid, Step> {
        let objects = self.objects;
        self.facts.stage(self.id, Stage::Namespace);
        if let Some(namespace) = &objects.namespace {
            self.namespace(namespace).await?;
        }
        self.facts.stage(self.id, Stage::Disk);
        let quota = async {
            match &objects.quota {
                Some(quota) => self.quota(quota).await,
                None => Ok(()),
            }
        };
        let policies = try_join3(
            self.apply(&objects.limits),
            try_join_all(objects.policy.iter().map(|policy| self.apply(policy))),
            quota,
        );
        let services = try_join_all(objects.services.iter().map(|service| self.apply(service)));
        try_join4(
            self.own_account(read),
            policies,
            try_join(self.secrets(), services),
            self.claim(),
        )
        .await?;
        self.facts.stage(self.id, Stage::Schedule);
        let (uid, ()) = try_join(self.pod(), self.record(PLAN, &objects.hash)).await?;
        Ok(uid)
    }

    /// Whether all objects of this plan were made and are still there.
    async fn is_whole(&self, account: &ServiceAccount) -> Result<bool, SpawnError> {
        let objects = self.objects;
        let is_same = annotation(&account.metadata, PLAN) == Some(&objects.hash);
        if !is_same || account.metadata.deletion_timestamp.is_some() {
            return Ok(false);
        }
        let policies = try_join_all(objects.policy.iter().map(|policy| self.is_there(policy)));
        let claims = try_join_all(objects.claim.iter().map(|claim| self.is_there(claim)));
        let services = try_join_all(
            objects
                .services
                .iter()
                .map(|service| self.is_there(service)),
        );
        let limits = self.is_there(&objects.limits);
        let (policies, claims, services, limits) =
            try_join4(policies, claims, services, limits).await?;
        let quotas = try_join_all(objects.quota.iter().map(|quota| self.is_there(quota))).await?;
        let all = [policies, claims, services, quotas, vec![limits]].concat();
        Ok(all.into_iter().all(|is_there| is_there))
    }

    /// Makes the pod, or adopts the one that is there; returns its identity.
    async fn pod(&self) -> Result<InstanceUid, Step> {
        let pod = &self.objects.pod;
        let api = self.api::<Pod>(&pod.metadata);
        let name = pod.name_any();
        loop {
            let made = self.cluster.api.call(|| api.create(&self.post, pod)).await;
            let found = match made {
                Ok(made) => Some(made),
                Err(Error::Api(status)) if status.code == 409 => {
                    self.cluster.find(&api, &name).await?
                }
                Err(error) => return Err(step::step(error)),
            };
            let Some(found) = found else { continue };
            if !is_ours(&found.metadata, self.id) {
                return Err(foreign(&format!("pod {name}")).into());
            }
            let template = &self.cluster.config.namespace;
            let Some(view) = view(&found, template, &self.cluster.services) else {
                return Err(SpawnError::new(Reason::Internal).into());
            };
            let is_of_plan = annotation(&found.metadata, PLAN) == Some(&self.objects.hash);
            match view.state {
                State::Ends => self.cluster.pods.ends(self.facts, view.uid),
                // It ended for good, or never will run as it is: the plan that it was made by is not today's.
                State::Over(_) => self.delete(&api, &found).await?,
                State::Stuck(_) if !is_of_plan => self.delete(&api, &found).await?,
                State::Stuck(_) | State::Waits(_) | State::Runs => return Ok(view.uid),
            }
            self.facts.stage(self.id, Stage::Former);
            if !self.cluster.pods.until(view.uid, false, AGAIN).await {
                self.wait("pod").await?;
            }
            self.facts.stage(self.id, Stage::Schedule);
        }
    }

    async fn delete(&self, api: &kube::Api<Pod>, pod: &Pod) -> Result<(), Step> {
        info!(session = %self.id, "a pod that cannot run any more is deleted, for another in its place");
        self.cluster.delete(api, pod).await?;
        Ok(())
    }

    /// Applies the account, which says that the session runs; if it was read, only as it was read.
    async fn own_account(&self, read: Option<&ServiceAccount>) -> Result<(), Step> {
        let mut account = self.objects.account.clone();
        let annotations = account.metadata.annotations.get_or_insert_default();
        annotations.extend(record::started());
        account.metadata.resource_version = read.and_then(ResourceExt::resource_version);
        self.apply(&account).await
    }

    async fn record(&self, key: &str, value: &str) -> Result<(), Step> {
        self.cluster
            .annotate(self.id, key, value)
            .await
            .map_err(step::step)?;
        Ok(())
    }
}

/// What the record says of the session.
fn state(account: &ServiceAccount) -> Option<&str> {
    annotation(&account.metadata, STATE)
}
