//! What to do next for a pod that should run: a pure function of the wanted pod, what the runtime holds, and the probes' verdicts
//! (behaviour of computePodActions, pkg/kubelet/kuberuntime/kuberuntime_manager.go; KEP-753 for sidecars).

use api::core::v1::{Container, Pod, Probe};

use super::{Slot, ephemeral_containers, init_containers, is_sidecar, regular_containers, restart, spec};
use crate::probes::Results;
use crate::runtime::labels::container_hash;
use crate::runtime::{ContainerRecord, RuntimePod, State};

/// Why a container is stopped, which decides its grace period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillReason {
    Changed,
    LivenessProbe,
    StartupProbe,
    Unknown,
    PodDone,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    pub id: String,
    pub name: String,
    pub message: String,
    pub reason: KillReason,
    /// A probe's own grace period, in seconds.
    pub grace_seconds: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Stop everything of the pod, the sandbox included, first.
    pub kill_pod: bool,
    /// Make a sandbox with this attempt number.
    pub create_sandbox: Option<u32>,
    /// The sandbox to use when none is made.
    pub sandbox_id: Option<String>,
    pub kill: Vec<Kill>,
    /// In the order in which they are started.
    pub start: Vec<Slot>,
}

/// Decides on one pod that is not terminating.
pub fn plan(pod: &Pod, runtime: &RuntimePod, probes: &Results) -> Plan {
    let mut plan = Plan::default();
    match sandbox_verdict(pod, runtime) {
        Ok(id) => plan.sandbox_id = Some(id),
        Err(attempt) => return plan_new_sandbox(pod, runtime, attempt),
    }
    for (index, container) in ephemeral_containers(pod).iter().enumerate() {
        if runtime.container(&container.name).is_none() {
            plan.start.push(Slot::Ephemeral(index));
        }
    }
    if !plan_init(pod, runtime, probes, &mut plan) {
        return plan;
    }
    plan_regular(pod, runtime, probes, &mut plan);
    plan
}

/// The usable sandbox, or the attempt number of the one to make.
fn sandbox_verdict(pod: &Pod, runtime: &RuntimePod) -> Result<String, u32> {
    let Some(newest) = runtime.sandboxes.first() else { return Err(0) };
    let next = newest.attempt + 1;
    let ready = runtime.sandboxes.iter().filter(|sandbox| sandbox.ready).count();
    let host_network = spec(pod).host_network.unwrap_or(false);
    if ready != 1 || !newest.ready || newest.host_network != host_network {
        return Err(next);
    }
    if !host_network && newest.ips.is_empty() {
        return Err(next);
    }
    Ok(newest.id.clone())
}

fn plan_new_sandbox(pod: &Pod, runtime: &RuntimePod, attempt: u32) -> Plan {
    let mut plan = Plan { kill_pod: true, create_sandbox: Some(attempt), ..Plan::default() };
    let never = spec(pod).restart_policy.as_deref() == Some("Never");
    let ran = !runtime.containers.is_empty();
    if never && attempt != 0 && ran {
        // What ran may not run again, so a sandbox would stay empty.
        plan.create_sandbox = None;
        return plan;
    }
    let regular: Vec<Slot> = regular_containers(pod)
        .iter()
        .enumerate()
        .filter(|(_, container)| {
            let record = runtime.container(&container.name);
            !record.is_some_and(|r| r.state == State::Exited && !restart::restarts_after(pod, container, r.exit_code))
        })
        .map(|(index, _)| Slot::Regular(index))
        .collect();
    if regular.is_empty() && ran {
        plan.create_sandbox = None;
        return plan;
    }
    if init_containers(pod).is_empty() {
        plan.start = regular;
    } else {
        plan.start.push(Slot::Init(0));
    }
    plan
}

/// Plans init containers and sidecars; true when the regular ones may run.
fn plan_init(pod: &Pod, runtime: &RuntimePod, probes: &Results, plan: &mut Plan) -> bool {
    let initialized = regular_containers(pod).iter().any(|container| runtime.container(&container.name).is_some());
    for (index, container) in init_containers(pod).iter().enumerate() {
        let record = runtime.container(&container.name);
        let go_on = if is_sidecar(container) {
            plan_sidecar(pod, index, container, record, probes, plan)
        } else {
            initialized || plan_init_container(pod, index, container, record, plan)
        };
        if !go_on && !initialized {
            return false;
        }
    }
    true
}

/// True when the next init container may start.
fn plan_init_container(pod: &Pod, index: usize, container: &Container, record: Option<&ContainerRecord>, plan: &mut Plan) -> bool {
    match record {
        Some(record) if record.state == State::Exited && record.exit_code == 0 => true,
        Some(record) if record.state == State::Running => {
            if record.hash != container_hash(container) {
                plan.kill.push(Kill {
                    id: record.id.clone(),
                    name: record.name.clone(),
                    message: format!("Init container {} definition changed, will be restarted", container.name),
                    reason: KillReason::Changed,
                    grace_seconds: None,
                });
                plan.start.push(Slot::Init(index));
            }
            false
        }
        Some(record) if record.state == State::Exited && !restart::restarts_after(pod, container, record.exit_code) => {
            plan.kill_pod = true;
            false
        }
        other => {
            if let Some(record) = other.filter(|record| record.state == State::Unknown) {
                plan.kill.push(unknown_state(record, "Init container"));
            }
            plan.start.push(Slot::Init(index));
            false
        }
    }
}

fn unknown_state(record: &ContainerRecord, what: &str) -> Kill {
    Kill {
        id: record.id.clone(),
        name: record.name.clone(),
        message: format!("{what} is in \"unknown\" state, try killing it before restart"),
        reason: KillReason::Unknown,
        grace_seconds: None,
    }
}

/// True when the sidecar has started, so that the next container may.
fn plan_sidecar(
    pod: &Pod,
    index: usize,
    container: &Container,
    record: Option<&ContainerRecord>,
    probes: &Results,
    plan: &mut Plan,
) -> bool {
    if let Some(record) = record.filter(|record| record.state == State::Running) {
        if let Some(kill) = running_verdict(container, record, probes, "Init container") {
            plan.kill.push(kill);
            plan.start.push(Slot::Init(index));
            return false;
        }
        return probes.started(container, record);
    }
    if let Some(record) = record.filter(|record| record.state == State::Unknown) {
        plan.kill.push(unknown_state(record, "Init container"));
    }
    if restart::should_start(pod, container, record) {
        plan.start.push(Slot::Init(index));
    }
    false
}

/// What is wrong with a running container, if anything; the message says that it will be restarted.
fn running_verdict(container: &Container, record: &ContainerRecord, probes: &Results, what: &str) -> Option<Kill> {
    let name = &container.name;
    let grace = |probe: &Option<Probe>| probe.as_ref().and_then(|probe| probe.termination_grace_period_seconds);
    let (message, reason, grace_seconds) = if record.hash != container_hash(container) {
        (format!("{what} {name} definition changed"), KillReason::Changed, None)
    } else if probes.liveness.get(&record.id) == Some(&false) {
        (format!("{what} {name} failed liveness probe"), KillReason::LivenessProbe, grace(&container.liveness_probe))
    } else if probes.startup.get(&record.id) == Some(&false) {
        (format!("{what} {name} failed startup probe"), KillReason::StartupProbe, grace(&container.startup_probe))
    } else {
        return None;
    };
    Some(Kill { id: record.id.clone(), name: record.name.clone(), message, reason, grace_seconds })
}

fn plan_regular(pod: &Pod, runtime: &RuntimePod, probes: &Results, plan: &mut Plan) {
    let mut kept = 0;
    let mut starting = 0;
    for (index, container) in regular_containers(pod).iter().enumerate() {
        let record = runtime.container(&container.name);
        let Some(running) = record.filter(|record| record.state == State::Running) else {
            if let Some(record) = record.filter(|record| record.state == State::Unknown) {
                plan.kill.push(unknown_state(record, "Container"));
            }
            if restart::should_start(pod, container, record) {
                plan.start.push(Slot::Regular(index));
                starting += 1;
            }
            continue;
        };
        let Some(mut kill) = running_verdict(container, running, probes, "Container") else {
            kept += 1;
            continue;
        };
        // A changed definition restarts whatever the policy says; a failed probe only where the policy restarts.
        if kill.reason == KillReason::Changed || restart::policy(pod, container) != "Never" {
            kill.message.push_str(", will be restarted");
            plan.start.push(Slot::Regular(index));
            starting += 1;
        }
        plan.kill.push(kill);
    }
    if kept == 0 && starting == 0 && plan.kill.iter().all(|kill| kill.reason == KillReason::Unknown) {
        // Nothing of the pod will run again: sidecars and the sandbox go too.
        plan.kill_pod = true;
        plan.start.clear();
        plan.kill.clear();
    }
}

#[cfg(test)]
mod tests;
