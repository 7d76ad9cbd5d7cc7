//! The table cells of a pod (pkg/printers/internalversion/printers.go: printPod).

use std::collections::BTreeSet;

use api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodSpec, PodStatus};
use serde_json::{Value, json};

use crate::kind::Column;
use crate::printing::{AGE, NAME, age, ago, column, name, or_none, wide};

pub const COLUMNS: &[Column] = &[
    NAME,
    column("Ready", "string"),
    column("Status", "string"),
    column("Restarts", "string"),
    AGE,
    wide("IP", "string"),
    wide("Node", "string"),
    wide("Nominated Node", "string"),
    wide("Readiness Gates", "string"),
];

pub fn cells(pod: &Pod, now: jiff::Timestamp) -> Vec<Value> {
    let (no_spec, no_status) = (PodSpec::default(), PodStatus::default());
    let spec = pod.spec.as_ref().unwrap_or(&no_spec);
    let status = pod.status.as_ref().unwrap_or(&no_status);
    let summary = Summary::of(pod, spec, status);
    let restarts = match summary.restarts.last {
        Some(last) if summary.restarts.count != 0 => format!("{} ({} ago)", summary.restarts.count, ago(last, now)),
        _ => summary.restarts.count.to_string(),
    };
    let first_ip = status.pod_ips.iter().flatten().next().map(|ip| ip.ip.as_str()).or(status.pod_ip.as_deref());
    vec![
        name(&pod.metadata),
        json!(format!("{}/{}", summary.ready, summary.total)),
        json!(summary.reason),
        json!(restarts),
        age(&pod.metadata, now),
        json!(or_none(first_ip)),
        json!(or_none(spec.node_name.as_deref())),
        json!(or_none(status.nominated_node_name.as_deref())),
        json!(readiness_gates(spec, status)),
    ]
}

fn readiness_gates(spec: &PodSpec, status: &PodStatus) -> String {
    let gates = spec.readiness_gates.as_deref().unwrap_or_default();
    if gates.is_empty() {
        return or_none(None).to_owned();
    }
    let passed = gates.iter().filter(|gate| has_condition(status, &gate.condition_type)).count();
    format!("{passed}/{}", gates.len())
}

fn has_condition(status: &PodStatus, type_: &str) -> bool {
    status.conditions.iter().flatten().any(|condition| condition.type_ == type_ && condition.status == "True")
}

#[derive(Clone, Copy, Default)]
struct Restarts {
    count: i32,
    last: Option<jiff::Timestamp>,
}

impl Restarts {
    fn add(&mut self, container: &ContainerStatus) {
        self.count += container.restart_count;
        let ended = container.last_state.as_ref().and_then(|state| state.terminated.as_ref()?.finished_at.as_ref());
        self.last = self.last.max(ended.map(|time| time.0));
    }
}

struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: Restarts,
}

impl Summary {
    fn of(pod: &Pod, spec: &PodSpec, status: &PodStatus) -> Self {
        let inits = spec.init_containers.as_deref().unwrap_or_default();
        let sidecars: BTreeSet<&str> = inits
            .iter()
            .filter(|container| container.restart_policy.as_deref() == Some("Always"))
            .map(|container| container.name.as_str())
            .collect();
        let mut summary =
            Self { reason: base_reason(status), ready: 0, total: spec.containers.len() + sidecars.len(), restarts: Restarts::default() };
        let (sidecar_restarts, initializing) = summary.init_containers(status, &sidecars, inits.len());
        if !initializing || has_condition(status, "Initialized") {
            summary.restarts = sidecar_restarts;
            summary.main_containers(status);
        }
        if pod.metadata.deletion_timestamp.is_some() {
            let done = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
            if status.reason.as_deref() == Some("NodeLost") {
                summary.reason = "Unknown".into();
            } else if !done {
                summary.reason = "Terminating".into();
            }
        }
        summary
    }

    /// Walks to the first init container that is not done. Gives the restarts of sidecars, and whether one is not done.
    fn init_containers(&mut self, status: &PodStatus, sidecars: &BTreeSet<&str>, total: usize) -> (Restarts, bool) {
        let mut sidecar_restarts = Restarts::default();
        for (index, container) in status.init_container_statuses.iter().flatten().enumerate() {
            self.restarts.add(container);
            let is_sidecar = sidecars.contains(container.name.as_str());
            if is_sidecar {
                sidecar_restarts.add(container);
            }
            let state = container.state.as_ref();
            let terminated = state.and_then(|state| state.terminated.as_ref());
            let waiting = state.and_then(|state| state.waiting.as_ref()?.reason.as_deref());
            if terminated.is_some_and(|terminated| terminated.exit_code == 0) {
                continue;
            }
            if is_sidecar && container.started == Some(true) {
                self.ready += usize::from(container.ready);
                continue;
            }
            self.reason = match (terminated, waiting) {
                (Some(terminated), _) => format!("Init:{}", end_reason(terminated)),
                (None, Some(reason)) if !reason.is_empty() && reason != "PodInitializing" => format!("Init:{reason}"),
                _ => format!("Init:{index}/{total}"),
            };
            return (sidecar_restarts, true);
        }
        (sidecar_restarts, false)
    }

    fn main_containers(&mut self, status: &PodStatus) {
        let mut has_running = false;
        for container in status.container_statuses.iter().flatten().rev() {
            self.restarts.add(container);
            let state = container.state.as_ref();
            let waiting = state.and_then(|state| state.waiting.as_ref()?.reason.as_deref()).filter(|reason| !reason.is_empty());
            if let Some(reason) = waiting {
                self.reason = reason.to_owned();
            } else if let Some(terminated) = state.and_then(|state| state.terminated.as_ref()) {
                self.reason = end_reason(terminated);
            } else if container.ready && state.is_some_and(|state| state.running.is_some()) {
                has_running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && has_running {
            self.reason = if has_condition(status, "Ready") { "Running" } else { "NotReady" }.to_owned();
        }
    }
}

fn base_reason(status: &PodStatus) -> String {
    let gated = |condition: &api::core::v1::PodCondition| {
        condition.type_ == "PodScheduled" && condition.reason.as_deref() == Some("SchedulingGated")
    };
    if status.conditions.iter().flatten().any(gated) {
        return "SchedulingGated".into();
    }
    let reason = status.reason.as_ref().filter(|reason| !reason.is_empty());
    reason.or(status.phase.as_ref()).cloned().unwrap_or_default()
}

fn end_reason(terminated: &ContainerStateTerminated) -> String {
    match (terminated.reason.as_deref().unwrap_or_default(), terminated.signal.unwrap_or(0)) {
        ("", 0) => format!("ExitCode:{}", terminated.exit_code),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spec: Value, status: Value, dying: bool, expected: [&str; 3]) {
        let now: jiff::Timestamp = "2026-01-01T01:00:00Z".parse().expect("a time");
        let mut meta = json!({"name": "web", "creationTimestamp": "2026-01-01T00:54:48Z"});
        if dying {
            meta["deletionTimestamp"] = json!("2026-01-01T01:00:00Z");
        }
        let pod: Pod = serde_json::from_value(json!({"metadata": meta, "spec": spec, "status": status})).expect("a pod");
        let cells = cells(&pod, now);
        assert_eq!(cells.len(), COLUMNS.len());
        assert_eq!(cells[4], "5m12s");
        assert_eq!([&cells[1], &cells[2], &cells[3]], expected, "{pod:?}");
    }

    #[test]
    fn states() {
        let one = || json!({"containers": [{"name": "a"}]});
        let init = || json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]});
        let running = json!({"name": "a", "ready": true, "restartCount": 0, "state": {"running": {}}});
        check(one(), json!({"phase": "Pending"}), false, ["0/1", "Pending", "0"]);
        check(one(), json!({"phase": "Running", "containerStatuses": [running]}), false, ["1/1", "Running", "0"]);
        check(one(), json!({"phase": "Running", "containerStatuses": [running]}), true, ["1/1", "Terminating", "0"]);
        check(one(), json!({"phase": "Succeeded"}), true, ["0/1", "Succeeded", "0"]);
        check(
            one(),
            json!({"phase": "Running", "containerStatuses": [{"name": "a", "restartCount": 3,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:55:00Z"}}}]}),
            false,
            ["0/1", "CrashLoopBackOff", "3 (5m ago)"],
        );
        check(
            one(),
            json!({"phase": "Failed", "containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 137}}}]}),
            false,
            ["0/1", "ExitCode:137", "0"],
        );
        check(
            init(),
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"waiting": {"reason": "PodInitializing"}}}]}),
            false,
            ["0/2", "Init:0/2", "0"],
        );
        check(
            init(),
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "restartCount": 1,
                "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}),
            false,
            ["0/2", "Init:Error", "1"],
        );
        check(
            init(),
            json!({"phase": "Running", "initContainerStatuses": [
                {"name": "i", "restartCount": 5, "state": {"terminated": {"exitCode": 0}}},
                {"name": "s", "restartCount": 1, "ready": true, "started": true, "state": {"running": {}}}],
                "containerStatuses": [running]}),
            false,
            ["2/2", "Running", "1"],
        );
        check(
            one(),
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
            false,
            ["0/1", "SchedulingGated", "0"],
        );
    }
}
