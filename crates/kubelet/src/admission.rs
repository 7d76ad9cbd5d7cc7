//! Whether this node can take a pod that was bound to it. Pure (pkg/kubelet/lifecycle/predicate.go).

use std::collections::{BTreeMap, BTreeSet};

use api::Quantity;
use api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration};

use crate::pod::resources::{millis, pod_request_milli};
use crate::pod::status::Verdict;
use crate::pod::{is_static, regular_containers, spec};

fn rejected(reason: String, message: String) -> Verdict {
    Verdict { phase: "Failed", reason, message }
}

/// `others`: the pods that hold resources of the node.
pub fn admit(pod: &Pod, others: &[&Pod], node: Option<&Node>, allocatable: &BTreeMap<String, Quantity>) -> Result<(), Verdict> {
    os(pod)?;
    if let Some(node) = node {
        affinity(pod, node)?;
        taints(pod, node)?;
    }
    ports(pod, others)?;
    resources(pod, others, allocatable)
}

fn os(pod: &Pod) -> Result<(), Verdict> {
    match spec(pod).os.as_ref().map(|os| os.name.as_str()) {
        Some(name) if name != "linux" => {
            let message = format!("Failed to admit pod as the OS field doesn't match node OS: pod.spec.os.name {name:?}, node \"linux\"");
            Err(rejected("PodOSNotSupported".into(), message))
        }
        _ => Ok(()),
    }
}

fn resources(pod: &Pod, others: &[&Pod], allocatable: &BTreeMap<String, Quantity>) -> Result<(), Verdict> {
    let pods = millis(allocatable.get("pods")) / 1000;
    let count = i64::try_from(others.len()).unwrap_or(i64::MAX);
    if pods > 0 && count + 1 > pods {
        let message = format!("Node didn't have enough resource: pods, requested: 1, used: {count}, capacity: {pods}");
        return Err(rejected("OutOfpods".into(), message));
    }
    for name in names(pod) {
        let wanted = pod_request_milli(pod, &name);
        let capacity = millis(allocatable.get(&name));
        let used: i64 = others.iter().map(|other| pod_request_milli(other, &name)).sum();
        if wanted > 0 && used + wanted > capacity {
            // CPU is counted in thousandths, everything else in units, as upstream's message does.
            let unit = if name == "cpu" { 1 } else { 1000 };
            let message = format!(
                "Node didn't have enough resource: {name}, requested: {}, used: {}, capacity: {}",
                wanted / unit,
                used / unit,
                capacity / unit
            );
            return Err(rejected(format!("OutOf{name}"), message));
        }
    }
    Ok(())
}

fn names(pod: &Pod) -> BTreeSet<String> {
    let containers = crate::pod::init_containers(pod).iter().chain(regular_containers(pod));
    containers.filter_map(|container| container.resources.as_ref()?.requests.as_ref()).flat_map(|list| list.keys().cloned()).collect()
}

fn host_ports(pod: &Pod) -> BTreeSet<(i32, String, String)> {
    let containers = crate::pod::init_containers(pod).iter().filter(|c| crate::pod::is_sidecar(c)).chain(regular_containers(pod));
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let text =
        |value: &Option<String>, default: &str| value.clone().filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned());
    ports
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            Some((number, text(&port.protocol, "TCP"), text(&port.host_ip, "0.0.0.0")))
        })
        .collect()
}

fn ports(pod: &Pod, others: &[&Pod]) -> Result<(), Verdict> {
    let taken: BTreeSet<_> = others.iter().flat_map(|other| host_ports(other)).collect();
    let any = "0.0.0.0";
    let clash = host_ports(pod)
        .into_iter()
        .any(|(port, protocol, ip)| taken.iter().any(|(p, t, i)| *p == port && *t == protocol && (*i == ip || i == any || ip == any)));
    match clash {
        true => Err(rejected(
            "NodePorts".into(),
            "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports".into(),
        )),
        false => Ok(()),
    }
}

fn affinity(pod: &Pod, node: &Node) -> Result<(), Verdict> {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let selector = spec(pod).node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let terms = spec(pod).affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let terms = terms.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let required = terms.is_none_or(|selector| selector.node_selector_terms.iter().any(|term| matches_term(term, &labels, name)));
    if selector && required {
        return Ok(());
    }
    let message = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
    Err(rejected("NodeAffinity".into(), message.into()))
}

fn matches_term(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, name: &str) -> bool {
    let by_label = term.match_expressions.as_deref().unwrap_or_default();
    let by_field = term.match_fields.as_deref().unwrap_or_default();
    let field = |requirement: &NodeSelectorRequirement| matches(requirement, (requirement.key == "metadata.name").then_some(name));
    // An empty term selects nothing.
    !(by_label.is_empty() && by_field.is_empty())
        && by_label.iter().all(|requirement| matches(requirement, labels.get(&requirement.key).map(String::as_str)))
        && by_field.iter().all(field)
}

fn matches(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|entry| entry == value));
    let numbers = || Some((value?.parse::<i64>().ok()?, values.first()?.parse::<i64>().ok()?));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(have, bound)| have > bound),
        "Lt" => numbers().is_some_and(|(have, bound)| have < bound),
        _ => false,
    }
}

/// Only NoExecute taints keep a bound pod out, and never a static one.
fn taints(pod: &Pod, node: &Node) -> Result<(), Verdict> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let tolerations = spec(pod).tolerations.as_deref().unwrap_or_default();
    let untolerated =
        taints.iter().filter(|taint| taint.effect == "NoExecute").any(|taint| !tolerations.iter().any(|t| tolerates(t, taint)));
    if is_static(pod) || !untolerated {
        return Ok(());
    }
    let message = "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate";
    Err(rejected("TaintToleration".into(), message.into()))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (key, effect) = (text(&toleration.key), text(&toleration.effect));
    let same_effect = effect.is_empty() || effect == taint.effect;
    let same_key = key.is_empty() || key == taint.key;
    let same_value = match toleration.operator.as_deref() {
        Some("Exists") => true,
        _ => !key.is_empty() && text(&toleration.value) == text(&taint.value),
    };
    same_effect && same_key && same_value
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    #[test]
    fn verdicts() {
        let allocatable: BTreeMap<String, Quantity> =
            [("cpu", "2"), ("memory", "1Gi"), ("pods", "2")].map(|(k, v)| (k.to_owned(), Quantity(v.into()))).into();
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "n", "labels": {"disk": "ssd"}},
            "spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}}))
        .unwrap();
        let tolerant = json!([{"operator": "Exists"}]);
        let running = pod(
            json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "hostPort": 80}], "resources": {"requests": {"cpu": "1500m"}}}]}),
        );
        let check = |mut spec: Value, others: &[&Pod], reason: Option<&str>| {
            if spec.get("tolerations").is_none() {
                spec["tolerations"] = tolerant.clone();
            }
            let got = admit(&pod(spec.clone()), others, Some(&node), &allocatable).err();
            assert_eq!(got.map(|verdict| verdict.reason).as_deref(), reason, "{spec}");
        };
        check(json!({"containers": [{"name": "a"}]}), &[], None);
        check(json!({"containers": [{"name": "a"}], "tolerations": []}), &[], Some("TaintToleration"));
        check(json!({"containers": [{"name": "a"}], "nodeSelector": {"disk": "hdd"}}), &[], Some("NodeAffinity"));
        check(json!({"containers": [{"name": "a"}], "nodeSelector": {"disk": "ssd"}}), &[&running], None);
        check(json!({"containers": [{"name": "a"}]}), &[&running, &running], Some("OutOfpods"));
        check(json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "600m"}}}]}), &[&running], Some("OutOfcpu"));
        check(json!({"containers": [{"name": "a", "ports": [{"containerPort": 1, "hostPort": 80}]}]}), &[&running], Some("NodePorts"));
        check(json!({"containers": [{"name": "a"}], "os": {"name": "windows"}}), &[], Some("PodOSNotSupported"));
    }
}
