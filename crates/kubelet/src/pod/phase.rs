//! A pod's phase from the states of its containers. Pure (behaviour of getPhase, pkg/kubelet/kubelet_pods.go).

use api::core::v1::{ContainerStatus, Pod};

use super::{init_containers, is_sidecar, regular_containers, spec};

#[derive(Default)]
struct Count {
    unknown: usize,
    running: usize,
    waiting: usize,
    stopped: usize,
    succeeded: usize,
}

/// `terminal`: the pod is terminating and nothing of it runs.
pub fn phase(pod: &Pod, init: &[ContainerStatus], regular: &[ContainerStatus], terminal: bool) -> &'static str {
    let policy = spec(pod).restart_policy.as_deref().unwrap_or("Always");
    let (pending_init, failed_init) = count_init(pod, init);
    let mut count = Count::default();
    let pending_sidecars = count_sidecars(pod, init, &mut count);
    for container in regular_containers(pod) {
        match find(regular, &container.name) {
            Some(Observed::Running { .. }) => count.running += 1,
            Some(Observed::Terminated(code)) => {
                count.stopped += 1;
                count.succeeded += usize::from(code == 0);
            }
            Some(Observed::Waiting { last: Some(_) }) => count.stopped += 1,
            Some(Observed::Waiting { last: None }) => count.waiting += 1,
            None => count.unknown += 1,
        }
    }
    if failed_init && (policy == "Never" || terminal) {
        return "Failed";
    }
    let initialized = regular.iter().any(|status| status.container_id.is_some());
    if pending_init || (pending_sidecars && !initialized) || count.waiting > 0 {
        return "Pending";
    }
    if count.running > 0 && count.unknown == 0 {
        return "Running";
    }
    if count.running == 0 && count.stopped > 0 && count.unknown == 0 {
        let succeeded = count.stopped == count.succeeded;
        return match (terminal, policy) {
            (true, _) if succeeded => "Succeeded",
            (true, _) => "Failed",
            (false, "Always") => "Running",
            (false, _) if succeeded => "Succeeded",
            (false, "Never") => "Failed",
            _ => "Running",
        };
    }
    "Pending"
}

enum Observed {
    Running { started: bool },
    Terminated(i32),
    Waiting { last: Option<i32> },
}

fn find(statuses: &[ContainerStatus], name: &str) -> Option<Observed> {
    let status = statuses.iter().find(|status| status.name == name)?;
    let state = status.state.as_ref()?;
    if state.running.is_some() {
        return Some(Observed::Running { started: status.started.unwrap_or(false) });
    }
    if let Some(terminated) = &state.terminated {
        return Some(Observed::Terminated(terminated.exit_code));
    }
    let last = status.last_state.as_ref().and_then(|last| last.terminated.as_ref()).map(|last| last.exit_code);
    state.waiting.as_ref().map(|_| Observed::Waiting { last })
}

/// Whether an init container is still to end, and whether one failed.
fn count_init(pod: &Pod, statuses: &[ContainerStatus]) -> (bool, bool) {
    let (mut pending, mut failed) = (false, false);
    for container in init_containers(pod).iter().filter(|container| !is_sidecar(container)) {
        match find(statuses, &container.name) {
            Some(Observed::Terminated(code)) => failed |= code != 0,
            Some(Observed::Waiting { last: Some(code) }) => failed |= code != 0,
            Some(Observed::Running { .. } | Observed::Waiting { last: None }) | None => pending = true,
        }
    }
    (pending, failed)
}

/// Sidecars that ended do not count; whether one has still to start.
fn count_sidecars(pod: &Pod, statuses: &[ContainerStatus], count: &mut Count) -> bool {
    let mut pending = false;
    for container in init_containers(pod).iter().filter(|container| is_sidecar(container)) {
        match find(statuses, &container.name) {
            Some(Observed::Running { started }) => pending |= !started,
            Some(Observed::Terminated(_) | Observed::Waiting { last: Some(_) }) => {}
            Some(Observed::Waiting { last: None }) => {
                pending = true;
                count.waiting += 1;
            }
            None => {
                pending = true;
                count.unknown += 1;
            }
        }
    }
    pending
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(policy: &str, init: Value, regular: Value, terminal: bool, expected: &str) {
        let names = |list: &Value| -> Vec<Value> {
            list.as_array().unwrap().iter().map(|entry| json!({"name": entry["name"], "image": "", "imageID": ""})).collect()
        };
        let pod: Pod = serde_json::from_value(
            json!({"spec": {"restartPolicy": policy, "initContainers": names(&init), "containers": names(&regular)}}),
        )
        .unwrap();
        let statuses = |list: &Value| -> Vec<ContainerStatus> {
            let full = list.as_array().unwrap().iter().map(|entry| {
                let mut entry = entry.clone();
                let fields = entry.as_object_mut().unwrap();
                for (key, value) in [("image", json!("")), ("imageID", json!("")), ("ready", json!(false)), ("restartCount", json!(0))] {
                    fields.insert(key.into(), value);
                }
                serde_json::from_value(entry).unwrap()
            });
            full.collect()
        };
        assert_eq!(phase(&pod, &statuses(&init), &statuses(&regular), terminal), expected, "{policy} {init} {regular}");
    }

    #[test]
    fn phases() {
        let run = json!({"name": "a", "state": {"running": {}}});
        let wait = json!({"name": "b", "state": {"waiting": {}}});
        let crash = json!({"name": "c", "state": {"waiting": {}}, "lastState": {"terminated": {"exitCode": 1}}});
        let done = json!({"name": "d", "state": {"terminated": {"exitCode": 0}}});
        let fail = json!({"name": "e", "state": {"terminated": {"exitCode": 2}}});
        check("Always", json!([]), json!([run]), false, "Running");
        check("Always", json!([]), json!([run, wait]), false, "Pending");
        check("Always", json!([]), json!([crash]), false, "Running");
        check("OnFailure", json!([]), json!([done]), false, "Succeeded");
        check("OnFailure", json!([]), json!([fail]), false, "Running");
        check("Never", json!([]), json!([fail, done]), false, "Failed");
        check("Always", json!([]), json!([done]), true, "Succeeded");
        check("Always", json!([]), json!([fail]), true, "Failed");
        check("Always", json!([done]), json!([run]), false, "Running");
        check("Always", json!([run]), json!([wait]), false, "Pending");
        check("Never", json!([fail]), json!([wait]), false, "Failed");
    }
}
