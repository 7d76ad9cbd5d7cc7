//! The pod of a DaemonSet on a node: what it looks like, whether it should be there, which node an existing one is for
//! (pkg/controller/daemon/util). Pure.

use api::apps::v1::DaemonSet;
use api::core::v1::{Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodTemplateSpec, Toleration};

use crate::common::{placement, pods, taints, template};

pub const REVISION_HASH: &str = "controller-revision-hash";
const NODE_NAME_FIELD: &str = "metadata.name";

pub fn template_of(set: &DaemonSet) -> PodTemplateSpec {
    set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default()
}

/// The tolerations that daemons have of themselves: they stay where others must go.
fn daemon_tolerations(host_network: bool) -> Vec<Toleration> {
    let exists = |key: &str, effect: &str| Toleration {
        key: Some(format!("node.kubernetes.io/{key}")),
        operator: Some("Exists".into()),
        effect: Some(effect.into()),
        ..Toleration::default()
    };
    let mut all = vec![exists("not-ready", taints::NO_EXECUTE), exists("unreachable", taints::NO_EXECUTE)];
    all.extend(["disk-pressure", "memory-pressure", "pid-pressure", "unschedulable"].map(|key| exists(key, taints::NO_SCHEDULE)));
    all.extend(host_network.then(|| exists("network-unavailable", taints::NO_SCHEDULE)));
    all
}

/// The pod for a node. The scheduler binds it: only the affinity names the node.
pub fn new_pod(set: &DaemonSet, hash: &str, node: &str) -> Pod {
    let mut pod = template::pod(&template_of(set), client::owner_reference(set));
    pod.metadata.labels.get_or_insert_default().insert(REVISION_HASH.into(), hash.into());
    let spec = pod.spec.get_or_insert_default();
    let tolerations = spec.tolerations.get_or_insert_default();
    for toleration in daemon_tolerations(spec.host_network == Some(true)) {
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
    let here = NodeSelectorRequirement { key: NODE_NAME_FIELD.into(), operator: "In".into(), values: Some(vec![node.into()]) };
    let term = NodeSelectorTerm { match_fields: Some(vec![here]), match_expressions: None };
    let affinity = spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
    // Terms are alternatives: the set's own ones were judged by `belongs` and must not let the pod go elsewhere.
    affinity.required_during_scheduling_ignored_during_execution = Some(NodeSelector { node_selector_terms: vec![term] });
    pod
}

/// Whether the set's pod should start on the node, and whether one that runs there may stay (`NodeShouldRunDaemonPod`).
pub fn belongs(set: &DaemonSet, node: &Node) -> (bool, bool) {
    let spec = template_of(set).spec.unwrap_or_default();
    let named = spec.node_name.as_deref().is_none_or(|name| name.is_empty() || node.metadata.name.as_deref() == Some(name));
    if !named || !placement::affinity_allows(&spec, node) {
        return (false, false);
    }
    let mut tolerations = spec.tolerations.unwrap_or_default();
    tolerations.extend(daemon_tolerations(spec.host_network == Some(true)));
    let tolerated = |effect: &str| {
        let mut relevant = taints::of(node).iter().filter(|taint| taint.effect == effect);
        relevant.all(|taint| tolerations.iter().any(|toleration| taints::tolerates(toleration, taint)))
    };
    (tolerated(taints::NO_SCHEDULE) && tolerated(taints::NO_EXECUTE), tolerated(taints::NO_EXECUTE))
}

/// The node that a pod is on, or waits to be bound to.
pub fn target_node(pod: &Pod) -> Option<&str> {
    if let Some(name) = pods::node_name(pod) {
        return Some(name);
    }
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = &affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    let mut fields = terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    let name = fields.find(|field| field.key == NODE_NAME_FIELD && field.operator == "In")?;
    name.values.as_ref()?.first().map(String::as_str)
}

pub fn has_hash(pod: &Pod, hash: &str) -> bool {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION_HASH)).is_some_and(|known| known == hash)
}
