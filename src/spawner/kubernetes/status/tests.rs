//! One status in, one state out: the words as a real kubelet and scheduler wrote them.

use serde_json::{Value, json};

use super::*;
use crate::session::{Prefix, ServiceSpec};

const ID: &str = "3f2b8c1e-5d4a-4c6b-9e7f-0a1b2c3d4e5f";

fn services() -> Services {
    let spec = |name, port| ServiceSpec {
        port,
        ..ServiceSpec::example(name, Prefix::Strip)
    };
    Services::new(vec![spec("preview", 3000), spec("chat", 3001)]).expect("two paths")
}

fn pod(namespace: &str, status: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": format!("dev-session-{ID}"),
            "namespace": namespace,
            "uid": "11111111-2222-4333-8444-555555555555",
            "labels": { "dev-session/uuid": ID },
        },
        "spec": { "containers": [{ "name": "session", "ports": [{ "name": "chat", "containerPort": 4001 }] }] },
        "status": status,
    }))
    .expect("a pod")
}

fn read(status: Value) -> State {
    let template = NamespaceTemplate("{uuid}".to_owned());
    view(&pod(ID, status), &template, &services())
        .expect("a session's pod")
        .state
}

fn waiting(reason: &str, message: &str, more: Value) -> Value {
    let mut container = json!({ "name": "session", "ready": false, "restartCount": 0, "image": "", "imageID": "",
        "state": { "waiting": { "reason": reason, "message": message } } });
    container
        .as_object_mut()
        .expect("a map")
        .extend(more.as_object().expect("a map").clone());
    json!({ "phase": "Pending", "containerStatuses": [container],
        "conditions": [{ "type": "PodScheduled", "status": "True" }] })
}

fn unscheduled(reason: &str, message: &str) -> Value {
    json!({ "phase": "Pending", "conditions":
        [{ "type": "PodScheduled", "status": "False", "reason": reason, "message": message }] })
}

/// What the kubelet and the scheduler of a real node wrote for each cause.
#[test]
fn each_cause_is_told_in_the_clusters_own_words() {
    let stuck = |reason| State::Stuck(Arc::new(reason));
    let image = |error: &str| {
        stuck(Reason::Image {
            error: error.into(),
        })
    };
    let container = |error: &str| {
        stuck(Reason::Container {
            error: error.into(),
        })
    };
    let nowhere = |error: &str| {
        stuck(Reason::Unschedulable {
            error: error.into(),
        })
    };
    let last = |code, reason: &str, message: &str| json!({ "lastState": { "terminated": { "exitCode": code, "reason": reason, "message": message } } });
    let (status, output) = (ExitStatus::Code(3), "no file".into());
    let exited = stuck(Reason::Exited { status, output });
    let status = ExitStatus::Code(137);
    let killed = stuck(Reason::OutOfMemory { status });
    let unstarted = json!({ "state": { "terminated": { "exitCode": 128, "reason": "StartError", "message": "no x" } } });
    let over = |reason| State::Over(Some(Arc::new(reason)));
    let error = "Evicted: no memory".into();
    let evicted = Reason::Evicted { error };
    let (status, output) = (ExitStatus::Code(3), "no file".into());
    let exited_for_good = Reason::Exited { status, output };
    let ended = |code| json!({ "name": "session", "ready": false, "restartCount": 0, "image": "", "imageID": "", "state": { "terminated": { "exitCode": code, "reason": "Error", "message": "no file" } } });
    let no_cpu = "0/1 nodes are available: 1 Insufficient cpu.";
    let too_new =
        "0/1 nodes are available: persistentvolumeclaim \"dev-session-x-workspace\" not found.";
    let no_volume = "0/1 nodes are available: persistentvolume \"pvc-1\" not found. not found";
    let no_disk = "0/1 nodes: pod has unbound immediate PersistentVolumeClaims.";
    #[rustfmt::skip]
    let table = [
        (waiting("ContainerCreating", "", json!({})), State::Waits(Stage::Pull)),
        (waiting("ErrImagePull", "not found", json!({})), image("ErrImagePull: not found")),
        (waiting("InvalidImageName", "", json!({})), image("InvalidImageName")),
        (waiting("CreateContainerConfigError", "no a", json!({})), container("CreateContainerConfigError: no a")),
        (waiting("CrashLoopBackOff", "back-off", last(3, "Error", "no file")), exited),
        (waiting("CrashLoopBackOff", "back-off", last(137, "OOMKilled", "")), killed),
        (waiting("", "", unstarted), container("StartError: no x")),
        (unscheduled("Unschedulable", no_cpu), nowhere(no_cpu)),
        (unscheduled("Unschedulable", no_disk), State::Waits(Stage::Disk)),
        (unscheduled("Unschedulable", too_new), State::Waits(Stage::Disk)),
        (unscheduled("Unschedulable", no_volume), State::Waits(Stage::Disk)),
        (unscheduled("SchedulingGated", ""), State::Waits(Stage::Schedule)),
        (json!({ "phase": "Pending" }), State::Waits(Stage::Schedule)),
        (json!({ "phase": "Failed", "reason": "Evicted", "message": "no memory" }), over(evicted)),
        (json!({ "phase": "Failed", "containerStatuses": [ended(3)] }), over(exited_for_good)),
        (json!({ "phase": "Succeeded", "containerStatuses": [ended(0)] }), State::Over(None)),
    ];
    for (status, state) in table {
        let told = status.to_string();
        assert_eq!(read(status), state, "{told}");
    }
}

#[test]
fn a_container_that_runs_is_not_waited_for_whatever_the_kubelet_calls_ready() {
    let running = |ip: Value| {
        json!({ "phase": "Running", "podIP": ip, "conditions": [{ "type": "PodScheduled", "status": "True" }],
            "containerStatuses": [{ "name": "session", "ready": false, "restartCount": 1, "image": "", "imageID": "",
                "state": { "running": {} }, "lastState": { "terminated": { "exitCode": 1 } } }] })
    };
    assert_eq!(read(running(json!("10.0.0.7"))), State::Runs);
    assert_eq!(read(running(Value::Null)), State::Waits(Stage::Pull));
}

#[test]
fn a_pod_in_another_namespace_or_without_an_id_is_no_sessions_pod() {
    let template = NamespaceTemplate("{uuid}".to_owned());
    let seen = |pod: &Pod| view(pod, &template, &services());
    assert!(seen(&pod(ID, json!({}))).is_some());
    assert_eq!(seen(&pod("default", json!({}))), None);
    let mut unnamed = pod(ID, json!({}));
    unnamed.metadata.labels = Some([(UUID.to_owned(), ID.to_uppercase())].into());
    assert_eq!(seen(&unnamed), None);
}

#[test]
fn a_port_is_the_containers_of_that_name_or_else_the_configured_one() {
    let template = NamespaceTemplate("{uuid}".to_owned());
    let view = view(&pod(ID, json!({})), &template, &services()).expect("a pod");
    assert_eq!(*view.ports, [3000, 4001]);
}

#[test]
fn what_is_being_deleted_ends_whatever_its_status_says() {
    let mut pod = pod(ID, json!({ "phase": "Running", "podIP": "10.0.0.7" }));
    pod.metadata.deletion_timestamp =
        serde_json::from_value(json!("2026-01-01T00:00:00Z")).expect("a time");
    let template = NamespaceTemplate("{uuid}".to_owned());
    assert_eq!(
        view(&pod, &template, &services()).expect("a pod").state,
        State::Ends
    );
}
