//! The pod of a session: one container, hardened, and the operator's template merged over it.

use k8s_openapi::{
    DeepMerge,
    api::core::v1::{
        Capabilities, Container, ContainerPort, EmptyDirVolumeSource, EnvFromSource, EnvVar,
        LocalObjectReference, PersistentVolumeClaimVolumeSource, Pod, PodSecurityContext, PodSpec,
        PodTemplateSpec, ResourceRequirements, SeccompProfile, SecretEnvSource, SecurityContext,
        Volume, VolumeMount,
    },
};

use super::{
    names,
    objects::{Of, Template, quantities},
};

/// The name of the container.
pub(super) const CONTAINER: &str = "session";
/// The name of the volume with the workspace.
const WORKSPACE: &str = "workspace";
/// How long the container may take to end, in seconds: the cluster's default, said so that it is not changed by it.
const GRACE: i64 = 30;
/// The user and the group that the container runs as: no root, and the same in every session.
const USER: i64 = 1000;

/// The pod of a session.
pub(super) fn pod(template: &Template<'_>, of: &Of<'_>) -> Pod {
    let mut whole = PodTemplateSpec {
        metadata: Some(of.metadata(names::base(of.id))),
        spec: Some(spec(template, of)),
    };
    let mut over = template.config.pod_template.clone();
    // Whose pod it is and how it is found is not the template's to say.
    if let Some(meta) = &mut over.metadata {
        meta.name = None;
        meta.namespace = None;
        meta.labels
            .get_or_insert_default()
            .retain(|key, _| !key.starts_with("dev-session/") && key != names::MANAGED_BY);
    }
    whole.merge_from(over);
    Pod {
        metadata: whole.metadata.unwrap_or_default(),
        spec: whole.spec,
        status: None,
    }
}

fn spec(template: &Template<'_>, of: &Of<'_>) -> PodSpec {
    let config = template.config;
    let pull_secrets = config.image.pull_secrets.iter();
    let pull_secrets: Vec<_> = pull_secrets
        .map(|name| LocalObjectReference { name: name.clone() })
        .collect();
    let selector = &config.node_selector;
    PodSpec {
        service_account_name: Some(names::base(of.id)),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(GRACE),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            // Otherwise each start would walk through all files of the workspace.
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        containers: vec![container(template, of)],
        volumes: Some(vec![workspace(template, of)]),
        image_pull_secrets: (!pull_secrets.is_empty()).then_some(pull_secrets),
        node_selector: (!selector.is_empty()).then(|| selector.clone()),
        tolerations: (!config.tolerations.is_empty()).then(|| config.tolerations.clone()),
        ..PodSpec::default()
    }
}

fn container(template: &Template<'_>, of: &Of<'_>) -> Container {
    let config = template.config;
    let ports = template.services.iter().map(|(_, spec)| ContainerPort {
        name: Some(spec.name.clone()),
        container_port: spec.port.into(),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    });
    let env_from: Vec<_> = config
        .env_secrets
        .iter()
        .map(|name| EnvFromSource {
            secret_ref: Some(SecretEnvSource {
                name: name.clone(),
                optional: None,
            }),
            ..EnvFromSource::default()
        })
        .collect();
    let bounds =
        |all: &std::collections::BTreeMap<_, _>| (!all.is_empty()).then(|| quantities(all));
    Container {
        name: CONTAINER.to_owned(),
        image: Some(config.image.reference()),
        image_pull_policy: Some(config.image.pull_policy.to_owned()),
        ports: Some(ports.collect()),
        env: Some(environment(template, of)),
        env_from: (!env_from.is_empty()).then_some(env_from),
        resources: Some(ResourceRequirements {
            limits: bounds(&config.limits),
            requests: bounds(&config.requests),
            claims: None,
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                add: None,
            }),
            ..SecurityContext::default()
        }),
        // Of one that crashed, its last lines are said beside its exit code.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(vec![VolumeMount {
            name: WORKSPACE.to_owned(),
            mount_path: config.storage.mount_path.clone(),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    }
}

/// What the container is told of its session, and then what the operator adds.
fn environment(template: &Template<'_>, of: &Of<'_>) -> Vec<EnvVar> {
    let variable = |name: &str, value: String| EnvVar {
        name: name.to_owned(),
        value: Some(value),
        value_from: None,
    };
    let mut all = vec![
        variable("SESSION_UUID", of.id.to_string()),
        variable("PROJECT_ID", of.plan.project.clone()),
        variable("USER_ID", of.plan.user.clone()),
        variable("WORKSPACE", template.config.storage.mount_path.clone()),
    ];
    let mut specs: Vec<_> = template.services.iter().map(|(_, spec)| spec).collect();
    specs.sort_by(|one, other| one.name.cmp(&other.name));
    for spec in specs {
        let name = spec.variable();
        all.push(variable(&format!("{name}_PORT"), spec.port.to_string()));
        all.push(variable(
            &format!("{name}_BASE_PATH"),
            format!("/{}{}", of.id, spec.path),
        ));
    }
    let own = &template.config.env;
    all.retain(|variable| !own.contains_key(&variable.name));
    all.extend(
        own.iter()
            .map(|(name, value)| variable(name, value.clone())),
    );
    all
}

fn workspace(template: &Template<'_>, of: &Of<'_>) -> Volume {
    let mut volume = Volume {
        name: WORKSPACE.to_owned(),
        ..Volume::default()
    };
    if template.config.storage.enabled {
        volume.persistent_volume_claim = Some(PersistentVolumeClaimVolumeSource {
            claim_name: names::claim(of.id),
            read_only: None,
        });
    } else {
        volume.empty_dir = Some(EmptyDirVolumeSource::default());
    }
    volume
}
