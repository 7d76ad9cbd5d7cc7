//! Queueing hints: which event wakes a pod that a plugin rejected.

use std::sync::Arc;

use api::core::v1::Node;
use serde_json::{Value, json};

use super::*;
use crate::framework::ClusterEvent;
use crate::state::PodInfo;

fn node(spec: Value, cpu: &str) -> Node {
    serde_json::from_value(json!({ "metadata": { "name": "a" }, "spec": spec, "status": { "allocatable": { "cpu": cpu } } })).unwrap()
}

fn pod() -> PodInfo {
    PodInfo::new(Arc::new(serde_json::from_value(json!({ "metadata": { "name": "p" }, "spec": { "containers": [] } })).unwrap()))
}

fn check(plugin: &dyn Plugin, old: Node, new: Node, wanted: bool) {
    assert_eq!(plugin.may_help(&ClusterEvent::NodeUpdated { old: &old, new: &new }, &pod()), wanted, "{}", plugin.name());
}

#[test]
fn node_changes_wake_whom_they_concern() {
    let taint = json!({ "taints": [{ "key": "k", "effect": "NoSchedule" }] });
    check(&taint_toleration::TaintToleration, node(taint.clone(), "1"), node(json!({}), "1"), true);
    check(&taint_toleration::TaintToleration, node(taint.clone(), "1"), node(taint, "2"), false);
    check(&node_unschedulable::NodeUnschedulable, node(json!({ "unschedulable": true }), "1"), node(json!({}), "1"), true);
    check(&node_unschedulable::NodeUnschedulable, node(json!({}), "1"), node(json!({ "unschedulable": true }), "1"), false);
    check(&node_resources_fit::NodeResourcesFit, node(json!({}), "1"), node(json!({}), "2"), true);
    check(&node_resources_fit::NodeResourcesFit, node(json!({}), "1"), node(json!({ "unschedulable": true }), "1"), false);
}

#[test]
fn names_are_unique_and_upstreams() {
    let mut names: Vec<&str> = defaults().iter().map(|registered| registered.plugin.name()).collect();
    names.extend(BUILT_IN);
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}
