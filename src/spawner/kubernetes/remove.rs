//! Removing a session with all that is kept of it.
//!
//! The record says so first, and only if it has not changed since it was read: from then on no start makes anything of
//! the session before all of it is gone, and whoever meets such a record goes on with the removal. A start that was
//! quicker has changed the record, and nothing is removed.

use std::fmt::Debug;

use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        core::v1::{
            LimitRange, Namespace, PersistentVolumeClaim, Pod, ResourceQuota, Secret, Service,
            ServiceAccount,
        },
        networking::v1::NetworkPolicy,
    },
};
use kube::{
    Error, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Preconditions},
};
use serde::de::DeserializeOwned;
use serde_json::json;
use tracing::info;

use super::{
    Cluster, asked, identity,
    make::{foreign, helms},
    names::{self, MANAGED_BY, MANAGER, REMOVED, STATE, UUID},
    objects::{annotation, is_ours},
    record::{self, is_kept},
    status::{State, view},
};
use crate::{
    activator::{Facts, Listed, SpawnError},
    session::{Reason, SessionId},
};

/// How often it is tried to record that a session is removed while others change its record.
const TRIES: usize = 5;

impl Cluster {
    /// As [`Spawner::delete`](crate::activator::Spawner::delete).
    pub(super) async fn remove(
        &self,
        id: SessionId,
        unused: Option<Timestamp>,
        facts: &Facts,
    ) -> Result<bool, SpawnError> {
        for _ in 0..TRIES {
            let Some(account) = self.account(id).await? else {
                // What a removal left, or a start that broke off at once.
                return match unused {
                    Some(_) => Ok(false),
                    None => self.remove_all(id).await,
                };
            };
            let meta = &account.metadata;
            if record::is_helms(meta) {
                return unused.map_or_else(|| Err(helms()), |_| Ok(false));
            }
            if !is_ours(meta, id) {
                return Err(foreign(&format!("service account {}", names::base(id))));
            }
            if let Some(since) = unused
                && !self.is_left(id, &account, since).await?
            {
                return Ok(false);
            }
            let is_marked = annotation(meta, STATE) == Some(REMOVED);
            if is_marked || self.mark(id, meta, json!({ STATE: REMOVED })).await? {
                info!(session = %id, "removed with all that was kept of it");
                self.end(id, facts).await?;
                return self.remove_all(id).await;
            }
            // Somebody has changed it: whoever starts it may have.
        }
        Err(SpawnError::new(Reason::Unavailable {
            error: "the session's record changes all the time".into(),
        }))
    }

    /// Whether nothing of the session runs, it was not used since, and nobody protects it. Whoever starts it writes the
    /// record first.
    async fn is_left(
        &self,
        id: SessionId,
        account: &ServiceAccount,
        since: Timestamp,
    ) -> Result<bool, SpawnError> {
        let made = account.metadata.creation_timestamp.as_ref();
        let used = record::seen(account).used.or(made.map(|time| time.0));
        if used.is_none_or(|used| used >= since) {
            return Ok(false);
        }
        let pod = self.find(&self.pods_of(id), &names::base(id)).await?;
        if is_kept(&account.metadata) || pod.is_some_and(|pod| !self.is_over(&pod)) {
            return Ok(false);
        }
        let space = self.space(id).await?;
        Ok(!space.is_some_and(|space| keeps(&space, id)))
    }

    /// Whether a pod ended for good: the next start deletes it.
    fn is_over(&self, pod: &Pod) -> bool {
        let view = view(pod, &self.config.namespace, &self.services);
        view.is_some_and(|view| matches!(view.state, State::Over(_)))
    }

    /// Whether a session is kept that nobody uses.
    pub(super) async fn is_protected(&self, listed: &Listed) -> Result<bool, SpawnError> {
        if listed.is_kept {
            return Ok(true);
        }
        let space = self.space(listed.id).await?;
        Ok(space.is_some_and(|space| keeps(&space, listed.id)))
    }

    /// The session's own namespace.
    async fn space(&self, id: SessionId) -> Result<Option<Namespace>, SpawnError> {
        let template = &self.config.namespace;
        if template.is_shared() {
            return Ok(None);
        }
        self.find(&self.api.everywhere(), &template.of(id)).await
    }

    /// Tells all who use the session's pod that it ends.
    async fn end(&self, id: SessionId, facts: &Facts) -> Result<(), SpawnError> {
        let pod = self.find(&self.pods_of(id), &names::base(id)).await?;
        let pod = pod.filter(|pod| is_ours(&pod.metadata, id));
        if let Some(uid) = pod.as_ref().and_then(identity) {
            self.pods.ends(facts, uid);
        }
        Ok(())
    }

    /// Deletes the session's namespace, or all its objects in a shared one. Returns whether there were any.
    pub(super) async fn remove_all(&self, id: SessionId) -> Result<bool, SpawnError> {
        if self.config.namespace.is_shared() {
            return self.remove_each(id).await;
        }
        let Some(space) = self.space(id).await? else {
            return Ok(false);
        };
        let name = space.name_any();
        if !is_ours(&space.metadata, id) {
            return Err(foreign(&format!("namespace {name}")));
        }
        if space.metadata.deletion_timestamp.is_some() {
            return Ok(true);
        }
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: space.uid(),
            resource_version: None,
        });
        let spaces = self.api.everywhere::<Namespace>();
        match self.api.call(|| spaces.delete(&name, &params)).await {
            Ok(_) => Ok(true),
            // Gone meanwhile, or it is another's by now.
            Err(Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(true),
            Err(error) => Err(asked(error)),
        }
    }

    /// The record goes last: until then it says that the session is removed.
    async fn remove_each(&self, id: SessionId) -> Result<bool, SpawnError> {
        self.remove_kind::<Pod>(id).await?;
        self.remove_kind::<Service>(id).await?;
        self.remove_kind::<PersistentVolumeClaim>(id).await?;
        self.remove_kind::<Secret>(id).await?;
        self.remove_kind::<LimitRange>(id).await?;
        if !self.config.quota.is_empty() {
            self.remove_kind::<ResourceQuota>(id).await?;
        }
        self.remove_kind::<NetworkPolicy>(id).await?;
        self.remove_kind::<ServiceAccount>(id).await
    }

    async fn remove_kind<K>(&self, id: SessionId) -> Result<bool, SpawnError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        K: Clone + Debug + DeserializeOwned + Send,
    {
        let objects = self.api.within::<K>(&self.config.namespace.of(id));
        let ours = ListParams::default().labels(&format!("{MANAGED_BY}={MANAGER},{UUID}={id}"));
        let params = DeleteParams::default();
        let removed = self.api.call(|| objects.delete_collection(&params, &ours));
        let removed = removed.await.map_err(asked)?;
        Ok(removed.left().is_some_and(|list| !list.items.is_empty()))
    }
}

/// Whether a namespace keeps the session in it: by its label, or since it is another's.
fn keeps(space: &Namespace, id: SessionId) -> bool {
    is_kept(&space.metadata) || !is_ours(&space.metadata, id)
}
