//! The settings of sessions on Kubernetes. Those of the chart that deployed sessions before have its names.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PodTemplateSpec, Toleration};
use k8s_openapi::api::networking::v1::{NetworkPolicyEgressRule, NetworkPolicyPeer};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    names::{self, NamespaceTemplate},
    text::{document, reread},
};
use crate::session::{Plan, Services};
use crate::settings::Section;

/// How sessions run on Kubernetes.
#[derive(Debug, Clone, PartialEq)]
pub struct KubernetesConfig {
    /// In which namespace each is.
    pub namespace: NamespaceTemplate,
    /// Level of the Pod Security Standards that a session's namespace enforces.
    pub pod_security: String,
    /// What the container runs.
    pub image: Image,
    /// Added to the container's environment.
    pub env: BTreeMap<String, String>,
    /// Secrets of the gateway's own namespace whose keys become environment variables of the container.
    pub env_secrets: Vec<String>,
    /// The disk.
    pub storage: Storage,
    /// What the container may use at most, and what is kept free for it: resource and quantity.
    pub limits: BTreeMap<String, String>,
    /// See `limits`.
    pub requests: BTreeMap<String, String>,
    /// What a session's namespace may use at most; empty: no ResourceQuota.
    pub quota: BTreeMap<String, String>,
    /// Labels of the nodes that sessions run on.
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that sessions run on all the same.
    pub tolerations: Vec<Toleration>,
    /// Merged over the pod.
    pub pod_template: PodTemplateSpec,
    /// Which Services a session has.
    pub services: ServiceObjects,
    /// Who reaches a session's pod, and what it reaches.
    pub policy: Policy,
    /// By its name, what each profile makes of all this.
    pub profiles: BTreeMap<Arc<str>, Self>,
}

/// What the container runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its name without the tag; empty: not configured.
    pub repository: String,
    /// Its tag.
    pub tag: String,
    /// Its digest; empty: the tag says which one.
    pub digest: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub pull_policy: &'static str,
    /// Secrets of the gateway's own namespace with registry credentials.
    pub pull_secrets: Vec<String>,
}

/// The disk of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// Whether there is one; otherwise the workspace goes with the pod.
    pub enabled: bool,
    /// Its size, a quantity.
    pub size: String,
    /// Its StorageClass; empty: the cluster's default.
    pub class: String,
    /// `ReadWriteOnce`, `ReadWriteOncePod` or `ReadWriteMany`.
    pub access_mode: &'static str,
    /// Where the container sees it.
    pub mount_path: String,
}

/// Which Services a session has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceObjects {
    /// `-lb` with all ports, and one for each service.
    Full,
    /// `-lb` with all ports.
    Single,
    /// None: the gateway needs none.
    None,
}

/// Who reaches a session's pod, and what it reaches.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Whether a session has a NetworkPolicy.
    pub enabled: bool,
    /// Who reaches it; empty: this gateway, found out by itself.
    pub admitted: Vec<NetworkPolicyPeer>,
    /// What it reaches beside the internet and DNS.
    pub egress: Vec<NetworkPolicyEgressRule>,
}

impl KubernetesConfig {
    /// Reads the keys from the whole configuration.
    #[must_use]
    pub fn read(root: &mut Section<'_>) -> Option<Self> {
        let services = [
            ("full", ServiceObjects::Full),
            ("single", ServiceObjects::Single),
            ("none", ServiceObjects::None),
        ];
        let namespace = root.string("namespace");
        root.check(&["namespace"], is_namespace(&namespace), || {
            format!("expected lower-case letters, digits, hyphens and {{uuid}}, 63 at most; found {namespace:?}")
        });
        let services = root.choice("services", &services);
        Self::made(root, NamespaceTemplate(namespace), services)
    }

    /// Reads what a profile may say, from the whole configuration with the profile on top. Not where a session is
    /// found, nor how it is reached.
    #[must_use]
    pub fn profile(&self, merged: &mut Section<'_>) -> Option<Self> {
        Self::made(merged, self.namespace.clone(), self.services)
    }

    fn made(
        root: &mut Section<'_>,
        namespace: NamespaceTemplate,
        services: ServiceObjects,
    ) -> Option<Self> {
        let levels = ["restricted", "baseline", "privileged"].map(|level| (level, level));
        let pod_security = root.choice("podSecurity", &levels).to_owned();
        let image = root.section("image", Image::read);
        let env = root.string_map("env");
        for name in env.keys() {
            root.check(
                &["env"],
                !name.is_empty() && !name.contains(['=', '\0']),
                || format!("{name:?} cannot be the name of an environment variable"),
            );
        }
        let env_secrets = root.strings("envSecrets");
        let storage = root.section("storage", Storage::read);
        let resources = root.section("resources", |resources| {
            (
                quantities(resources, "limits"),
                quantities(resources, "requests"),
            )
        });
        let quota = quantities(root, "quota");
        let node_selector = root.string_map("nodeSelector");
        let tolerations = typed(root, "tolerations");
        let pod_template = typed(root, "podTemplate");
        let policy = root.section("networkPolicy", Policy::read);
        let (limits, requests) = resources?;
        Some(Self {
            namespace,
            pod_security,
            image: image?,
            env,
            env_secrets,
            storage: storage?,
            limits,
            requests,
            quota,
            node_selector,
            tolerations,
            pod_template,
            services,
            policy: policy?,
            profiles: BTreeMap::new(),
        })
    }

    /// What the profile of this name makes of a session; `None` if there is none.
    #[must_use]
    pub fn by(&self, profile: &str) -> Option<&Self> {
        let default = (profile == Plan::DEFAULT_PROFILE).then_some(self);
        self.profiles.get(profile).or(default)
    }

    /// The name of this profile that all who are told it share; `None` if there is none of this name.
    #[must_use]
    pub fn shared_name(&self, profile: &str) -> Option<Arc<str>> {
        let found = self.profiles.get_key_value(profile);
        found.map(|(name, _)| Arc::clone(name))
    }

    /// Checks what matters only where sessions run on Kubernetes.
    pub fn check(&self, root: &mut Section<'_>, services: &Services) {
        root.check(&["image.repository"], !self.image.repository.is_empty(), || {
            "is empty; expected the image of your sessions, such as registry.example/dev-session".to_owned()
        });
        for (name, profile) in &self.profiles {
            let key = format!("profiles.{name}.image.repository");
            let empty = profile.image.repository.is_empty() && !self.image.repository.is_empty();
            root.check(&[&key], !empty, || "is empty".to_owned());
        }
        if self.services != ServiceObjects::Full {
            return;
        }
        for (_, spec) in services.iter() {
            let fits = spec.name.len() <= names::LONGEST_SERVICE;
            root.check(&[&format!("service.{}", spec.name)], fits, || {
                format!(
                    "a Service of this name would be too long: {} characters at most, or services: single",
                    names::LONGEST_SERVICE
                )
            });
        }
    }
}

impl Image {
    fn read(section: &mut Section<'_>) -> Self {
        let policies = ["Always", "IfNotPresent", "Never"].map(|policy| (policy, policy));
        Self {
            repository: section.string("repository"),
            tag: section.string("tag"),
            digest: section.string("digest"),
            pull_policy: section.choice("pullPolicy", &policies),
            pull_secrets: section.strings("pullSecrets"),
        }
    }

    /// The reference that a node pulls.
    #[must_use]
    pub fn reference(&self) -> String {
        if self.digest.is_empty() {
            format!("{}:{}", self.repository, self.tag)
        } else {
            format!("{}@{}", self.repository, self.digest)
        }
    }
}

impl Storage {
    fn read(section: &mut Section<'_>) -> Self {
        let modes = ["ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany"].map(|mode| (mode, mode));
        let storage = Self {
            enabled: section.bool("enabled"),
            size: section.string("size"),
            class: section.string("className"),
            access_mode: section.choice("accessMode", &modes),
            mount_path: section.string("mountPath"),
        };
        section.check(&["size"], is_quantity(&storage.size), || {
            quantity_expected(&storage.size)
        });
        let absolute = storage.mount_path.starts_with('/') && !storage.mount_path.contains(':');
        section.check(&["mountPath"], absolute, || {
            format!(
                "expected a path such as /workspace; found {:?}",
                storage.mount_path
            )
        });
        storage
    }
}

impl Policy {
    fn read(section: &mut Section<'_>) -> Self {
        Self {
            enabled: section.bool("enabled"),
            admitted: typed(section, "admitted"),
            egress: typed(section, "egress"),
        }
    }
}

/// A mapping of resources to quantities, such as `cpu: 500m`.
fn quantities(section: &mut Section<'_>, key: &str) -> BTreeMap<String, String> {
    let all = section.string_map(key);
    for quantity in all.values() {
        section.check(&[key], is_quantity(quantity), || {
            quantity_expected(quantity)
        });
    }
    all
}

fn quantity_expected(found: &str) -> String {
    format!("expected a quantity such as 500m, 2 or 4Gi; found {found:?}")
}

/// Whether it is a number with or without one of Kubernetes' suffixes.
fn is_quantity(text: &str) -> bool {
    const SUFFIXES: [&str; 15] = [
        "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi",
    ];
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let digits = number.bytes().filter(u8::is_ascii_digit).count();
    let dots = number.bytes().filter(|b| *b == b'.').count();
    digits > 0
        && dots <= 1
        && digits + dots == number.len()
        && SUFFIXES.contains(&&text[number.len()..])
}

/// Whether it is the name of a namespace once the id stands in it (RFC 1123, section 2.1).
fn is_namespace(template: &str) -> bool {
    let name = template.replace(names::PLACEHOLDER, "00000000-0000-0000-0000-000000000000");
    (1..=63).contains(&name.len())
        && !name.starts_with('-')
        && !name.ends_with('-')
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// A value of one of Kubernetes' own types. A field that the type does not have would be dropped without a word, so
/// it is refused by its name.
fn typed<T: DeserializeOwned + Serialize + Default>(section: &mut Section<'_>, key: &str) -> T {
    let Some(written) = section.optional(key, Section::json) else {
        return T::default();
    };
    match reread::<T>(&written) {
        Err(error) => {
            let error = error.to_string();
            // Where it is in the text that was made here tells nobody anything.
            let (problem, _) = error.rsplit_once(" at line ").unwrap_or((&error, ""));
            section.check(&[key], false, || problem.to_owned());
            T::default()
        }
        Ok(read) => {
            let kept = document(&read);
            let dropped = dropped(&written, &kept);
            section.check(&[key], dropped.is_none(), || {
                format!(
                    "{}: Kubernetes has no such field in this place, in the versions this program speaks",
                    dropped.unwrap_or_default()
                )
            });
            read
        }
    }
}

/// The path of the first field that was written and not kept.
fn dropped(written: &Value, kept: &Value) -> Option<String> {
    let below = |name: String, inner: Option<String>| inner.map(|inner| format!("{name}{inner}"));
    match (written, kept) {
        (Value::Object(written), kept) => {
            written
                .iter()
                .find_map(|(name, value)| match kept.get(name) {
                    Some(kept) => below(format!(".{name}"), dropped(value, kept)),
                    // Empty values are left out when they are written again.
                    None if is_empty(value) => None,
                    None => Some(format!(".{name}")),
                })
        }
        (Value::Array(written), Value::Array(kept)) => {
            let pairs = written.iter().zip(kept).enumerate();
            pairs
                .into_iter()
                .find_map(|(at, (written, kept))| below(format!("[{at}]"), dropped(written, kept)))
        }
        _ => None,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_quantity_has_digits_and_a_known_suffix() {
        for good in ["1", "0.5", "500m", "10Gi", "2000m", "1.5G"] {
            assert!(is_quantity(good), "{good}");
        }
        for bad in ["", "Gi", "1gb", "1 Gi", "-1", "1..5", "ten", "1e", "1Gi1"] {
            assert!(!is_quantity(bad), "{bad}");
        }
    }

    #[test]
    fn a_field_that_would_be_dropped_is_named() {
        let written =
            json!({"spec": {"containers": [{"name": "session", "imagee": "x"}], "hostname": "h"}});
        let read: PodTemplateSpec = reread(&written).expect("it is one");
        let kept = document(&read);
        assert_eq!(
            dropped(&written, &kept).as_deref(),
            Some(".spec.containers[0].imagee")
        );
        let written = json!({"spec": {"containers": [], "tolerations": null}, "metadata": {"labels": {"a": "b"}}});
        let read: PodTemplateSpec = reread(&written).expect("it is one");
        assert_eq!(dropped(&written, &document(&read)), None);
    }
}
