//! The whole PodStatus: phase, conditions, addresses, containers. Pure (behaviour of generateAPIPodStatus, pkg/kubelet/kubelet_pods.go, and of
//! pkg/kubelet/status/generate.go).

use api::core::v1::{ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::container_status::Input;
use super::{api_status, init_containers, is_sidecar, is_terminal_phase, phase, resources, spec};

/// Condition types that the kubelet owns; all others are kept as they are.
pub const OWNED: [&str; 5] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// A verdict that the pod itself gives: rejected, evicted, past its deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub phase: &'static str,
    pub reason: String,
    pub message: String,
}

/// What of the node enters a pod's status.
pub struct NodeView<'a> {
    pub host_ips: &'a [String],
    pub now: Time,
}

/// Makes the status that the API should show now.
pub fn generate(input: &Input<'_>, verdict: Option<&Verdict>, node: &NodeView<'_>) -> PodStatus {
    let pod = input.pod;
    let old = api_status(pod);
    let init = input.init();
    let regular = input.regular();
    let ephemeral = input.ephemeral();
    let mut phase = phase::phase(pod, &init, &regular, input.terminal).to_owned();
    let (mut reason, mut message) = (None, None);
    if let Some(verdict) = verdict {
        phase = verdict.phase.to_owned();
        reason = Some(verdict.reason.clone()).filter(|reason| !reason.is_empty());
        message = Some(verdict.message.clone()).filter(|message| !message.is_empty());
    }
    if is_terminal_phase(old.phase.as_deref()) {
        // A phase that never ends stays, whatever the containers say.
        phase = old.phase.clone().unwrap_or(phase);
        reason = reason.or_else(|| old.reason.clone());
        message = message.or_else(|| old.message.clone());
    }
    let list = |list: Vec<ContainerStatus>| Some(list).filter(|list| !list.is_empty());
    let mut status = PodStatus {
        phase: Some(phase),
        reason,
        message,
        init_container_statuses: list(init),
        container_statuses: list(regular),
        ephemeral_container_statuses: list(ephemeral),
        observed_generation: pod.metadata.generation,
        start_time: old.start_time.clone().or_else(|| Some(node.now.clone())),
        qos_class: Some(resources::qos(pod).to_owned()),
        nominated_node_name: old.nominated_node_name.clone(),
        resource_claim_statuses: old.resource_claim_statuses.clone(),
        ..PodStatus::default()
    };
    set_addresses(input, node, &mut status);
    status.conditions = Some(conditions(input, &status, &node.now));
    status
}

fn set_addresses(input: &Input<'_>, node: &NodeView<'_>, status: &mut PodStatus) {
    let old = api_status(input.pod);
    status.host_ip = node.host_ips.first().cloned();
    status.host_ips = Some(node.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect());
    let sandbox = input.runtime.sandboxes.first();
    let ips: Vec<String> = if spec(input.pod).host_network.unwrap_or(false) {
        if sandbox.is_some() || old.pod_ip.is_some() { node.host_ips.to_vec() } else { Vec::new() }
    } else {
        sandbox.filter(|sandbox| sandbox.ready).map(|sandbox| sandbox.ips.clone()).unwrap_or_default()
    };
    if ips.is_empty() {
        // Kept while the pod is ending and its sandbox gone, so that endpoints can still drain.
        status.pod_ip.clone_from(&old.pod_ip);
        status.pod_ips.clone_from(&old.pod_ips);
    } else {
        status.pod_ip = ips.first().cloned();
        status.pod_ips = Some(ips.into_iter().map(|ip| PodIP { ip }).collect());
    }
}

/// `type`, whether it holds, reason, message.
struct Fact(&'static str, bool, Option<&'static str>, Option<String>);

fn conditions(input: &Input<'_>, status: &PodStatus, now: &Time) -> Vec<PodCondition> {
    let pod = input.pod;
    let old = api_status(pod).conditions.as_deref().unwrap_or_default();
    let phase = status.phase.as_deref().unwrap_or_default();
    let sandbox = input.runtime.ready_sandbox();
    let networked = sandbox.is_some_and(|sandbox| sandbox.host_network || !sandbox.ips.is_empty());
    let containers = containers_ready(input, status, phase);
    let ready = pod_ready(pod, old, &containers);
    let facts = [
        Fact("PodReadyToStartContainers", networked, None, None),
        initialized(input, status, phase),
        ready,
        containers,
        Fact("PodScheduled", true, None, None),
    ];
    let mut out: Vec<PodCondition> = facts.into_iter().map(|fact| condition(pod, old, fact, now)).collect();
    out.extend(old.iter().filter(|condition| !OWNED.contains(&condition.type_.as_str())).cloned());
    out
}

fn condition(pod: &Pod, old: &[PodCondition], fact: Fact, now: &Time) -> PodCondition {
    let Fact(type_, holds, reason, message) = fact;
    let text = if holds { "True" } else { "False" };
    let before = old.iter().find(|condition| condition.type_ == type_);
    let since = before.filter(|condition| condition.status == text).and_then(|condition| condition.last_transition_time.clone());
    PodCondition {
        type_: type_.to_owned(),
        status: text.to_owned(),
        reason: reason.map(str::to_owned),
        message,
        last_transition_time: since.or_else(|| Some(now.clone())),
        last_probe_time: None,
        observed_generation: pod.metadata.generation,
    }
}

fn initialized(input: &Input<'_>, status: &PodStatus, phase: &str) -> Fact {
    let statuses = status.init_container_statuses.as_deref().unwrap_or_default();
    let regular = status.container_statuses.as_deref().unwrap_or_default();
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for container in init_containers(input.pod) {
        match statuses.iter().find(|status| status.name == container.name) {
            None => unknown.push(container.name.as_str()),
            Some(status) if is_sidecar(container) && !status.started.unwrap_or(false) => incomplete.push(container.name.as_str()),
            Some(status) if !is_sidecar(container) && !status.ready => incomplete.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return Fact("Initialized", true, Some("PodCompleted"), None);
    }
    // A main container that has run proves it, even when a sidecar is down at the moment.
    if regular.iter().any(|status| status.container_id.is_some()) {
        return Fact("Initialized", true, None, None);
    }
    match listed(&[("unknown", &unknown), ("incomplete", &incomplete)]) {
        Some(message) => Fact("Initialized", false, Some("ContainersNotInitialized"), Some(message)),
        None => Fact("Initialized", true, None, None),
    }
}

/// `containers with unready status: [a b]`, as upstream joins them.
fn listed(groups: &[(&str, &[&str])]) -> Option<String> {
    let texts: Vec<String> = groups
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(kind, names)| format!("containers with {kind} status: [{}]", names.join(" ")))
        .collect();
    Some(texts.join(", ")).filter(|text| !text.is_empty())
}

fn containers_ready(input: &Input<'_>, status: &PodStatus, phase: &str) -> Fact {
    let all = [&status.init_container_statuses, &status.container_statuses];
    let find = |name: &str| all.iter().flat_map(|list| list.iter().flatten()).find(|status| status.name == name);
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    let sidecars = init_containers(input.pod).iter().filter(|container| is_sidecar(container));
    for container in sidecars.chain(super::regular_containers(input.pod)) {
        match find(&container.name) {
            None => unknown.push(container.name.as_str()),
            Some(status) if !status.ready => unready.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    match phase {
        "Succeeded" if unknown.is_empty() => return Fact("ContainersReady", false, Some("PodCompleted"), None),
        "Failed" => return Fact("ContainersReady", false, Some("PodFailed"), None),
        _ => {}
    }
    match listed(&[("unknown", &unknown), ("unready", &unready)]) {
        Some(message) => Fact("ContainersReady", false, Some("ContainersNotReady"), Some(message)),
        None => Fact("ContainersReady", true, None, None),
    }
}

fn pod_ready(pod: &Pod, old: &[PodCondition], containers: &Fact) -> Fact {
    let Fact(_, ready, reason, message) = containers;
    if !ready {
        return Fact("Ready", false, *reason, message.clone());
    }
    let mut texts = Vec::new();
    for gate in spec(pod).readiness_gates.as_deref().unwrap_or_default() {
        let type_ = &gate.condition_type;
        match old.iter().find(|condition| &condition.type_ == type_) {
            None => texts.push(format!("corresponding condition of pod readiness gate {type_:?} does not exist.")),
            Some(condition) if condition.status != "True" => {
                texts.push(format!("the status of pod readiness gate {type_:?} is not \"True\", but {}", condition.status));
            }
            Some(_) => {}
        }
    }
    if texts.is_empty() {
        return Fact("Ready", true, None, None);
    }
    Fact("Ready", false, Some("ReadinessGatesNotReady"), Some(texts.join(", ")))
}

#[cfg(test)]
mod tests;
