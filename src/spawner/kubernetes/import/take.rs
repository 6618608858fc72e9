//! The steps by which a release becomes the gateway's own.

use std::{collections::BTreeSet, fmt::Debug, time::Duration};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::Deployment,
        core::v1::{Namespace, PersistentVolumeClaim, Pod, Secret, Service},
        networking::v1::NetworkPolicy,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Error, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::refused;
use crate::{
    activator::SpawnError,
    session::{Reason, SessionId},
    spawner::kubernetes::{
        Cluster, asked,
        make::foreign,
        names::{self, HELM, MANAGED_BY, MANAGER, UUID},
        objects::{Objects, is_ours, label},
        record,
    },
};

/// How long the pods of a Deployment may take to end: their grace and a little more.
const END: Duration = Duration::from_secs(90);
/// How often it is looked whether they are gone.
const AGAIN: Duration = Duration::from_millis(500);
/// What Helm notes on what it makes.
const NOTES: [&str; 2] = [
    "meta.helm.sh/release-name",
    "meta.helm.sh/release-namespace",
];

impl Cluster {
    /// As [`KubernetesSpawner::take_over`](super::KubernetesSpawner::take_over).
    pub(super) async fn take_over(&self, id: SessionId) -> Result<(), SpawnError> {
        let Some(account) = self.account(id).await? else {
            return Err(refused("the chart has installed no such session"));
        };
        if is_ours(&account.metadata, id) {
            return Ok(());
        }
        if !record::is_helms(&account.metadata) {
            return Err(foreign(&format!("service account {}", names::base(id))));
        }
        if self.config.namespace.is_shared() {
            return Err(refused(
                "sessions share a namespace by the setting namespace, and those of the chart have one each",
            ));
        }
        let listed = record::listed(&account).expect("it was found by its id");
        let objects = self.made_by(id, &listed.plan)?;
        let is_ours = self.space_is_ours(id).await?;
        self.forget_release(id).await?;
        self.end_deployment(id).await?;
        // They find the Deployment's pods, and are made anew for the gateway's.
        self.remove_helms::<Service>(id).await?;
        self.remove_helms::<NetworkPolicy>(id).await?;
        self.adopt_disk(id, &objects).await?;
        if !is_ours {
            let namespace = objects.namespace.as_ref();
            self.adopt_namespace(namespace.expect("it has one of its own"))
                .await?;
        }
        self.adopt_account(id, account.metadata).await
    }

    /// Whether the session's namespace is ours already. Somebody else's stays somebody else's.
    async fn space_is_ours(&self, id: SessionId) -> Result<bool, SpawnError> {
        let name = self.config.namespace.of(id);
        let space: Option<Namespace> = self.find(&self.api.everywhere(), &name).await?;
        let meta = space.unwrap_or_default().metadata;
        match label(&meta, MANAGED_BY) {
            None | Some(HELM | MANAGER) => Ok(is_ours(&meta, id)),
            Some(other) => Err(refused(&format!("namespace {name} is managed by {other}"))),
        }
    }

    /// Helm's record of the release: a later `helm uninstall` finds nothing to delete.
    async fn forget_release(&self, id: SessionId) -> Result<(), SpawnError> {
        let records = self.api.within::<Secret>(&self.config.namespace.of(id));
        let release = format!("owner=helm,name={}", names::base(id));
        let params = (
            DeleteParams::default(),
            ListParams::default().labels(&release),
        );
        let removed = self
            .api
            .call(|| records.delete_collection(&params.0, &params.1));
        removed.await.map(drop).map_err(asked)
    }

    /// Deletes the Deployment, and waits until its pods are gone: two must never write to one disk.
    async fn end_deployment(&self, id: SessionId) -> Result<(), SpawnError> {
        self.remove_helms::<Deployment>(id).await?;
        let pods: kube::Api<Pod> = self.pods_of(id);
        let those = ListParams::default().labels(&format!("{MANAGED_BY}={HELM},{UUID}={id}"));
        let deadline = Instant::now() + END;
        loop {
            let left = self.api.call(|| pods.list(&those)).await.map_err(asked)?;
            if left.items.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(SpawnError::new(Reason::Terminating { what: "pod" }));
            }
            sleep(AGAIN).await;
        }
    }

    /// Deletes the objects of a kind that Helm made for this session; returns their names.
    pub(super) async fn remove_helms<K>(&self, id: SessionId) -> Result<Vec<String>, SpawnError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        K: Clone + Debug + DeserializeOwned + Send,
    {
        let objects = self.api.within::<K>(&self.config.namespace.of(id));
        let those = ListParams::default().labels(&format!("{MANAGED_BY}={HELM},{UUID}={id}"));
        let list = self
            .api
            .call(|| objects.list(&those))
            .await
            .map_err(asked)?;
        let names: BTreeSet<_> = list.items.iter().map(ResourceExt::name_any).collect();
        for name in &names {
            let params = DeleteParams::background();
            match self.api.call(|| objects.delete(name, &params)).await {
                Ok(_) => {}
                Err(Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(asked(error)),
            }
        }
        Ok(names.into_iter().collect())
    }

    async fn adopt_namespace(&self, namespace: &Namespace) -> Result<(), SpawnError> {
        let spaces = self.api.everywhere::<Namespace>();
        let params = PatchParams::apply(MANAGER).force();
        let (name, patch) = (namespace.name_any(), Patch::Apply(namespace));
        let applied = self.api.call(|| spaces.patch(&name, &params, &patch));
        applied.await.map(drop).map_err(asked)
    }

    /// The claim becomes ours as it is; one that Helm did not make is left alone.
    async fn adopt_disk(&self, id: SessionId, objects: &Objects) -> Result<(), SpawnError> {
        let Some(ours) = &objects.claim else {
            return Ok(());
        };
        let claims = self
            .api
            .within::<PersistentVolumeClaim>(&self.config.namespace.of(id));
        let name = ours.name_any();
        let Some(claim) = self.find(&claims, &name).await? else {
            return Ok(());
        };
        if !record::is_helms(&claim.metadata) {
            return Ok(());
        }
        let (params, patch) = (PatchParams::default(), Patch::Merge(ours_now(json!({}))));
        let patched = self
            .api
            .call(|| claims.patch_metadata(&name, &params, &patch));
        patched.await.map(drop).map_err(asked)
    }

    /// Last of all: from now on it is a session of ours that should run.
    async fn adopt_account(&self, id: SessionId, read: ObjectMeta) -> Result<(), SpawnError> {
        let mut change = ours_now(json!(record::started()));
        change["metadata"]["resourceVersion"] = json!(read.resource_version);
        let (accounts, name) = (self.accounts_of(id), names::base(id));
        let (params, patch) = (PatchParams::default(), Patch::Merge(change));
        let patched = self
            .api
            .call(|| accounts.patch_metadata(&name, &params, &patch));
        patched.await.map(drop).map_err(asked)
    }
}

/// The patch that makes an object of Helm's ours, with more annotations.
fn ours_now(mut annotations: Value) -> Value {
    for note in NOTES {
        annotations[note] = Value::Null;
    }
    json!({ "metadata": { "labels": { MANAGED_BY: MANAGER }, "annotations": annotations } })
}
