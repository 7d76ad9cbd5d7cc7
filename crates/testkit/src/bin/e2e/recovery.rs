//! Points 7 and 8: static pods, and what a `kill -9` of the cluster's process leaves and loses.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use testkit::{Cluster, wait};

use crate::{Test, manifests};

pub const TESTS: &[Test] = &[("recovery::static_pods_have_mirrors", static_pods), ("recovery::kill_9_loses_nothing", kill_9)];

fn static_pods(cluster: &Cluster) -> Result<()> {
    let file = cluster.host.path("config").join("manifests/steady.yaml");
    std::fs::write(&file, manifests::sleeper("steady", ""))?;
    cluster.wait_value(&["pods", "--field-selector=metadata.name=steady-node-1"], "{.items[*].status.phase}", "Running", 40)?;
    let source = cluster.jsonpath(
        &["pod", "steady-node-1"],
        "{.metadata.annotations['kubernetes\\.io/config\\.source']}{.metadata.ownerReferences[0].kind}",
    )?;
    ensure!(source == "fileNode", "a mirror says where it comes from: {source}");
    let uid = cluster.jsonpath(&["pod", "steady-node-1"], "{.metadata.uid}")?;
    cluster.kubectl(&["delete", "pod", "steady-node-1", "--now", "--wait=false"])?;
    wait::until(Duration::from_secs(20), "the mirror comes back", || {
        let now = cluster.jsonpath(&["pods", "--field-selector=metadata.name=steady-node-1"], "{.items[*].metadata.uid}")?;
        if !now.is_empty() && now != uid { Ok(()) } else { bail!("{now}") }
    })?;
    std::fs::remove_file(&file)?;
    wait::until(Duration::from_secs(40), "the static pod goes with its file", || {
        let left = cluster.kubectl(&["get", "pods", "--field-selector=metadata.name=steady-node-1", "-o", "name"])?;
        if left.is_empty() { Ok(()) } else { bail!("{left}") }
    })
}

fn kill_9(cluster: &Cluster) -> Result<()> {
    for name in ["stays", "goes"] {
        cluster.apply(&manifests::sleeper(name, ""))?;
        cluster.wait_ready(name, 30)?;
    }
    let facts = "{.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount} {.status.podIP}";
    let before = cluster.jsonpath(&["pod", "stays"], facts)?;
    // The last writes before the plug is pulled: each was acknowledged.
    for n in 0..20 {
        cluster.kubectl(&["create", "configmap", &format!("kept-{n}"), &format!("--from-literal=n={n}")])?;
    }
    cluster.kubectl(&["delete", "pod", "goes", "--grace-period=0", "--force", "--wait=false"])?;
    let pid = cluster.pid()?;
    kill_process(Pid::from_raw(pid).expect("a pid file holds a positive number"), Signal::KILL)?;
    cluster.start(&[])?;
    let kept = cluster.kubectl(&["get", "configmaps", "-o", "name"])?;
    let count = kept.lines().filter(|name| name.contains("kept-")).count();
    ensure!(count == 20, "{count} of 20 acknowledged writes are there");
    cluster.wait_ready("stays", 30)?;
    let after = cluster.jsonpath(&["pod", "stays"], facts)?;
    ensure!(after == before, "the container was adopted, not restarted: {before} became {after}");
    ensure!(cluster.exec("stays", &["echo", "alive"])? == "alive\n", "and it works");
    wait::until(Duration::from_secs(30), "the pod that was deleted leaves the runtime", || {
        let socket = cluster.host.path("run").join("containerd.sock");
        let mut command = cluster.host.command("ctr");
        let tasks = testkit::host::output(command.arg("--address").arg(&socket).args(["--namespace", "k8s.io", "containers", "list"]))?;
        let api = cluster.kubectl(&["get", "pods", "-A", "-o", "jsonpath={.items[*].status.containerStatuses[*].containerID}"])?;
        let known = |id: &str| api.contains(id);
        let strays =
            tasks.lines().skip(1).filter(|line| !line.contains("oxikube.io/pause")).filter_map(|line| line.split_whitespace().next());
        let strays: Vec<&str> = strays.filter(|id| !known(id)).collect();
        if strays.is_empty() { Ok(()) } else { bail!("containers that no pod has: {strays:?}") }
    })?;
    let names: Vec<String> = (0..20).map(|n| format!("configmap/kept-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    cluster.kubectl(&[&["delete"], names.as_slice()].concat())?;
    cluster.kubectl(&["delete", "pod", "stays", "--now"]).map(|_| ())
}
