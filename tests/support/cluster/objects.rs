//! All that a session has in the cluster.

use std::collections::BTreeMap;

use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{PersistentVolumeClaim, Pod},
};
use kube::Resource;
use serde::de::DeserializeOwned;
use session_gateway::session::SessionId;

use super::Relay;

impl Relay {
    /// By kind and name, the identities of all that a session has.
    pub async fn objects(&self, id: SessionId) -> BTreeMap<String, String> {
        let all = self.objects_in(&self.namespace(id)).await;
        let named = |(name, uid): (String, _)| (name.replace(&id.to_string(), "UUID"), uid);
        all.into_iter().map(named).collect()
    }

    /// By kind and name, the identities of all that is in a namespace.
    pub async fn objects_in(&self, namespace: &str) -> BTreeMap<String, String> {
        use k8s_openapi::api::core::v1::{
            LimitRange, ResourceQuota, Secret, Service, ServiceAccount,
        };
        use k8s_openapi::api::networking::v1::NetworkPolicy;
        let mut all = BTreeMap::new();
        self.add::<Pod>(namespace, &mut all).await;
        self.add::<ServiceAccount>(namespace, &mut all).await;
        self.add::<PersistentVolumeClaim>(namespace, &mut all).await;
        self.add::<LimitRange>(namespace, &mut all).await;
        self.add::<ResourceQuota>(namespace, &mut all).await;
        self.add::<NetworkPolicy>(namespace, &mut all).await;
        self.add::<Service>(namespace, &mut all).await;
        self.add::<Secret>(namespace, &mut all).await;
        // Every namespace has this one from the cluster itself.
        all.remove("ServiceAccount default");
        all
    }

    /// The identity of a session's disk, which must be there to stay.
    pub async fn disk(&self, id: SessionId) -> String {
        let claims = self.within::<PersistentVolumeClaim>(&self.namespace(id));
        let claim = claims.get(&format!("dev-session-{id}-workspace")).await;
        let meta = claim.expect("it is there").metadata;
        assert!(meta.deletion_timestamp.is_none());
        meta.uid.expect("it has one")
    }

    async fn add<K>(&self, namespace: &str, all: &mut BTreeMap<String, String>)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        K: Clone + std::fmt::Debug + DeserializeOwned,
    {
        let list = self.within::<K>(namespace).list(&Default::default()).await;
        for object in list.expect("a list") {
            let meta = object.meta();
            let name = meta.name.as_deref().unwrap_or_default();
            all.insert(
                format!("{} {name}", K::kind(&())),
                meta.uid.clone().unwrap_or_default(),
            );
        }
    }
}
