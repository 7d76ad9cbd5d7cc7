//! Point 9: the node's status, its kubelet's pages, and what happens to the pods of a node that falls silent.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use testkit::host::output;
use testkit::{Cluster, wait};

use crate::Test;

pub const TESTS: &[Test] = &[
    ("node::status_and_heartbeats", status_and_heartbeats),
    ("node::the_kubelets_pages", pages),
    ("node::a_dead_node_is_tainted_and_emptied", dead_node),
];

fn status_and_heartbeats(cluster: &Cluster) -> Result<()> {
    let node = cluster.get(&["node", "node-1"])?;
    let status = &node["status"];
    for field in ["cpu", "memory", "pods", "ephemeral-storage"] {
        ensure!(status["capacity"][field].is_string() && status["allocatable"][field].is_string(), "{field}: {status}");
    }
    let conditions: Vec<&str> = status["conditions"].as_array().into_iter().flatten().filter_map(|c| c["type"].as_str()).collect();
    for wanted in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        ensure!(conditions.contains(&wanted), "{conditions:?}");
    }
    let images = status["images"].to_string();
    ensure!(images.contains("oxikube.io/busybox:1"), "{images}");
    ensure!(node["spec"]["podCIDR"] == "10.244.0.0/24", "{}", node["spec"]);
    let renewed = || cluster.jsonpath(&["lease", "-n", "kube-node-lease", "node-1"], "{.spec.renewTime}");
    let first = renewed()?;
    wait::until(Duration::from_secs(20), "the node renews its lease", || if renewed()? != first { Ok(()) } else { bail!("still {first}") })
}

fn pages(cluster: &Cluster) -> Result<()> {
    let raw = |path: &str| cluster.kubectl(&["get", "--raw", &format!("/api/v1/nodes/node-1/proxy{path}")]);
    ensure!(raw("/healthz")?.trim() == "ok", "/healthz");
    ensure!(raw("/pods")?.contains("\"PodList\""), "/pods");
    ensure!(raw("/stats/summary")?.contains("\"nodeName\""), "/stats/summary");
    ensure!(raw("/metrics")?.contains("kubelet_"), "/metrics");
    let bare = output(cluster.host.command("curl").args([
        "-sk",
        "-m",
        "5",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "https://127.0.0.1:10250/pods",
    ]))?;
    ensure!(bare == "401", "without credentials the kubelet says nothing: {bare}");
    Ok(())
}

/// A node that nobody serves: it never sends a heartbeat.
const GHOST: &str = r#"
apiVersion: v1
kind: Node
metadata: {name: ghost}
"#;

const ON_GHOST: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: lost}
spec:
  nodeName: ghost
  terminationGracePeriodSeconds: 0
  tolerations:
  - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
  - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
  containers: [{name: c, image: "oxikube.io/busybox:1", command: [sleep, infinity]}]
"#;

fn dead_node(cluster: &Cluster) -> Result<()> {
    cluster.apply(GHOST)?;
    // It was ready once and then says nothing more.
    let ready = r#"{"status":{"conditions":[{"type":"Ready","status":"True","reason":"KubeletReady","message":"was ready","lastHeartbeatTime":"2026-01-01T00:00:00Z","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}"#;
    cluster.kubectl(&["patch", "node", "ghost", "--subresource=status", "--type=merge", "-p", ready])?;
    cluster.apply(ON_GHOST)?;
    cluster.wait_value(&["node", "ghost"], "{.status.conditions[?(@.type==\"Ready\")].status}", "Unknown", 100)?;
    ensure!(cluster.kubectl(&["get", "node", "ghost"])?.contains("NotReady"), "kubectl shows NotReady");
    wait::until(Duration::from_secs(40), "the taints of an unreachable node", || {
        let taints = cluster.jsonpath(&["node", "ghost"], "{.spec.taints[*].effect}")?;
        if taints.contains("NoSchedule") && taints.contains("NoExecute") { Ok(()) } else { bail!("{taints}") }
    })?;
    wait::until(Duration::from_secs(40), "its pod is evicted", || {
        let pod = cluster.kubectl(&[
            "get",
            "pod",
            "lost",
            "--ignore-not-found",
            "-o",
            "jsonpath={.metadata.deletionTimestamp}{.metadata.name}",
        ])?;
        if pod.is_empty() || pod.starts_with("20") { Ok(()) } else { bail!("{pod}") }
    })?;
    cluster.kubectl(&["delete", "node", "ghost"])?;
    cluster.kubectl(&["delete", "pod", "lost", "--ignore-not-found", "--grace-period=0", "--force"]).map(|_| ())
}
