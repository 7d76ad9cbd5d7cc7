//! The status that a pod is given, from what the runtime has.

use super::*;
use crate::pod::container_status::Reasons;
use crate::probes::Results;
use crate::runtime::{ContainerRecord, RuntimePod, SandboxRecord, State};
use serde_json::json;

fn record(name: &str, state: State) -> ContainerRecord {
    ContainerRecord {
        id: format!("id-{name}"),
        name: name.into(),
        state,
        image: "docker.io/library/x:1".into(),
        image_ref: "sha256:1".into(),
        hash: 0,
        restart_count: 2,
        created_ns: 1,
        started_ns: 1_000_000_000,
        finished_ns: 2_000_000_000,
        exit_code: 1,
        reason: "Error".into(),
        message: String::new(),
        log_path: String::new(),
        annotations: Default::default(),
        mounts: vec![],
        user: None,
    }
}

fn status_of(pod: &Pod, containers: Vec<ContainerRecord>, reasons: &Reasons, terminal: bool) -> PodStatus {
    let sandbox =
        SandboxRecord { id: "s".into(), ready: true, created_ns: 1, attempt: 0, ips: vec!["10.0.0.9".into()], host_network: false };
    let runtime = RuntimePod { sandboxes: vec![sandbox], containers };
    let probes = Results::default();
    let input = Input { pod, runtime: &runtime, reasons, probes: &probes, runtime_name: "containerd", terminal };
    generate(&input, None, &NodeView { host_ips: &["192.0.2.1".into()], now: crate::pod::api_now() })
}

fn pod() -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u", "generation": 1},
        "spec": {"restartPolicy": "Always", "containers": [{"name": "a", "image": "x:1"}]}}))
    .unwrap()
}

fn condition<'a>(status: &'a PodStatus, type_: &str) -> &'a PodCondition {
    status.conditions.as_ref().unwrap().iter().find(|condition| condition.type_ == type_).unwrap()
}

#[test]
fn a_running_pod_is_ready_and_has_addresses() {
    let status = status_of(&pod(), vec![record("a", State::Running)], &Reasons::new(), false);
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.9"));
    assert_eq!(status.host_ip.as_deref(), Some("192.0.2.1"));
    assert_eq!(condition(&status, "Ready").status, "True");
    let container = &status.container_statuses.as_ref().unwrap()[0];
    assert_eq!(container.container_id.as_deref(), Some("containerd://id-a"));
    assert!(container.ready && container.started == Some(true));
}

#[test]
fn a_container_in_backoff_waits_and_keeps_its_last_state() {
    let reasons = Reasons::from([("a".into(), ("CrashLoopBackOff".into(), "back-off 10s".into()))]);
    let status = status_of(&pod(), vec![record("a", State::Exited)], &reasons, false);
    let container = &status.container_statuses.as_ref().unwrap()[0];
    assert_eq!(container.state.as_ref().unwrap().waiting.as_ref().unwrap().reason.as_deref(), Some("CrashLoopBackOff"));
    assert_eq!(container.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 1);
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(condition(&status, "Ready").message.as_deref(), Some("containers with unready status: [a]"));
}

#[test]
fn a_container_not_started_yet_is_being_created() {
    let status = status_of(&pod(), vec![], &Reasons::new(), false);
    let container = &status.container_statuses.as_ref().unwrap()[0];
    assert_eq!(container.state.as_ref().unwrap().waiting.as_ref().unwrap().reason.as_deref(), Some("ContainerCreating"));
    assert_eq!(status.phase.as_deref(), Some("Pending"));
}

#[test]
fn an_ended_pod_fails_and_is_not_ready() {
    let status = status_of(&pod(), vec![record("a", State::Exited)], &Reasons::new(), true);
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    assert_eq!(condition(&status, "Ready").reason.as_deref(), Some("PodFailed"));
}

#[test]
fn transition_times_stay_while_the_status_does() {
    let mut pod = pod();
    let first = status_of(&pod, vec![record("a", State::Running)], &Reasons::new(), false);
    let then = Time(jiff::Timestamp::from_second(5).unwrap());
    let mut first = first;
    for condition in first.conditions.as_mut().unwrap() {
        condition.last_transition_time = Some(then.clone());
    }
    pod.status = Some(first);
    let second = status_of(&pod, vec![record("a", State::Running)], &Reasons::new(), false);
    assert_eq!(condition(&second, "Ready").last_transition_time, Some(then));
}
