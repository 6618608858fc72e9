//! What a pod's status says of its session. Pure: one pod in, one view out.

use std::{net::IpAddr, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Container, ContainerStateTerminated, ContainerStatus, Pod, PodStatus},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    jiff::Timestamp,
};
use uuid::Uuid;

use super::{
    names::{HELM, MANAGED_BY, NamespaceTemplate, STOP, UUID},
    objects::{annotation, label},
    pod::CONTAINER,
};
use crate::{
    activator::InstanceUid,
    session::{ExitStatus, Reason, Services, SessionId, Stage},
};

/// What routing and the pages need of a pod.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct View {
    pub(super) id: SessionId,
    pub(super) uid: InstanceUid,
    pub(super) address: Option<IpAddr>,
    /// By [`crate::session::Service::index`].
    pub(super) ports: Box<[u16]>,
    pub(super) state: State,
    /// Whether a chart's release keeps it.
    pub(super) is_helms: bool,
    pub(super) made: Option<Timestamp>,
    /// When it will be stopped, if that is announced.
    pub(super) stop: Option<jiff::Timestamp>,
    /// The profile it is made by, where whoever reads it has looked for that in the configuration.
    pub(super) profile: Option<Arc<str>>,
}

/// Where a pod stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum State {
    /// It waits for this, as it should.
    Waits(Stage),
    /// Something keeps it from running.
    Stuck(Arc<Reason>),
    /// Its container runs, and it has an address.
    Runs,
    /// It is being deleted.
    Ends,
    /// It ended, and is not started again; why, if that is told.
    Over(Option<Arc<Reason>>),
}

/// What keeps a container from running because of its image.
const IMAGE: [&str; 6] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
    "RegistryUnavailable",
];
/// What keeps it from running because of how it is set up.
const SETUP: [&str; 5] = [
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "PreCreateHookError",
    "PostStartHookError",
];
/// What the scheduler says while the disk is not there yet, or while it has not heard of a claim or a volume that was
/// just made.
const NO_DISK_YET: [&str; 3] = [
    "unbound immediate PersistentVolumeClaims",
    "persistentvolumeclaim \"",
    "persistentvolume \"",
];

/// Reads a pod. `None` if it is no session's: without an id, or not in the namespace that the session has.
pub(super) fn view(pod: &Pod, template: &NamespaceTemplate, services: &Services) -> Option<View> {
    let meta = &pod.metadata;
    let id: SessionId = label(meta, UUID)?.parse().ok()?;
    let uid = InstanceUid(meta.uid.as_deref()?.parse::<Uuid>().ok()?);
    // Whoever may make pods in another namespace must not take a session's place.
    if meta.namespace.as_deref() != Some(&template.of(id)) {
        return None;
    }
    let status = pod.status.as_ref();
    let address = status
        .and_then(|status| status.pod_ip.as_deref())
        .and_then(|ip| ip.parse().ok());
    let state = match (&meta.deletion_timestamp, status) {
        (Some(_), _) => State::Ends,
        (None, Some(status)) => state(status, address),
        (None, None) => State::Waits(Stage::Schedule),
    };
    let container = pod.spec.as_ref().and_then(|spec| {
        let named = spec.containers.iter().find(|one| one.name == CONTAINER);
        named.or(spec.containers.first())
    });
    Some(View {
        id,
        uid,
        address,
        ports: services
            .iter()
            .map(|(_, spec)| port(container, &spec.name).unwrap_or(spec.port))
            .collect(),
        state,
        is_helms: label(meta, MANAGED_BY) == Some(HELM),
        made: meta.creation_timestamp.as_ref().map(|time| time.0),
        stop: announced(meta),
        profile: None,
    })
}

/// When a pod will be stopped, if that is announced.
pub(super) fn announced(meta: &ObjectMeta) -> Option<jiff::Timestamp> {
    annotation(meta, STOP)?.parse().ok()
}

/// The port of this name: a chart's values may differ from this program's.
fn port(container: Option<&Container>, name: &str) -> Option<u16> {
    let ports = container?.ports.as_ref()?;
    let port = ports
        .iter()
        .find(|port| port.name.as_deref() == Some(name))?;
    port.container_port.try_into().ok()
}

fn state(status: &PodStatus, address: Option<IpAddr>) -> State {
    if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
        return State::Over(over(status).map(Arc::new));
    }
    let inits = status.init_container_statuses.iter().flatten();
    for init in inits {
        let is_over = init
            .state
            .as_ref()
            .and_then(|state| state.terminated.as_ref());
        let is_well = is_over.is_some_and(|terminated| terminated.exit_code == 0);
        if !is_well && let Some(reason) = fault(init) {
            return State::Stuck(Arc::new(reason));
        }
    }
    let all = status.container_statuses.as_deref().unwrap_or_default();
    let named = all.iter().find(|one| one.name == CONTAINER);
    if let Some(container) = named.or(all.first()) {
        let runs = container
            .state
            .as_ref()
            .is_some_and(|state| state.running.is_some());
        if runs && address.is_some() {
            return State::Runs;
        }
        if !runs && let Some(reason) = fault(container) {
            return State::Stuck(Arc::new(reason));
        }
    }
    unscheduled(status).unwrap_or(State::Waits(Stage::Pull))
}

/// Why a pod ended for good: the node ended it, or its container did and is not to be started again.
fn over(status: &PodStatus) -> Option<Reason> {
    let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if let Some(reason) = said(&status.reason) {
        let error = match said(&status.message) {
            Some(message) => format!("{reason}: {message}"),
            None => reason,
        };
        return Some(Reason::Evicted {
            error: error.into(),
        });
    }
    let all = status.container_statuses.iter().flatten();
    all.filter_map(|one| one.state.as_ref()?.terminated.as_ref())
        .find(|ended| ended.exit_code != 0)
        .map(end)
}

/// Where a pod stands that has no node yet.
fn unscheduled(status: &PodStatus) -> Option<State> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let scheduled = conditions.iter().find(|one| one.type_ == "PodScheduled");
    let Some(scheduled) = scheduled.filter(|one| one.status != "True") else {
        return scheduled.is_none().then_some(State::Waits(Stage::Schedule));
    };
    let message = scheduled.message.as_deref().unwrap_or_default();
    Some(if scheduled.reason.as_deref() != Some("Unschedulable") {
        State::Waits(Stage::Schedule)
    } else if NO_DISK_YET.iter().any(|says| message.contains(says)) {
        State::Waits(Stage::Disk)
    } else {
        State::Stuck(Arc::new(Reason::Unschedulable {
            error: message.into(),
        }))
    })
}

/// What keeps a container from running, if anything does.
fn fault(container: &ContainerStatus) -> Option<Reason> {
    let state = container.state.as_ref()?;
    let last = container
        .last_state
        .as_ref()
        .and_then(|last| last.terminated.as_ref());
    if let Some(ended) = &state.terminated {
        return Some(end(ended));
    }
    let waiting = state.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().unwrap_or_default();
    let words = || match waiting.message.as_deref() {
        Some(message) if !message.is_empty() => format!("{reason}: {message}").into(),
        _ => Arc::from(reason),
    };
    if IMAGE.contains(&reason) {
        return Some(Reason::Image { error: words() });
    }
    if SETUP.contains(&reason) {
        return Some(Reason::Container { error: words() });
    }
    last.map(end)
}

/// How a container ended. One that could not be started at all has no exit code of its own.
fn end(ended: &ContainerStateTerminated) -> Reason {
    let reason = ended.reason.as_deref().unwrap_or_default();
    let message = ended.message.as_deref().unwrap_or_default();
    if matches!(reason, "StartError" | "ContainerCannotRun") {
        return Reason::Container {
            error: format!("{reason}: {message}").into(),
        };
    }
    let status = match ended.signal {
        Some(signal) if signal != 0 => ExitStatus::Signal(signal),
        _ => ExitStatus::Code(ended.exit_code),
    };
    if reason == "OOMKilled" {
        return Reason::OutOfMemory { status };
    }
    Reason::Exited {
        status,
        output: message.into(),
    }
}

#[cfg(test)]
mod tests;
