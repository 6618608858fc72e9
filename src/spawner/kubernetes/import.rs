//! Sessions that the chart installed, and how they become the gateway's own.
//!
//! Every step may be the last one before this process dies: the account keeps saying that Helm made it until all else
//! is done, so that the next call finds the release again and goes on.

use std::{fmt::Debug, sync::Arc};

use futures_util::future::BoxFuture;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::ServiceAccount, networking::v1::Ingress};
use kube::{
    Error, Resource, ResourceExt,
    api::{ListParams, PostParams},
};
use serde::{Serialize, Serializer, de::DeserializeOwned};
use serde_json::Value;

use super::{
    Cluster, KubernetesSpawner, PAGE, asked,
    names::{self, UUID},
    objects::{Objects, Template, is_ours},
    record,
    text::document,
};
use crate::{
    activator::SpawnError,
    session::{Plan, Reason, SessionId},
};
use differences::differences;

mod differences;
mod take;

/// A session that the chart installed, or of which the chart's Ingress is left.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Release {
    /// The session.
    #[serde(serialize_with = "text")]
    pub id: SessionId,
    /// The platform's id of its project.
    pub project: String,
    /// The platform's id of its user.
    pub user: String,
    /// The profile by which the gateway would make it.
    pub profile: String,
    /// Whether it is the gateway's own already, but for the Ingress.
    pub taken: bool,
    /// Where its Ingress objects lead to it, and where it is at the gateway.
    pub addresses: Vec<Address>,
}

/// An address of an Ingress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Address {
    /// The Ingress.
    pub ingress: String,
    /// The host it is for, `*` for any, and the path.
    pub from: String,
    /// The path at the gateway; none if the gateway has no such service.
    pub to: Option<String>,
}

/// Something that the release's pod has and the gateway's would not have, or have otherwise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The field, such as `containers.session.image`.
    pub field: String,
    /// What the release has.
    pub release: Value,
    /// What it would be.
    pub gateway: Option<Value>,
}

impl KubernetesSpawner {
    /// The sessions that the chart installed, by id, and those of which its Ingress objects are left.
    ///
    /// # Errors
    /// If the cluster does not say.
    pub fn releases(&self) -> BoxFuture<'_, Result<Vec<Release>, SpawnError>> {
        Box::pin(self.cluster.releases())
    }

    /// What would be different about the pod of a release, run by the gateway as it is configured. Nothing is made.
    ///
    /// # Errors
    /// If the cluster does not say.
    pub fn differences(
        &self,
        release: &Release,
    ) -> BoxFuture<'_, Result<Vec<Difference>, SpawnError>> {
        let plan = Plan {
            project: release.project.clone(),
            user: release.user.clone(),
            profile: release.profile.clone(),
        };
        let id = release.id;
        Box::pin(async move { self.cluster.differences(id, &plan).await })
    }

    /// Makes a release the gateway's own: the disk and the names stay, Helm forgets it, and its Deployment is deleted.
    /// The pod is made by the gateway, at the next visit or start. Does nothing for a session that is the gateway's
    /// own. Returns when the last pod of the Deployment is gone.
    ///
    /// # Errors
    /// If there is no such release, or the cluster refuses a step. The next call goes on from there.
    pub fn take_over(&self, id: SessionId) -> BoxFuture<'_, Result<(), SpawnError>> {
        let cluster = Arc::clone(&self.cluster);
        self.whole(async move { cluster.take_over(id).await })
    }

    /// Deletes the chart's Ingress objects of a session that is the gateway's own; returns their names.
    ///
    /// # Errors
    /// If the session is Helm's still, or the cluster refuses.
    pub fn remove_ingresses(
        &self,
        id: SessionId,
    ) -> BoxFuture<'_, Result<Vec<String>, SpawnError>> {
        Box::pin(self.cluster.remove_ingresses(id))
    }
}

impl Cluster {
    /// All objects of a kind that are labelled as a session's.
    async fn all<K>(&self) -> Result<Vec<K>, SpawnError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send,
    {
        let objects = self.api.everywhere::<K>();
        let mut page = ListParams::default().labels(UUID).limit(PAGE);
        let mut all = Vec::new();
        loop {
            let list = self.api.call(|| objects.list(&page)).await.map_err(asked)?;
            all.extend(list.items);
            match list.metadata.continue_ {
                Some(token) if !token.is_empty() => page = page.continue_token(&token),
                _ => return Ok(all),
            }
        }
    }

    fn made_by(&self, id: SessionId, plan: &Plan) -> Result<Objects, SpawnError> {
        let config = self.config.by(&plan.profile);
        let config = config.ok_or_else(|| {
            let name = plan.profile.as_str().into();
            SpawnError::new(Reason::NoProfile { name })
        })?;
        let template = Template {
            config,
            services: &self.services,
            gateway: &[],
        };
        Ok(template.objects(id, plan))
    }

    /// The addresses of an Ingress that lead to this session.
    fn addresses(&self, id: SessionId, ingress: &Ingress) -> Vec<Address> {
        let rules = ingress
            .spec
            .iter()
            .flat_map(|spec| spec.rules.iter().flatten());
        let mut all = Vec::new();
        for rule in rules {
            for path in rule.http.iter().flat_map(|http| &http.paths) {
                let service = path.backend.service.as_ref().map(|service| &service.name);
                let spec = service.and_then(|name| {
                    let mut specs = self.services.iter().map(|(_, spec)| spec);
                    specs.find(|spec| *name == names::service(id, &spec.name))
                });
                let host = rule.host.as_deref().unwrap_or("*");
                all.push(Address {
                    ingress: ingress.name_any(),
                    from: format!("{host}{}", path.path.as_deref().unwrap_or("/")),
                    to: spec.map(|spec| format!("/{id}{}/", spec.path)),
                });
            }
        }
        all
    }

    /// What would be different about the pod. The cluster fills in its defaults on both sides.
    async fn differences(&self, id: SessionId, plan: &Plan) -> Result<Vec<Difference>, SpawnError> {
        let objects = self.made_by(id, plan)?;
        let deployments = self.api.within::<Deployment>(&self.config.namespace.of(id));
        let Some(deployment) = self.find(&deployments, &names::base(id)).await? else {
            return Ok(vec![]);
        };
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let pods = self.pods_of(id);
        let made = self.api.call(|| pods.create(&dry, &objects.pod)).await;
        // What keeps it from being made is something to know as well.
        let made = match made {
            Ok(made) => made,
            Err(Error::Api(status)) if (400..500).contains(&status.code) => {
                return Ok(vec![Difference {
                    field: "pod".to_owned(),
                    release: Value::Null,
                    gateway: Some(format!("refused by the cluster: {}", status.message).into()),
                }]);
            }
            Err(error) => return Err(asked(error)),
        };
        let template = deployment.spec.map(|spec| spec.template.spec);
        Ok(differences(&document(&template), &document(&made.spec)))
    }

    async fn releases(&self) -> Result<Vec<Release>, SpawnError> {
        let accounts: Vec<ServiceAccount> = self.all().await?;
        let ingresses: Vec<Ingress> = self.all().await?;
        let ingresses: Vec<_> = ingresses
            .into_iter()
            .filter(|ingress| record::is_helms(&ingress.metadata))
            .collect();
        let mut releases = Vec::new();
        for account in accounts {
            let meta = &account.metadata;
            let Some(listed) = record::listed(&account) else {
                continue;
            };
            let id = listed.id;
            let place = (names::base(id), self.config.namespace.of(id));
            if (meta.name.as_ref(), meta.namespace.as_ref()) != (Some(&place.0), Some(&place.1)) {
                continue;
            }
            let taken = is_ours(meta, id);
            let addresses: Vec<_> = ingresses
                .iter()
                .filter(|one| one.metadata.namespace == meta.namespace)
                .flat_map(|one| self.addresses(id, one))
                .collect();
            let is_left = taken && !addresses.is_empty();
            if !record::is_helms(meta) && !is_left {
                continue;
            }
            releases.push(Release {
                id,
                project: listed.plan.project,
                user: listed.plan.user,
                profile: listed.plan.profile,
                taken,
                addresses,
            });
        }
        releases.sort_by_key(|release| release.id);
        Ok(releases)
    }

    async fn remove_ingresses(&self, id: SessionId) -> Result<Vec<String>, SpawnError> {
        let account = self.account(id).await?;
        if !account.is_some_and(|account| is_ours(&account.metadata, id)) {
            return Err(refused(
                "the session is not the gateway's own: it is to be taken over first",
            ));
        }
        self.remove_helms::<Ingress>(id).await
    }
}

fn text<S: Serializer>(id: &SessionId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

fn refused(why: &str) -> SpawnError {
    SpawnError::new(Reason::Refused { error: why.into() })
}
