//! Point 5: probes, restarts, init containers and sidecars, hooks, grace, resources, security, host names, environment.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use testkit::{Cluster, wait};

use crate::{Test, manifests};

pub const TESTS: &[Test] = &[
    ("lifecycle::probes", probes),
    ("lifecycle::crash_loop", crash_loop),
    ("lifecycle::init_containers_and_sidecars", init_and_sidecars),
    ("lifecycle::hooks_and_grace", hooks_and_grace),
    ("lifecycle::resources_in_cgroups", resources),
    ("lifecycle::security_context", security),
    ("lifecycle::environment_hosts_and_dns", environment),
    ("lifecycle::a_missing_image", missing_image),
];

fn delete(cluster: &Cluster, pods: &[&str]) -> Result<()> {
    cluster.kubectl(&[&["delete", "pod", "--now", "--wait=false"], pods].concat()).map(|_| ())
}

const PROBED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: probed}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: http
    image: oxikube.io/busybox:1
    command: [sh, -c, "echo ok > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"]
    startupProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1, failureThreshold: 30}
    readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1}
    livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
  - name: fails
    image: oxikube.io/busybox:1
    command: [sleep, infinity]
    livenessProbe: {exec: {command: [sh, -c, "echo not alive; exit 1"]}, periodSeconds: 1, failureThreshold: 2}
"#;

fn probes(cluster: &Cluster) -> Result<()> {
    cluster.apply(PROBED)?;
    let ready = "{.status.containerStatuses[?(@.name==\"http\")].ready}";
    cluster.wait_value(&["pod", "probed"], "{.status.containerStatuses[?(@.name==\"http\")].started}", "true", 20)?;
    cluster.wait_value(&["pod", "probed"], ready, "false", 5)?;
    cluster.kubectl(&["exec", "probed", "-c", "http", "--", "touch", "/tmp/ready"])?;
    cluster.wait_value(&["pod", "probed"], ready, "true", 10)?;
    cluster.kubectl(&["exec", "probed", "-c", "http", "--", "rm", "/tmp/ready"])?;
    cluster.wait_value(&["pod", "probed"], ready, "false", 15)?;
    wait::until(Duration::from_secs(20), "the container that is not alive restarts", || {
        let count = cluster.jsonpath(&["pod", "probed"], "{.status.containerStatuses[?(@.name==\"fails\")].restartCount}")?;
        if count.parse::<u32>().unwrap_or(0) > 0 { Ok(()) } else { bail!("{count} restarts") }
    })?;
    let events = cluster.kubectl(&["events", "--for=pod/probed"])?;
    ensure!(events.contains("Liveness probe failed") && events.contains("not alive"), "{events}");
    ensure!(events.contains("failed liveness probe, will be restarted"), "{events}");
    delete(cluster, &["probed"])
}

fn crash_loop(cluster: &Cluster) -> Result<()> {
    cluster.apply(&manifests::script("crasher", "exit 5", "Always", ""))?;
    cluster.apply(&manifests::script("ends", "exit 0", "Never", ""))?;
    cluster.apply(&manifests::script("breaks", "echo why > /dev/termination-log; exit 9", "Never", ""))?;
    cluster.wait_value(&["pod", "crasher"], "{.status.containerStatuses[0].state.waiting.reason}", "CrashLoopBackOff", 30)?;
    let message = cluster.jsonpath(&["pod", "crasher"], "{.status.containerStatuses[0].state.waiting.message}")?;
    ensure!(message.starts_with("back-off 10s restarting failed container=main pod=crasher_default("), "{message}");
    ensure!(cluster.jsonpath(&["pod", "crasher"], "{.status.containerStatuses[0].lastState.terminated.exitCode}")? == "5", "the exit code");
    ensure!(cluster.kubectl(&["get", "pod", "crasher"])?.contains("CrashLoopBackOff"), "kubectl shows it");
    cluster.wait_value(&["pod", "ends"], "{.status.phase}", "Succeeded", 20)?;
    cluster.wait_value(&["pod", "breaks"], "{.status.phase}", "Failed", 20)?;
    let state = cluster.jsonpath(&["pod", "breaks"], "{.status.containerStatuses[0].state.terminated.message}")?;
    ensure!(state.trim() == "why", "the termination message: {state:?}");
    delete(cluster, &["crasher", "ends", "breaks"])
}

const STAGED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: staged}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 5
  volumes: [{name: shared, emptyDir: {}}]
  initContainers:
  - {name: first, image: "oxikube.io/busybox:1", command: [sh, -c, "echo first >> /s/log"], volumeMounts: [{name: shared, mountPath: /s}]}
  - {name: side, image: "oxikube.io/busybox:1", restartPolicy: Always, command: [sh, -c, "echo side >> /s/log; exec sleep 3600"], volumeMounts: [{name: shared, mountPath: /s}]}
  - {name: second, image: "oxikube.io/busybox:1", command: [sh, -c, "until grep -q side /s/log; do sleep 0.1; done; echo second >> /s/log"], volumeMounts: [{name: shared, mountPath: /s}]}
  containers:
  - {name: main, image: "oxikube.io/busybox:1", command: [sh, -c, "cat /s/log; sleep 1"], volumeMounts: [{name: shared, mountPath: /s}]}
"#;

fn init_and_sidecars(cluster: &Cluster) -> Result<()> {
    cluster.apply(STAGED)?;
    cluster
        .wait_value(&["pod", "staged"], "{.status.phase}", "Succeeded", 40)
        .with_context(|| cluster.kubectl(&["describe", "pod", "staged"]).unwrap_or_default())?;
    let order = cluster.kubectl(&["logs", "staged", "-c", "main"])?;
    ensure!(order == "first\nside\nsecond\n", "{order:?}");
    delete(cluster, &["staged"])
}

const HOOKED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: hooked}
spec:
  terminationGracePeriodSeconds: 20
  volumes: [{name: out, hostPath: {path: PLACE, type: DirectoryOrCreate}}]
  containers:
  - name: main
    image: oxikube.io/busybox:1
    command: [sh, -c, "trap 'echo term >> /out/log; exit 0' TERM; while true; do sleep 0.1; done"]
    volumeMounts: [{name: out, mountPath: /out}]
    lifecycle:
      postStart: {exec: {command: [sh, -c, "echo start >> /out/log"]}}
      preStop: {exec: {command: [sh, -c, "echo stop >> /out/log"]}}
"#;

fn hooks_and_grace(cluster: &Cluster) -> Result<()> {
    let place = cluster.host.path("hooks");
    cluster.apply(&HOOKED.replace("PLACE", &place.display().to_string()))?;
    cluster.wait_ready("hooked", 30)?;
    cluster.kubectl(&["delete", "pod", "hooked", "--timeout=15s"])?;
    let log = std::fs::read_to_string(place.join("log"))?;
    ensure!(log == "start\nstop\nterm\n", "{log:?}");
    Ok(())
}

fn resources(cluster: &Cluster) -> Result<()> {
    let limits = "    resources: {requests: {cpu: 100m, memory: 16Mi}, limits: {cpu: 500m, memory: 64Mi}}";
    cluster.apply(&manifests::script("limited", "sleep infinity", "Always", limits))?;
    cluster.apply(&manifests::script("eater", "tail /dev/zero", "Never", "    resources: {limits: {cpu: 500m, memory: 16Mi}}"))?;
    cluster.wait_ready("limited", 30)?;
    let class = |pod: &str| cluster.jsonpath(&["pod", pod], "{.status.qosClass}");
    ensure!((class("limited")?.as_str(), class("eater")?.as_str()) == ("Burstable", "Guaranteed"), "QoS classes");
    let read = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max";
    ensure!(cluster.exec("limited", &["sh", "-c", read])?.trim() == "67108864", "the memory limit");
    let read = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cut -d' ' -f1 /sys/fs/cgroup/cpu.max";
    ensure!(cluster.exec("limited", &["sh", "-c", read])?.trim() == "50000", "half a processor");
    cluster.wait_value(&["pod", "eater"], "{.status.containerStatuses[0].state.terminated.reason}", "OOMKilled", 30)?;
    delete(cluster, &["limited", "eater"])
}

const SECURE: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: secure}
spec:
  terminationGracePeriodSeconds: 0
  securityContext: {runAsUser: 1000, runAsGroup: 3000, fsGroup: 2000, seccompProfile: {type: RuntimeDefault}}
  volumes: [{name: v, emptyDir: {}}]
  containers:
  - name: main
    image: oxikube.io/busybox:1
    command: [sleep, infinity]
    volumeMounts: [{name: v, mountPath: /v}]
    securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}}
"#;

fn security(cluster: &Cluster) -> Result<()> {
    cluster.apply(SECURE)?;
    cluster.wait_ready("secure", 30)?;
    let run = |script: &str| cluster.exec("secure", &["sh", "-c", script]).map(|text| text.trim().to_owned());
    ensure!(run("id -u; id -g")? == "1000\n3000", "user and group");
    ensure!(run("id -G")?.split(' ').any(|group| group == "2000"), "fsGroup is a supplemental group");
    ensure!(run("touch /v/file && stat -c %g /v/file")? == "2000", "files of volumes belong to fsGroup");
    ensure!(run("touch /file 2>&1 || true")?.contains("Read-only file system"), "the root is read-only");
    ensure!(run("grep NoNewPrivs /proc/1/status")?.ends_with('1'), "no new privileges");
    ensure!(run("grep Seccomp: /proc/1/status")?.ends_with('2'), "a seccomp filter");
    ensure!(run("grep CapBnd /proc/1/status")?.ends_with("0000000000000400"), "one capability: {}", run("grep Cap /proc/1/status")?);
    delete(cluster, &["secure"])
}

const FULL_ENVIRONMENT: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {COLOUR: green, file.txt: text}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden}
stringData: {PASSWORD: "s3cret"}
---
apiVersion: v1
kind: Pod
metadata: {name: informed, labels: {l: v}, annotations: {a: w}}
spec:
  terminationGracePeriodSeconds: 0
  hostAliases: [{ip: 10.9.8.7, hostnames: [alias.example]}]
  hostname: myhost
  dnsPolicy: None
  dnsConfig: {nameservers: [192.0.2.53], searches: [example.org], options: [{name: ndots, value: "3"}]}
  containers:
  - name: main
    image: oxikube.io/busybox:1
    command: [sleep, infinity]
    resources: {limits: {memory: 32Mi, cpu: 1}}
    envFrom: [{configMapRef: {name: settings}, prefix: CM_}, {secretRef: {name: hidden}}]
    env:
    - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: LABEL, valueFrom: {fieldRef: {fieldPath: "metadata.labels['l']"}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
    - {name: KEY, valueFrom: {configMapKeyRef: {name: settings, key: COLOUR}}}
    - {name: SECRET, valueFrom: {secretKeyRef: {name: hidden, key: PASSWORD}}}
    - {name: NONE, valueFrom: {configMapKeyRef: {name: absent, key: x, optional: true}}}
    - {name: COMPOSED, value: "$(NAME)-$(KEY) $$(NAME)"}
"#;

fn environment(cluster: &Cluster) -> Result<()> {
    cluster.apply(FULL_ENVIRONMENT)?;
    cluster.wait_ready("informed", 30)?;
    let env = cluster.exec("informed", &["env"])?;
    let ip = cluster.jsonpath(&["pod", "informed"], "{.status.podIP}")?;
    let ip_line = format!("IP={ip}");
    let lines = [
        "NAME=informed",
        "LABEL=v",
        "NODE=node-1",
        &ip_line,
        "MEMORY=33554432",
        "KEY=green",
        "SECRET=s3cret",
        "CM_COLOUR=green",
        "PASSWORD=s3cret",
        "COMPOSED=informed-green $(NAME)",
        "KUBERNETES_SERVICE_HOST=10.96.0.1",
        "KUBERNETES_SERVICE_PORT=443",
    ];
    for line in lines {
        ensure!(env.lines().any(|seen| seen == line), "{line} is not in:\n{env}");
    }
    ensure!(!env.contains("NONE="), "an optional key that is absent is left out");
    let hosts = cluster.exec("informed", &["cat", "/etc/hosts"])?;
    ensure!(hosts.contains("10.9.8.7\talias.example") && hosts.contains(&format!("{ip}\tmyhost")), "{hosts}");
    ensure!(cluster.exec("informed", &["hostname"])?.trim() == "myhost", "the host name");
    let resolver = cluster.exec("informed", &["cat", "/etc/resolv.conf"])?;
    ensure!(
        resolver.contains("nameserver 192.0.2.53") && resolver.contains("search example.org") && resolver.contains("options ndots:3"),
        "{resolver}"
    );
    cluster.kubectl_with(&["delete", "--now", "-f", "-"], FULL_ENVIRONMENT).map(|_| ())
}

fn missing_image(cluster: &Cluster) -> Result<()> {
    let manifest = manifests::sleeper("imageless", "").replace("oxikube.io/busybox:1", "oxikube.io/absent:9");
    cluster.apply(&manifest)?;
    wait::until(Duration::from_secs(60), "ImagePullBackOff with the reason", || {
        let waiting = cluster.jsonpath(&["pod", "imageless"], "{.status.containerStatuses[0].state.waiting}")?;
        if waiting.contains("ImagePullBackOff") && waiting.contains("oxikube.io/absent:9") { Ok(()) } else { bail!("{waiting}") }
    })?;
    let events = cluster.kubectl(&["events", "--for=pod/imageless"])?;
    ensure!(events.contains("Failed to pull image \"oxikube.io/absent:9\"") && events.contains("ErrImagePull"), "{events}");
    delete(cluster, &["imageless"])
}
