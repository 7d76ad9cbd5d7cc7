//! Where daemons run and how they are updated.

use serde_json::{Value, json};

use super::history::{self, Current};
use super::plan::{Plan, Snapshot, plan, status};
use super::*;

fn set(strategy: Value) -> DaemonSet {
    let template = json!({"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c"}], "nodeSelector": {"os": "linux"}}});
    let spec = json!({"selector": {"matchLabels": {"app": "d"}}, "template": template, "updateStrategy": strategy});
    serde_json::from_value(json!({"metadata": {"name": "d", "namespace": "ns", "uid": "set", "generation": 2}, "spec": spec}))
        .expect("a daemon set")
}

/// `name[:taint effect]`; a name with a `w` is a Windows node.
fn node(text: &str) -> Arc<Node> {
    let (name, effect) = text.split_once(':').unwrap_or((text, ""));
    let taints: Vec<Value> = if effect.is_empty() { vec![] } else { vec![json!({"key": "special", "effect": effect})] };
    let os = if name.starts_with('w') { "windows" } else { "linux" };
    Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "labels": {"os": os}}, "spec": {"taints": taints}})).expect("a node"))
}

/// `node/hash[:trait]` with traits `unready`, `failed`, `deleting`, `waiting` (not bound).
fn pod(index: usize, text: &str) -> Arc<Pod> {
    let mut parts = text.split(':');
    let (node, hash) = parts.next().and_then(|it| it.split_once('/')).expect("node/hash");
    let mut pod = super::pod::new_pod(&set(json!({})), hash, node);
    pod.metadata.name = Some(text.to_owned());
    pod.metadata.uid = Some(format!("{text}{index}"));
    let mut value = serde_json::to_value(&pod).expect("plain data");
    value["metadata"]["creationTimestamp"] = json!(format!("2026-01-01T00:00:{index:02}Z"));
    value["spec"]["nodeName"] = json!(node);
    value["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
    for part in parts {
        match part {
            "unready" => value["status"]["conditions"][0]["status"] = json!("False"),
            "failed" => value["status"]["phase"] = json!("Failed"),
            "deleting" => value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
            _ => value["spec"]["nodeName"] = Value::Null,
        }
    }
    Arc::new(serde_json::from_value(value).expect("a pod"))
}

fn snapshot(strategy: Value, nodes: &[&str], pods: &[&str]) -> Snapshot {
    Snapshot {
        set: Arc::new(set(strategy)),
        hash: "new".into(),
        nodes: nodes.iter().map(|text| node(text)).collect(),
        pods: pods.iter().enumerate().map(|(index, text)| pod(index, text)).collect(),
    }
}

fn texts(plan: &Plan) -> Vec<String> {
    let name = |pod: &Arc<Pod>| pod.metadata.name.clone().unwrap_or_default();
    let mut all: Vec<String> = plan.create.iter().map(|node| format!("create {node}")).collect();
    all.extend(plan.delete.iter().map(|pod| format!("delete {}", name(pod))));
    all.extend(plan.replace.iter().map(|pod| format!("replace {}", name(pod))));
    all.sort();
    all
}

fn check(strategy: Value, nodes: &[&str], pods: &[&str], expected: &[&str]) {
    assert_eq!(texts(&plan(&snapshot(strategy, nodes, pods), base::clock::now())), expected, "{nodes:?} {pods:?}");
}

#[test]
fn one_pod_per_fitting_node() {
    let plain = json!({});
    check(plain.clone(), &["a", "b", "win"], &[], &["create a", "create b"]);
    check(plain.clone(), &["a:NoSchedule"], &[], &[]);
    check(plain.clone(), &["a:NoSchedule"], &["a/new"], &[]);
    check(plain.clone(), &["a:NoExecute"], &["a/new"], &["delete a/new"]);
    check(plain.clone(), &["win"], &["win/new"], &["delete win/new"]);
    check(plain.clone(), &["a"], &["a/new", "a/new:unready"], &["delete a/new:unready"]);
    check(plain.clone(), &["a"], &["a/new:failed"], &["replace a/new:failed"]);
    check(plain.clone(), &["a"], &["gone/new:waiting"], &["create a", "delete gone/new:waiting"]);
    check(plain, &["a"], &["a/new:deleting"], &[]);
}

#[test]
fn updates_keep_their_limits() {
    let unavailable = |number: i32| json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": number}});
    let nodes = ["a", "b", "c"];
    check(unavailable(1), &nodes, &["a/old", "b/old", "c/old"], &["delete a/old"]);
    check(unavailable(2), &nodes, &["a/old", "b/old", "c/old"], &["delete a/old", "delete b/old"]);
    check(unavailable(1), &nodes, &["a/new:unready", "b/old", "c/old"], &[]);
    check(unavailable(1), &nodes, &["a/new", "b/old", "c/old:unready"], &["delete c/old:unready"]);
    check(json!({"type": "OnDelete"}), &nodes, &["a/old", "b/old", "c/old"], &[]);
    let surge = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
    check(surge.clone(), &nodes, &["a/old", "b/old", "c/old"], &["create a"]);
    check(surge.clone(), &nodes, &["a/old", "a/new:unready", "b/old", "c/old"], &[]);
    check(surge, &nodes, &["a/old", "a/new", "b/old", "c/old"], &["create b", "delete a/old"]);
}

#[test]
fn status_counts() {
    let status = status(&snapshot(json!({}), &["a", "b", "c", "win"], &["a/new", "b/old:unready", "win/new"]), base::clock::now());
    let numbers = (status.desired_number_scheduled, status.current_number_scheduled, status.number_ready, status.number_misscheduled);
    assert_eq!(numbers, (3, 2, 1, 1));
    assert_eq!((status.number_available, status.number_unavailable, status.updated_number_scheduled), (Some(1), Some(2), Some(1)));
}

#[test]
fn revisions_are_kept_and_raised() {
    let first = set(json!({}));
    let Current::Create(one) = history::current(&first, &[]) else { panic!("a first revision") };
    let mut second = first.clone();
    second.spec.as_mut().unwrap().template.spec.as_mut().unwrap().host_network = Some(true);
    let Current::Create(two) = history::current(&second, &[Arc::from(one.clone())]) else { panic!("a second revision") };
    assert_eq!((one.revision, two.revision), (1, 2));
    let all = [Arc::from(one.clone()), Arc::from(two)];
    assert!(matches!(history::current(&second, &all), Current::Known(_)));
    assert!(matches!(history::current(&first, &all), Current::Raise(raised) if raised.revision == 3));
    let live = HashSet::from([history::hash_of(&all[1]).unwrap().to_owned()]);
    assert_eq!(history::superfluous(&all, &live, 0).len(), 1);
    assert_eq!(history::superfluous(&all, &live, 1).len(), 0);
}
