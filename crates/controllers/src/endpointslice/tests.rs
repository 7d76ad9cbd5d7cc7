//! Which slices a Service gets, and how few writes lead there.

use serde_json::{Value, json};

use super::plan::{Plan, plan};
use super::*;

fn service(patch: Value) -> Arc<Service> {
    let mut spec =
        json!({"selector": {"app": "web"}, "clusterIP": "10.0.0.1", "ports": [{"name": "http", "port": 80, "targetPort": "web"}]});
    for (key, value) in patch.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    let service = json!({"metadata": {"name": "web", "namespace": "ns", "uid": "s", "labels": {"team": "a"}}, "spec": spec});
    Arc::new(serde_json::from_value(service).expect("a service"))
}

/// `name[:trait]` with traits `unready`, `deleting`, `done`, `noip`, `port=N`, `v6`.
fn pod(text: &str) -> Arc<Pod> {
    let mut parts = text.split(':');
    let name = parts.next().unwrap_or_default();
    let ip = format!("10.1.0.{}", name.bytes().map(u32::from).sum::<u32>() % 250);
    let mut pod = json!({"metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [{"type": "Ready", "status": "True"}]}});
    for part in parts {
        match part {
            "unready" => pod["status"]["conditions"][0]["status"] = json!("False"),
            "deleting" => pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
            "done" => pod["status"]["phase"] = json!("Succeeded"),
            "noip" => {
                pod["status"]["podIP"] = Value::Null;
                pod["status"]["podIPs"] = json!([]);
            }
            port => pod["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(port[5..].parse::<i32>().expect("port=N")),
        }
    }
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn snapshot(service: Arc<Service>, pods: &[&str], slices: Vec<EndpointSlice>) -> Snapshot {
    let node: Node =
        serde_json::from_value(json!({"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "z1"}}})).expect("a node");
    let slices = slices.into_iter().enumerate().map(|(index, mut slice)| {
        slice.metadata.name.get_or_insert(format!("web-{index}"));
        Arc::new(slice)
    });
    Snapshot {
        service,
        pods: pods.iter().map(|text| pod(text)).collect(),
        nodes: HashMap::from([("n1".to_owned(), Arc::new(node))]),
        slices: slices.collect(),
        max_per_slice: 3,
    }
}

fn text(slice: &EndpointSlice) -> String {
    let state = |endpoint: &api::discovery::v1::Endpoint| {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        let name = endpoint.target_ref.as_ref().and_then(|target| target.name.clone()).unwrap_or_default();
        let flag = |value: Option<bool>, letter: &'static str| if value == Some(true) { letter } else { "" };
        format!("{name}/{}{}{}", flag(conditions.ready, "r"), flag(conditions.serving, "s"), flag(conditions.terminating, "t"))
    };
    let mut endpoints: Vec<String> = slice.endpoints.iter().flatten().map(state).collect();
    endpoints.sort();
    let ports: Vec<String> = slice.ports.iter().flatten().map(|port| port.port.unwrap_or(0).to_string()).collect();
    format!("{}:{}", ports.join(","), endpoints.join(" "))
}

fn texts(plan: &Plan) -> (Vec<String>, Vec<String>, usize) {
    (plan.create.iter().map(text).collect(), plan.update.iter().map(text).collect(), plan.delete.len())
}

fn check(spec: Value, pods: &[&str], expected: &[&str]) -> Vec<EndpointSlice> {
    let plan = plan(&snapshot(service(spec), pods, Vec::new()));
    assert_eq!(texts(&plan).0, expected);
    plan.create
}

#[test]
fn new_slices() {
    check(json!({}), &[], &[":"]);
    check(json!({}), &["a", "b:unready", "c:deleting", "d:done", "e:noip"], &["8080:a/rs b/ c/st"]);
    check(json!({}), &["a", "b", "c", "d"], &["8080:a/rs b/rs c/rs", "8080:d/rs"]);
    check(json!({}), &["a", "b:port=9090"], &["8080:a/rs", "9090:b/rs"]);
    check(json!({"publishNotReadyAddresses": true}), &["a:unready", "b:deleting"], &["8080:a/r b/rst"]);
    check(json!({"ports": [], "clusterIP": "None"}), &["a"], &[":a/rs"]);
    check(json!({"ports": [{"port": 80, "targetPort": 81}]}), &["a"], &["81:a/rs"]);
    let slice = &check(json!({"clusterIP": "None", "trafficDistribution": "PreferClose"}), &["a"], &["8080:a/rs"])[0];
    let labels = slice.metadata.labels.as_ref().unwrap();
    assert_eq!((labels[SERVICE_NAME].as_str(), labels[MANAGED_BY].as_str(), labels["team"].as_str()), ("web", MANAGER, "a"));
    assert!(labels.contains_key(services::HEADLESS));
    let endpoint = &slice.endpoints.as_ref().unwrap()[0];
    assert_eq!((endpoint.zone.as_deref(), endpoint.node_name.as_deref()), (Some("z1"), Some("n1")));
    assert!(endpoint.hints.as_ref().is_some_and(|hints| hints.for_zones.is_some()));
}

#[test]
fn few_changes() {
    let before = check(json!({}), &["a", "b", "c", "d"], &["8080:a/rs b/rs c/rs", "8080:d/rs"]);
    let after = |pods: &[&str]| texts(&plan(&snapshot(service(json!({})), pods, before.clone())));
    assert_eq!(after(&["a", "b", "c", "d"]), (vec![], vec![], 0));
    assert_eq!(after(&["a", "b:unready", "c", "d"]), (vec![], vec!["8080:a/rs b/ c/rs".into()], 0));
    assert_eq!(
        after(&["a", "b", "d", "e"]),
        (vec![], vec!["8080:a/rs b/rs e/rs".into()], 0),
        "the slice that changes anyway takes the new one"
    );
    assert_eq!(after(&["a", "b", "c", "d", "e"]), (vec![], vec!["8080:d/rs e/rs".into()], 0));
    assert_eq!(after(&["d"]), (vec![], vec![], 1));
    assert_eq!(after(&[]).2, 2);
    assert_eq!(after(&[]).0, [":"]);
}

#[test]
fn a_dropped_family_loses_its_slices() {
    let before = check(json!({}), &["a"], &["8080:a/rs"]);
    let plan = plan(&snapshot(service(json!({"ipFamilies": ["IPv6"]})), &["a"], before));
    assert_eq!((plan.create.len(), plan.delete.len()), (1, 1));
    assert_eq!(plan.create[0].address_type, "IPv6");
}
