//! Stopping a pod, because somebody says so or because nobody uses it.
//!
//! That nobody uses it is announced by an annotation of the pod, which the watch of all replicas shows. To take that
//! back changes the pod, so that a delete of what was looked at before is refused.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Error, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde::Serialize;
use serde_json::{Value, json};
use tracing::warn;

use super::{
    Cluster, asked, identity,
    make::helms,
    names::{self, RUNNING, STATE, STOP, STOPPED, USED},
    objects::{annotation, is_ours},
    record,
    status::announced,
};
use crate::{
    activator::{Facts, Named, SpawnError},
    session::{Reason, SessionId},
};

/// How long a pod may take to end after it was deleted: its own grace and a little more.
const END: Duration = Duration::from_secs(60);
/// How often it is looked whether a pod is gone, where the watch has not said so.
const AGAIN: Duration = Duration::from_secs(2);
/// How often it is tried to stop a pod that changes meanwhile, as kubelets change them.
const TRIES: usize = 5;

impl Cluster {
    pub(super) async fn stop(&self, id: SessionId, facts: &Facts) -> Result<(), SpawnError> {
        let Some(account) = self.account(id).await? else {
            return Ok(());
        };
        if record::is_helms(&account.metadata) {
            return Err(helms());
        }
        self.annotate(id, STATE, STOPPED).await.map_err(asked)?;
        let (pods, name) = (self.pods_of(id), names::base(id));
        let Some(pod) = self.find(&pods, &name).await? else {
            return Ok(());
        };
        if !is_ours(&pod.metadata, id) {
            return Ok(());
        }
        self.delete(&pods, &pod).await?;
        let Some(uid) = identity(&pod) else {
            return Ok(());
        };
        self.pods.ends(facts, uid);
        let deadline = tokio::time::Instant::now() + END;
        while tokio::time::Instant::now() < deadline {
            if self.pods.until(uid, false, AGAIN).await {
                return Ok(());
            }
            let found = self.find(&pods, &name).await?;
            if found.as_ref().and_then(identity) != Some(uid) {
                return Ok(());
            }
        }
        Err(SpawnError::new(Reason::Terminating { what: "pod" }))
    }

    /// Deletes this very pod. One that is gone, or another under its name, is left alone.
    pub(super) async fn delete(&self, pods: &kube::Api<Pod>, pod: &Pod) -> Result<(), SpawnError> {
        let name = pod.name_any();
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: pod.uid(),
            resource_version: None,
        });
        match self.api.call(|| pods.delete(&name, &params)).await {
            Ok(_) => Ok(()),
            Err(Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(asked(error)),
        }
    }

    /// Announces the stop of this pod, unless another replica has done so.
    pub(super) async fn announce(&self, named: Named, stop: Timestamp) -> Result<(), SpawnError> {
        let Some(pod) = self.living(named).await? else {
            return Ok(());
        };
        if announced(&pod.metadata).is_some() {
            return Ok(());
        }
        let change = json!({ "metadata": {
            "uid": pod.metadata.uid,
            "resourceVersion": pod.metadata.resource_version,
            "annotations": { STOP: stop.to_string() },
        } });
        // Whatever has changed it meanwhile may be use.
        self.change(named, change).await.map(drop)
    }

    /// Takes an announced stop back, and records the use.
    pub(super) async fn keep(
        &self,
        named: Named,
        used: Timestamp,
        facts: &Facts,
    ) -> Result<bool, SpawnError> {
        // First, or another replica that reads an earlier use would announce the stop anew.
        if let Err(error) = self.annotate(named.id, USED, &used.to_string()).await {
            warn!(session = %named.id, %error, "last use not recorded");
        }
        let change = json!({ "metadata": {
            "uid": named.uid.0.to_string(),
            "annotations": { STOP: Value::Null },
        } });
        let Some(meta) = self.change(named, change).await? else {
            return Ok(false);
        };
        if meta.deletion_timestamp.is_some() {
            self.pods.ends(facts, named.uid);
            return Ok(false);
        }
        Ok(true)
    }

    /// Stops this pod; with `stop`, if that is still announced for this time and nothing about the pod has changed.
    ///
    /// The record comes first: a start that the end of the pod lets through must find nothing of ours to come. Where
    /// the pod is not deleted after all, the record is put right.
    pub(super) async fn expire(
        &self,
        named: Named,
        stop: Option<Timestamp>,
        facts: &Facts,
    ) -> Result<bool, SpawnError> {
        for _ in 0..TRIES {
            // Before the pod: a session that was started anew since has changed it.
            let Some(account) = self.account(named.id).await? else {
                return Ok(false);
            };
            let Some(pod) = self.living(named).await? else {
                return Ok(false);
            };
            if stop.is_some() && announced(&pod.metadata) != stop {
                break;
            }
            let meta = &account.metadata;
            if annotation(meta, STATE) != Some(STOPPED)
                && !self.mark(named.id, meta, json!({ STATE: STOPPED })).await?
            {
                continue;
            }
            if self.delete_as(named, &pod, stop.is_some()).await? {
                self.pods.ends(facts, named.uid);
                return Ok(true);
            }
        }
        if self.living(named).await?.is_some() {
            self.annotate(named.id, STATE, RUNNING)
                .await
                .map_err(asked)?;
        }
        Ok(false)
    }

    /// This very pod, if it is ours and is not being deleted.
    async fn living(&self, named: Named) -> Result<Option<Pod>, SpawnError> {
        let pods = self.pods_of(named.id);
        let pod = self.find(&pods, &names::base(named.id)).await?;
        Ok(pod.filter(|pod| {
            let meta = &pod.metadata;
            identity(pod) == Some(named.uid)
                && is_ours(meta, named.id)
                && !record::is_helms(meta)
                && meta.deletion_timestamp.is_none()
        }))
    }

    /// Changes this very pod; `None` if it is gone, is another, or is not as it was.
    async fn change(&self, named: Named, change: Value) -> Result<Option<ObjectMeta>, SpawnError> {
        let (pods, name) = (self.pods_of(named.id), names::base(named.id));
        let (params, patch) = (PatchParams::default(), Patch::Merge(change));
        let changed = self
            .api
            .call(|| pods.patch_metadata(&name, &params, &patch));
        match changed.await {
            Ok(changed) => Ok(Some(changed.metadata)),
            Err(Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => Ok(None),
            Err(error) => Err(asked(error)),
        }
    }

    /// Records what has become of the session, unless the record has changed since it was read. Returns whether it has
    /// not.
    pub(super) async fn mark(
        &self,
        id: SessionId,
        read: &ObjectMeta,
        annotations: impl Serialize,
    ) -> Result<bool, SpawnError> {
        let (accounts, name) = (self.accounts_of(id), names::base(id));
        let mut change = record::annotate(annotations);
        change["metadata"]["resourceVersion"] = json!(read.resource_version);
        let (params, patch) = (PatchParams::default(), Patch::Merge(change));
        let marked = self
            .api
            .call(|| accounts.patch_metadata(&name, &params, &patch));
        match marked.await {
            Ok(_) => Ok(true),
            Err(Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(error) => Err(asked(error)),
        }
    }

    /// Deletes this pod; if it is to be `unchanged`, only as it was read. Returns whether it was so.
    async fn delete_as(
        &self,
        named: Named,
        pod: &Pod,
        unchanged: bool,
    ) -> Result<bool, SpawnError> {
        let (pods, name) = (self.pods_of(named.id), pod.name_any());
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: pod.uid(),
            resource_version: pod.resource_version().filter(|_| unchanged),
        });
        match self.api.call(|| pods.delete(&name, &params)).await {
            Ok(_) => Ok(true),
            Err(Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(error) => Err(asked(error)),
        }
    }
}
