//! One write of a start, and what its answer means for the rest.

use std::{fmt::Debug, time::Duration};

use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Error, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep};

use super::Make;
use crate::{
    activator::SpawnError,
    session::Reason,
    spawner::kubernetes::{asked, names::MANAGER, objects::is_ours},
};

/// How often it is looked whether something that is being deleted is gone.
pub(super) const AGAIN: Duration = Duration::from_millis(500);

/// Why a start does not go straight on.
pub(super) enum Step {
    /// Something of the session is being deleted: from the first step again, once it is gone.
    Again,
    /// The record has changed since it was read: from the first step again, at once.
    Changed,
    /// It failed.
    Failed(SpawnError),
}

impl From<SpawnError> for Step {
    fn from(error: SpawnError) -> Self {
        Self::Failed(error)
    }
}

/// What a refused write means for the start.
pub(super) fn step(error: Error) -> Step {
    if let Error::Api(status) = &error {
        let causes = status.details.iter().flat_map(|details| &details.causes);
        let mut reasons = causes.map(|cause| cause.reason.as_str());
        // A namespace that goes away while the start is at it may be gone altogether at the next call.
        let is_going = reasons.any(|reason| reason == "NamespaceTerminating")
            || (status.code == 404 && status.message.starts_with("namespaces "));
        if is_going {
            return Step::Again;
        }
        if status.code == 409 && status.reason == "Conflict" {
            return Step::Changed;
        }
    }
    Step::Failed(asked(error))
}

/// Something of this name is there that this program did not make for this session.
pub(in super::super) fn foreign(what: &str) -> SpawnError {
    SpawnError::new(Reason::Foreign {
        error: format!(
            "{what} is there already, and was not made by this gateway for this session"
        )
        .into(),
    })
}

/// The session is a release of the chart.
pub(in super::super) fn helms() -> SpawnError {
    SpawnError::new(Reason::Foreign {
        error: "the session was installed by Helm: its own Deployment runs it".into(),
    })
}

impl Make<'_> {
    /// Applies an object. A reply may be well and describe what is being deleted.
    pub(super) async fn apply<K>(&self, object: &K) -> Result<(), Step>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        K: Clone + Debug + Serialize + DeserializeOwned + Send + Sync,
    {
        let api = self.api::<K>(object.meta());
        let name = object.name_any();
        let params = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(object);
        let applied = self.cluster.api.call(|| api.patch(&name, &params, &patch));
        let applied = applied.await.map_err(step)?;
        if applied.meta().deletion_timestamp.is_some() {
            self.wait("object").await?;
            return Err(Step::Again);
        }
        Ok(())
    }

    pub(super) async fn is_there<K>(&self, object: &K) -> Result<bool, SpawnError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        K: Clone + Debug + DeserializeOwned + Send,
    {
        let api = self.api::<K>(object.meta());
        let name = object.name_any();
        let found = self.cluster.find(&api, &name).await?;
        Ok(found.is_some_and(|found| {
            found.meta().deletion_timestamp.is_none() && is_ours(found.meta(), self.id)
        }))
    }

    pub(super) fn api<K>(&self, meta: &ObjectMeta) -> kube::Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        let namespace = meta.namespace.as_deref();
        self.cluster
            .api
            .within(namespace.expect("every object of a session has a namespace"))
    }

    /// Waits a moment for `what` to be gone.
    pub(super) async fn wait(&self, what: &'static str) -> Result<(), SpawnError> {
        if Instant::now() >= self.deadline {
            return Err(self.terminating(what));
        }
        sleep(AGAIN).await;
        Ok(())
    }

    pub(super) fn terminating(&self, what: &'static str) -> SpawnError {
        SpawnError::new(Reason::Terminating { what })
    }
}
