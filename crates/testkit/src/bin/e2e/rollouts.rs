//! Point 4: scaling, rolling updates, pause and undo, replacement, the three ways to delete.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use testkit::{Cluster, wait};

use crate::Test;

pub const TESTS: &[Test] = &[
    ("rollouts::scale_update_pause_undo", scale_update_pause_undo),
    ("rollouts::a_deleted_pod_is_replaced", replaced),
    ("rollouts::deletion_background_foreground_orphan", deletion),
];

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 4
  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: c
        image: oxikube.io/busybox:1
        command: [sleep, infinity]
        env: [{name: V, value: "1"}]
"#;

fn rolled_out(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).map(|_| ())
}

fn version(cluster: &Cluster) -> Result<String> {
    cluster.jsonpath(&["deployment", "web"], "{.spec.template.spec.containers[0].env[0].value}")
}

fn scale_update_pause_undo(cluster: &Cluster) -> Result<()> {
    cluster.apply(WEB)?;
    rolled_out(cluster)?;
    cluster.kubectl(&["scale", "deployment", "web", "--replicas=6"])?;
    cluster.wait_value(&["deployment", "web"], "{.status.readyReplicas}", "6", 30)?;
    cluster.kubectl(&["scale", "deployment", "web", "--replicas=3"])?;
    cluster.wait_value(&["deployment", "web"], "{.status.replicas}", "3", 30)?;
    cluster.kubectl(&["set", "env", "deployment/web", "V=2"])?;
    cluster.kubectl(&["annotate", "deployment", "web", "kubernetes.io/change-cause=second"])?;
    rolled_out(cluster)?;
    let pods = cluster.jsonpath(&["pods", "-l", "app=web"], "{.items[*].spec.containers[0].env[0].value}")?;
    ensure!(pods.split(' ').all(|value| value == "2"), "every pod is new: {pods}");
    let history = cluster.kubectl(&["rollout", "history", "deployment/web"])?;
    ensure!(history.contains("second"), "{history}");
    cluster.kubectl(&["rollout", "pause", "deployment/web"])?;
    cluster.kubectl(&["set", "env", "deployment/web", "V=3"])?;
    cluster.wait_value(&["deployment", "web"], "{.status.conditions[?(@.type==\"Progressing\")].reason}", "DeploymentPaused", 10)?;
    let ready = cluster.jsonpath(&["pods", "-l", "app=web"], "{.items[*].spec.containers[0].env[0].value}")?;
    ensure!(ready == "2 2 2", "a paused deployment makes no new pods: {ready}");
    cluster.kubectl(&["rollout", "resume", "deployment/web"])?;
    rolled_out(cluster)?;
    cluster.kubectl(&["rollout", "undo", "deployment/web", "--to-revision=1"])?;
    rolled_out(cluster)?;
    ensure!(version(cluster)? == "1", "undone");
    cluster.kubectl(&["rollout", "restart", "deployment/web"])?;
    rolled_out(cluster)
}

fn replaced(cluster: &Cluster) -> Result<()> {
    let names = || cluster.jsonpath(&["pods", "-l", "app=web"], "{.items[*].metadata.name}");
    let first = names()?.split(' ').next().unwrap_or_default().to_owned();
    cluster.kubectl(&["delete", "pod", &first])?;
    wait::until(Duration::from_secs(20), "another pod takes its place", || {
        let now = names()?;
        let ready = cluster.jsonpath(&["deployment", "web"], "{.status.readyReplicas}")?;
        if now.split(' ').count() == 3 && !now.contains(&first) && ready == "3" { Ok(()) } else { bail!("{now}; {ready} ready") }
    })
}

fn left(cluster: &Cluster, resource: &str) -> Result<usize> {
    Ok(cluster.kubectl(&["get", resource, "-l", "app=web", "-o", "name"])?.lines().count())
}

fn gone(cluster: &Cluster, resource: &str) -> Result<()> {
    wait::until(Duration::from_secs(30), &format!("the {resource} go"), || match left(cluster, resource)? {
        0 => Ok(()),
        count => bail!("{count} left"),
    })
}

fn deletion(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["delete", "deployment", "web", "--cascade=orphan"])?;
    wait::until(Duration::from_secs(10), "the replica sets lose their owner", || {
        let owners = cluster.jsonpath(&["replicasets", "-l", "app=web"], "{.items[*].metadata.ownerReferences[*].name}")?;
        if owners.is_empty() { Ok(()) } else { bail!("owners: {owners}") }
    })?;
    ensure!(left(cluster, "pods")? == 3, "orphaned pods stay");
    cluster.apply(WEB)?;
    rolled_out(cluster)?;
    cluster.kubectl(&["delete", "deployment", "web", "--cascade=foreground"])?;
    ensure!(left(cluster, "pods")? == 0, "a foreground deletion returns when the pods are gone");
    gone(cluster, "replicasets")?;
    cluster.apply(WEB)?;
    rolled_out(cluster)?;
    cluster.kubectl(&["delete", "deployment", "web"])?;
    gone(cluster, "replicasets")?;
    gone(cluster, "pods")
}
