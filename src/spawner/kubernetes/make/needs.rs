//! What a pod needs before it: its namespace, its quota, its Secrets and its disk.

use std::time::Duration;

use futures_util::future::try_join_all;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, ResourceQuota, Secret};
use kube::{Error, ResourceExt};
use tokio::time::{Instant, sleep};

use super::{
    Make,
    step::{AGAIN, Step, foreign, step},
};
use crate::{
    activator::SpawnError,
    session::Reason,
    spawner::kubernetes::{asked, objects::is_ours},
};

/// How long the cluster may take to begin to count a quota; until then it refuses nothing.
const COUNTED: Duration = Duration::from_secs(1);

impl Make<'_> {
    pub(super) async fn namespace(&self, namespace: &Namespace) -> Result<(), Step> {
        let api = self.cluster.api.everywhere::<Namespace>();
        let name = namespace.name_any();
        let made = self
            .cluster
            .api
            .call(|| api.create(&self.post, namespace))
            .await;
        let found = match made {
            Ok(made) => made,
            Err(Error::Api(status)) if status.code == 409 => {
                match self.cluster.find(&api, &name).await? {
                    Some(found) => found,
                    None => return Err(Step::Again),
                }
            }
            Err(error) => return Err(asked(error).into()),
        };
        if found.metadata.deletion_timestamp.is_some() {
            return Err(Step::Again);
        }
        if !is_ours(&found.metadata, self.id) {
            return Err(foreign(&format!("namespace {name}")).into());
        }
        Ok(())
    }

    /// Waits until a namespace that is being deleted is gone. Returns at once if there is none, or one that stays.
    pub(super) async fn until_namespace_gone(&self) -> Result<(), SpawnError> {
        let Some(namespace) = &self.objects.namespace else {
            let shared = &self.cluster.config.namespace.0;
            let error = format!(
                "namespace {shared} is not there, or is being deleted: sessions that share one do not make it"
            );
            return Err(SpawnError::new(Reason::Refused {
                error: error.into(),
            }));
        };
        let api = self.cluster.api.everywhere::<Namespace>();
        let name = namespace.name_any();
        loop {
            let found = self.cluster.find(&api, &name).await?;
            let ends = found.is_some_and(|found| found.metadata.deletion_timestamp.is_some());
            if !ends {
                return Ok(());
            }
            self.wait("namespace").await?;
        }
    }

    pub(super) async fn quota(&self, quota: &ResourceQuota) -> Result<(), Step> {
        self.apply(quota).await?;
        let api = self.api::<ResourceQuota>(&quota.metadata);
        let name = quota.name_any();
        let deadline = Instant::now() + COUNTED;
        while Instant::now() < deadline {
            let found = self.cluster.find(&api, &name).await?;
            let used = found.and_then(|quota| quota.status?.used);
            if used.is_some_and(|used| !used.is_empty()) {
                break;
            }
            sleep(AGAIN / 5).await;
        }
        Ok(())
    }

    /// Copies the Secrets that the pod names from the gateway's own namespace.
    pub(super) async fn secrets(&self) -> Result<(), Step> {
        let from = &self.cluster.namespace;
        let to = self.cluster.config.namespace.of(self.id);
        if *from == to {
            return Ok(());
        }
        let source = self.cluster.api.within::<Secret>(from);
        let copies = self.objects.secrets.iter().map(async |name| {
            let found = self.cluster.find(&source, name).await?;
            let Some(secret) = found else {
                let error = format!("Secret {name} not found in namespace {from}").into();
                return Err(SpawnError::new(Reason::Secret { error }).into());
            };
            let mut metadata = self.objects.account.metadata.clone();
            metadata.name = Some(name.clone());
            self.apply(&Secret {
                metadata,
                data: secret.data,
                type_: secret.type_,
                ..Secret::default()
            })
            .await
        });
        try_join_all(copies).await?;
        Ok(())
    }

    /// The disk is made once and never changed: what is there is kept, whatever the plan says now.
    pub(super) async fn claim(&self) -> Result<(), Step> {
        let Some(claim) = &self.objects.claim else {
            return Ok(());
        };
        let api = self.api::<PersistentVolumeClaim>(&claim.metadata);
        let name = claim.name_any();
        loop {
            let made = self
                .cluster
                .api
                .call(|| api.create(&self.post, claim))
                .await;
            match made {
                Ok(_) => return Ok(()),
                Err(Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(step(error)),
            }
            match self.cluster.find(&api, &name).await? {
                Some(found) if found.metadata.deletion_timestamp.is_some() => {}
                Some(found) if !is_ours(&found.metadata, self.id) => {
                    return Err(foreign(&format!("claim {}", found.name_any())).into());
                }
                Some(_) => return Ok(()),
                None => {}
            }
            self.wait("workspace").await?;
        }
    }
}
