//! The objects of a session, from its plan and the configuration. Pure: the same plan makes the same objects.
//!
//! No empty list and no null is in them: a second apply of one would change the object, or be refused.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::{
            LimitRange, LimitRangeItem, LimitRangeSpec, Namespace, PersistentVolumeClaim,
            PersistentVolumeClaimSpec, Pod, ResourceQuota, ResourceQuotaSpec, Service,
            ServiceAccount, ServicePort, ServiceSpec, VolumeResourceRequirements,
        },
        networking::v1::{
            IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule,
            NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

use super::{
    config::{KubernetesConfig, ServiceObjects},
    names::{self, MANAGED_BY, MANAGER, PLAN, UUID},
    pod,
    text::document,
};
use crate::session::{Plan, Services, SessionId};

/// The label by which a namespace says which Pod Security Standard it enforces.
const POD_SECURITY: &str = "pod-security.kubernetes.io/enforce";
/// Where no session has business: private, carrier-grade, loopback and link-local networks, the last with the clouds'
/// metadata services (RFC 1918, 6598, 3927).
const PRIVATE_V4: [&str; 6] = [
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
];
/// The same of IPv6 (RFC 4193, 4291).
const PRIVATE_V6: [&str; 3] = ["::1/128", "fc00::/7", "fe80::/10"];

/// What the objects of every session are made from.
pub struct Template<'a> {
    /// The settings of sessions on Kubernetes.
    pub config: &'a KubernetesConfig,
    /// The services of every session.
    pub services: &'a Services,
    /// Who reaches a session's pod, where the configuration does not say it.
    pub gateway: &'a [NetworkPolicyPeer],
}

/// All objects of one session, copied Secrets apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Objects {
    /// Its namespace, if it has one of its own.
    pub namespace: Option<Namespace>,
    /// Its account, which is its durable record too.
    pub account: ServiceAccount,
    /// Who reaches its pod, and what the pod reaches.
    pub policy: Option<NetworkPolicy>,
    /// What a container gets that says nothing of it.
    pub limits: LimitRange,
    /// What all its pods may use at most.
    pub quota: Option<ResourceQuota>,
    /// Its disk.
    pub claim: Option<PersistentVolumeClaim>,
    /// Its Services.
    pub services: Vec<Service>,
    /// Its pod.
    pub pod: Pod,
    /// The Secrets of the gateway's own namespace that it needs copies of.
    pub secrets: Vec<String>,
    /// The name of all this: it changes when any of it does.
    pub hash: String,
}

impl Template<'_> {
    /// The objects of this session.
    #[must_use]
    pub fn objects(&self, id: SessionId, plan: &Plan) -> Objects {
        let config = self.config;
        let namespace = config.namespace.of(id);
        let of = Of {
            id,
            plan,
            namespace: &namespace,
        };
        let mut objects = Objects {
            namespace: (!config.namespace.is_shared()).then(|| self.namespace(&of)),
            account: account(&of),
            policy: config.policy.enabled.then(|| self.policy(&of)),
            limits: limits(&of, &config.limits),
            quota: (!config.quota.is_empty()).then(|| quota(&of, &config.quota)),
            claim: config.storage.enabled.then(|| self.claim(&of)),
            services: self.services(&of),
            pod: pod::pod(self, &of),
            secrets: [&config.image.pull_secrets[..], &config.env_secrets].concat(),
            hash: String::new(),
        };
        let text: Vec<String> = objects
            .documents()
            .iter()
            .map(ToString::to_string)
            .collect();
        objects.hash = names::hash(text.concat().as_bytes());
        let annotations = objects.pod.metadata.annotations.get_or_insert_default();
        annotations.insert(PLAN.to_owned(), objects.hash.clone());
        objects
    }

    fn namespace(&self, of: &Of<'_>) -> Namespace {
        let mut metadata = of.metadata(of.namespace.to_owned());
        metadata.namespace = None;
        let labels = metadata.labels.get_or_insert_default();
        labels.insert(POD_SECURITY.to_owned(), self.config.pod_security.clone());
        Namespace {
            metadata,
            ..Namespace::default()
        }
    }

    fn policy(&self, of: &Of<'_>) -> NetworkPolicy {
        let policy = &self.config.policy;
        let admitted = match policy.admitted.as_slice() {
            [] => self.gateway,
            admitted => admitted,
        };
        let mut egress = vec![
            NetworkPolicyEgressRule {
                to: Some(vec![
                    all_but("0.0.0.0/0", &PRIVATE_V4),
                    all_but("::/0", &PRIVATE_V6),
                ]),
                ports: None,
            },
            dns(),
        ];
        egress.extend(policy.egress.iter().cloned());
        let ports = self.services.iter().map(|(_, spec)| NetworkPolicyPort {
            port: Some(IntOrString::Int(spec.port.into())),
            protocol: Some("TCP".to_owned()),
            end_port: None,
        });
        // Without a peer nobody may come; an empty list of them would admit everybody.
        let ingress = NetworkPolicyIngressRule {
            from: Some(admitted.to_vec()),
            ports: Some(ports.collect()),
        };
        NetworkPolicy {
            metadata: of.metadata(names::base(of.id)),
            spec: Some(NetworkPolicySpec {
                pod_selector: Some(LabelSelector {
                    match_labels: Some(of.selector()),
                    match_expressions: None,
                }),
                policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
                ingress: (!admitted.is_empty()).then(|| vec![ingress]),
                egress: Some(egress),
            }),
        }
    }

    fn claim(&self, of: &Of<'_>) -> PersistentVolumeClaim {
        let storage = &self.config.storage;
        let size = [("storage".to_owned(), storage.size.clone())].into();
        PersistentVolumeClaim {
            metadata: of.metadata(names::claim(of.id)),
            spec: Some(PersistentVolumeClaimSpec {
                access_modes: Some(vec![storage.access_mode.to_owned()]),
                storage_class_name: (!storage.class.is_empty()).then(|| storage.class.clone()),
                resources: Some(VolumeResourceRequirements {
                    requests: Some(quantities(&size)),
                    limits: None,
                }),
                ..PersistentVolumeClaimSpec::default()
            }),
            status: None,
        }
    }

    fn services(&self, of: &Of<'_>) -> Vec<Service> {
        let port = |name: &str, port: u16| ServicePort {
            name: Some(name.to_owned()),
            port: port.into(),
            target_port: Some(IntOrString::String(name.to_owned())),
            protocol: Some("TCP".to_owned()),
            ..ServicePort::default()
        };
        let service = |suffix: &str, ports: Vec<ServicePort>| Service {
            metadata: of.metadata(names::service(of.id, suffix)),
            spec: Some(ServiceSpec {
                type_: Some("ClusterIP".to_owned()),
                selector: Some(of.selector()),
                ports: Some(ports),
                ..ServiceSpec::default()
            }),
            status: None,
        };
        let all = self
            .services
            .iter()
            .map(|(_, spec)| port(&spec.name, spec.port))
            .collect();
        let single = self
            .services
            .iter()
            .map(|(_, spec)| service(&spec.name, vec![port(&spec.name, spec.port)]));
        match self.config.services {
            ServiceObjects::None => vec![],
            ServiceObjects::Single => vec![service("lb", all)],
            ServiceObjects::Full => std::iter::once(service("lb", all)).chain(single).collect(),
        }
    }
}

/// Of which session an object is.
pub(super) struct Of<'a> {
    pub(super) id: SessionId,
    pub(super) plan: &'a Plan,
    pub(super) namespace: &'a str,
}

impl Of<'_> {
    pub(super) fn metadata(&self, name: String) -> ObjectMeta {
        names::metadata(self.id, self.plan, name, self.namespace)
    }

    fn selector(&self) -> BTreeMap<String, String> {
        [(UUID.to_owned(), self.id.to_string())].into()
    }
}

impl Objects {
    /// Every object as it is sent, in the order in which they are made.
    #[must_use]
    pub fn documents(&self) -> Vec<serde_json::Value> {
        let mut all: Vec<_> = self.namespace.iter().map(document).collect();
        all.push(document(&self.account));
        all.extend(self.policy.iter().map(document));
        all.push(document(&self.limits));
        all.extend(self.quota.iter().map(document));
        all.extend(self.claim.iter().map(document));
        all.extend(self.services.iter().map(document));
        all.push(document(&self.pod));
        all
    }
}

/// The pod's own account: no start waits for the one that the cluster makes in a new namespace.
fn account(of: &Of<'_>) -> ServiceAccount {
    ServiceAccount {
        metadata: of.metadata(names::base(of.id)),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// Always there: without one in the namespace the API server lists them anew for each pod, 20 times slower.
fn limits(of: &Of<'_>, limits: &BTreeMap<String, String>) -> LimitRange {
    LimitRange {
        metadata: of.metadata(names::base(of.id)),
        spec: Some(LimitRangeSpec {
            limits: vec![LimitRangeItem {
                type_: "Container".to_owned(),
                default: (!limits.is_empty()).then(|| quantities(limits)),
                ..LimitRangeItem::default()
            }],
        }),
    }
}

fn quota(of: &Of<'_>, hard: &BTreeMap<String, String>) -> ResourceQuota {
    ResourceQuota {
        metadata: of.metadata(names::base(of.id)),
        spec: Some(ResourceQuotaSpec {
            hard: Some(quantities(hard)),
            ..ResourceQuotaSpec::default()
        }),
        status: None,
    }
}

pub(super) fn quantities(all: &BTreeMap<String, String>) -> BTreeMap<String, Quantity> {
    all.iter()
        .map(|(name, quantity)| (name.clone(), Quantity(quantity.clone())))
        .collect()
}

fn all_but(cidr: &str, except: &[&str]) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        ip_block: Some(IPBlock {
            cidr: cidr.to_owned(),
            except: Some(except.iter().map(|&cidr| cidr.to_owned()).collect()),
        }),
        ..NetworkPolicyPeer::default()
    }
}

/// The cluster's DNS, under the label that it has everywhere.
fn dns() -> NetworkPolicyEgressRule {
    let labels = [("k8s-app".to_owned(), "kube-dns".to_owned())];
    let port = |protocol: &str| NetworkPolicyPort {
        port: Some(IntOrString::Int(53)),
        protocol: Some(protocol.to_owned()),
        end_port: None,
    };
    NetworkPolicyEgressRule {
        to: Some(vec![NetworkPolicyPeer {
            namespace_selector: Some(LabelSelector::default()),
            pod_selector: Some(LabelSelector {
                match_labels: Some(labels.into()),
                match_expressions: None,
            }),
            ip_block: None,
        }]),
        ports: Some(vec![port("UDP"), port("TCP")]),
    }
}

/// Whether an object is one that this program made for this session.
pub(super) fn is_ours(meta: &ObjectMeta, id: SessionId) -> bool {
    label(meta, MANAGED_BY) == Some(MANAGER) && label(meta, UUID) == Some(id.to_string().as_str())
}

/// The value of a label.
pub(super) fn label<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(key).map(String::as_str)
}

/// The value of an annotation.
pub(super) fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}
