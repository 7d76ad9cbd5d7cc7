//! Scenarios of whole cycles: a cluster and a pod in, a node or the message that people read out.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

fn node(name: &str, cpu: &str, extra: Value) -> Value {
    let mut node = json!({ "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } }, "spec": {},
        "status": { "allocatable": { "cpu": cpu, "memory": "8Gi", "pods": "110" } } });
    merge(&mut node, extra);
    node
}

fn pod(name: &str, cpu: &str, extra: Value) -> Value {
    let mut pod = json!({ "metadata": { "name": name, "namespace": "default", "uid": name },
        "spec": { "containers": [{ "name": "c", "image": "i:1", "resources": { "requests": { "cpu": cpu, "memory": "1Gi" } } }] } });
    merge(&mut pod, extra);
    pod
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn info(value: Value) -> PodInfo {
    PodInfo::new(Arc::new(serde_json::from_value(value).unwrap()))
}

fn run(nodes: Vec<Value>, placed: Vec<Value>, wanted: Value) -> Result<String, String> {
    let mut cluster = Cache::default();
    for node in nodes {
        cluster.set_node(&Arc::new(serde_json::from_value(node).unwrap()));
    }
    for pod in placed {
        cluster.set_pod(&Arc::new(serde_json::from_value(pod).unwrap()));
    }
    let profile =
        Profile { scheduler_name: "default-scheduler".into(), plugins: crate::plugins::defaults(), percentage_of_nodes_to_score: 0 };
    decide(&profile, &cluster, &info(wanted), &mut 0, &mut || 1).map_err(|no_fit| no_fit.message())
}

fn check(nodes: Vec<Value>, placed: Vec<Value>, pod: Value, wanted: Result<&str, &str>) {
    assert_eq!(run(nodes, placed, pod).as_deref().map_err(String::as_str), wanted);
}

#[test]
fn without_nodes() {
    check(vec![], vec![], pod("p", "1", json!({})), Err("no nodes available to schedule pods"));
}

#[test]
fn resources_must_be_free_and_the_emptier_node_wins() {
    let nodes = || vec![node("a", "4", json!({})), node("b", "4", json!({}))];
    let on_a = || pod("x", "3", json!({ "spec": { "nodeName": "a" } }));
    check(nodes(), vec![on_a()], pod("p", "1", json!({})), Ok("b"));
    check(nodes(), vec![on_a()], pod("p", "4", json!({})), Ok("b"));
    check(nodes(), vec![on_a()], pod("p", "5", json!({})), Err("0/2 nodes are available: 2 Insufficient cpu."));
    let full = node("a", "4", json!({ "status": { "allocatable": { "pods": "1" } } }));
    check(vec![full], vec![on_a()], pod("p", "2", json!({})), Err("0/1 nodes are available: 1 Insufficient cpu, 1 Too many pods."));
    let gpu = json!({ "spec": { "containers": [{ "name": "c", "resources": { "requests": { "example.com/gpu": "1" } } }] } });
    check(nodes(), vec![], pod("p", "1", gpu), Err("0/2 nodes are available: 2 Insufficient example.com/gpu."));
}

#[test]
fn taints_cordons_and_tolerations() {
    let tainted =
        |name: &str, effect: &str| node(name, "4", json!({ "spec": { "taints": [{ "key": "k", "value": "v", "effect": effect }] } }));
    check(
        vec![tainted("a", "NoSchedule")],
        vec![],
        pod("p", "1", json!({})),
        Err("0/1 nodes are available: 1 node(s) had untolerated taint {k: v}."),
    );
    let tolerant = json!({ "spec": { "tolerations": [{ "key": "k", "operator": "Exists" }] } });
    check(vec![tainted("a", "NoExecute")], vec![], pod("p", "1", tolerant), Ok("a"));
    check(vec![tainted("a", "PreferNoSchedule"), node("b", "4", json!({}))], vec![], pod("p", "1", json!({})), Ok("b"));
    let cordoned = || node("a", "4", json!({ "spec": { "unschedulable": true } }));
    check(vec![cordoned()], vec![], pod("p", "1", json!({})), Err("0/1 nodes are available: 1 node(s) were unschedulable."));
    let daemon =
        json!({ "spec": { "tolerations": [{ "key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule" }] } });
    check(vec![cordoned()], vec![], pod("p", "1", daemon), Ok("a"));
}

#[test]
fn selectors_affinity_and_preference() {
    let nodes = || vec![node("a", "4", json!({})), node("b", "4", json!({ "metadata": { "labels": { "disk": "ssd" } } }))];
    check(nodes(), vec![], pod("p", "1", json!({ "spec": { "nodeSelector": { "disk": "ssd" } } })), Ok("b"));
    let message = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.";
    check(nodes(), vec![], pod("p", "1", json!({ "spec": { "nodeSelector": { "disk": "tape" } } })), Err(message));
    let prefers = json!({ "spec": { "affinity": { "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [
        { "weight": 10, "preference": { "matchExpressions": [{ "key": "disk", "operator": "In", "values": ["ssd"] }] } }] } } } });
    check(nodes(), vec![], pod("p", "1", prefers), Ok("b"));
    let named = |name: &str| {
        json!({ "spec": { "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
        { "matchFields": [{ "key": "metadata.name", "operator": "In", "values": [name] }] }] } } } } })
    };
    check(nodes(), vec![], pod("p", "1", named("b")), Ok("b"));
    let message = "0/2 nodes are available: 2 node(s) didn't satisfy plugin(s) [NodeAffinity].";
    check(nodes(), vec![], pod("p", "1", named("none")), Err(message));
}

#[test]
fn host_ports_are_taken_once() {
    let with_port = |address: &str| json!({ "spec": { "containers": [{ "name": "c", "ports": [{ "containerPort": 80, "hostPort": 80, "hostIP": address }] }] } });
    let nodes = || vec![node("a", "4", json!({}))];
    let mut first = pod("x", "1", with_port("10.0.0.1"));
    first["spec"]["nodeName"] = "a".into();
    check(nodes(), vec![first.clone()], pod("p", "1", with_port("10.0.0.2")), Ok("a"));
    let message = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.";
    check(nodes(), vec![first], pod("p", "1", with_port("0.0.0.0")), Err(message));
}

#[test]
fn a_node_with_the_image_is_preferred() {
    let image = json!({ "status": { "images": [{ "names": ["i:1"], "sizeBytes": 2_000_000_000u64 }] } });
    check(vec![node("a", "4", json!({})), node("b", "4", image)], vec![], pod("p", "1", json!({})), Ok("b"));
}

#[test]
fn large_clusters_are_sampled() {
    assert_eq!(enough(50, 0), 50);
    assert_eq!(enough(1000, 0), 420);
    assert_eq!(enough(5000, 0), 500);
    assert_eq!(enough(5000, 100), 5000);
    assert_eq!(enough(200, 10), 100);
}
