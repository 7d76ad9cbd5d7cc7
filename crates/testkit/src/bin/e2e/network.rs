//! Point 2: cluster IP and node port from the node and from pods, cluster DNS, names outside the cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use testkit::host::output;
use testkit::{Cluster, wait};

use crate::{Test, manifests};

pub const TESTS: &[Test] = &[
    ("network::services_spread_over_all_pods", services_spread),
    ("network::names_resolve_inside_pods", names_resolve),
    ("network::host_ports_and_host_network", host_ports),
];

/// Asks so often that five backends are all met (the chance to miss one is below one in a million).
const TRIES: usize = 80;

fn services_spread(cluster: &Cluster) -> Result<()> {
    cluster.apply(manifests::HELLO)?;
    cluster.kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"])?;
    cluster.apply(&manifests::sleeper("client", ""))?;
    cluster.wait_ready("client", 30)?;
    let pods: BTreeSet<String> =
        cluster.jsonpath(&["pods", "-l", "app=hello"], "{.items[*].metadata.name}")?.split(' ').map(str::to_owned).collect();
    let address = cluster.jsonpath(&["service", "hello"], "{.spec.clusterIP}")?;
    let node_port = format!("http://{}:30080/", cluster.host.address());
    let cluster_ip = format!("http://{address}/");
    for url in [&node_port, &cluster_ip] {
        let met = (0..TRIES).map(|_| Ok(output(cluster.host.command("curl").args(["-sS", "-m", "3", url]))?.trim().to_owned()));
        let met: BTreeSet<String> = met.collect::<Result<_>>()?;
        ensure!(met == pods, "from the node by {url}: {met:?}, of {pods:?}");
        let script = format!("for n in $(seq {TRIES}); do wget -q -O- {url}; done");
        let met: BTreeSet<String> = cluster.exec("client", &["sh", "-c", &script])?.lines().map(str::to_owned).collect();
        ensure!(met == pods, "from a pod by {url}: {met:?}, of {pods:?}");
    }
    Ok(())
}

const NAMED: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: named}
spec:
  clusterIP: None
  selector: {app: named}
  ports: [{name: web, port: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: first, labels: {app: named}}
spec:
  hostname: one
  subdomain: named
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: "oxikube.io/busybox:1", command: [sleep, infinity]}]
"#;

fn lookup(cluster: &Cluster, kind: &str, name: &str) -> Result<String> {
    let server = cluster.jsonpath(&["service", "-n", "kube-system", "kube-dns"], "{.spec.clusterIP}")?;
    cluster.exec("client", &["nslookup", &format!("-type={kind}"), name, &server])
}

/// The name of an address in the reverse tree.
fn reverse(address: &str) -> String {
    let parts: Vec<&str> = address.split('.').rev().collect();
    format!("{}.in-addr.arpa.", parts.join("."))
}

fn names_resolve(cluster: &Cluster) -> Result<()> {
    cluster.apply(NAMED)?;
    cluster.wait_ready("first", 30)?;
    let service = cluster.jsonpath(&["service", "hello"], "{.spec.clusterIP}")?;
    for name in ["hello", "hello.default", "hello.default.svc.cluster.local"] {
        let page = cluster.exec("client", &["wget", "-q", "-O-", &format!("http://{name}/")])?;
        ensure!(page.starts_with("hello-"), "{name}: {page}");
    }
    let pod = cluster.jsonpath(&["pod", "first"], "{.status.podIP}")?;
    let wanted = [
        ("a", "hello.default.svc.cluster.local.".to_owned(), service.clone()),
        ("a", "named.default.svc.cluster.local.".to_owned(), pod.clone()),
        ("a", "one.named.default.svc.cluster.local.".to_owned(), pod.clone()),
        ("srv", "_web._tcp.named.default.svc.cluster.local.".to_owned(), "one.named.default.svc.cluster.local".to_owned()),
        ("ptr", reverse(&service), "hello.default.svc.cluster.local".to_owned()),
        ("ptr", reverse(&pod), "one.named.default.svc.cluster.local".to_owned()),
    ];
    for (kind, name, answer) in wanted {
        wait::until(Duration::from_secs(10), &format!("{kind} {name}"), || {
            let text = lookup(cluster, kind, &name)?;
            if text.contains(&answer) { Ok(()) } else { bail!("{answer} is not in: {text}") }
        })?;
    }
    let unknown = lookup(cluster, "a", "nowhere.default.svc.cluster.local.");
    ensure!(unknown.is_err_and(|error| format!("{error:#}").contains("NXDOMAIN")), "an unknown name is NXDOMAIN");
    cluster.kubectl_with(&["delete", "-f", "-"], NAMED).map(|_| ())
}

const HOST_PORT: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: on-port}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: "oxikube.io/busybox:1", command: [sh, -c, "echo on-port > /tmp/index.html; exec httpd -f -p 80 -h /tmp"], ports: [{containerPort: 80, hostPort: 8181}]}
---
apiVersion: v1
kind: Pod
metadata: {name: on-host}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: "oxikube.io/busybox:1", command: [sh, -c, "echo on-host > /tmp/index.html; exec httpd -f -p 8182 -h /tmp"]}
"#;

fn host_ports(cluster: &Cluster) -> Result<()> {
    cluster.apply(HOST_PORT)?;
    for (pod, port) in [("on-port", 8181), ("on-host", 8182)] {
        cluster.wait_ready(pod, 30)?;
        let url = format!("http://{}:{port}/", cluster.host.address());
        wait::until(Duration::from_secs(5), &url, || {
            let page = output(cluster.host.command("curl").args(["-sS", "-m", "2", &url]))?;
            if page.trim() == pod { Ok(()) } else { bail!("it answers {page}") }
        })?;
    }
    let address = cluster.jsonpath(&["pod", "on-host"], "{.status.podIP}")?;
    ensure!(address == cluster.host.address(), "a pod on the host's network has its address: {address}");
    cluster.kubectl_with(&["delete", "-f", "-"], HOST_PORT).map(|_| ())
}
