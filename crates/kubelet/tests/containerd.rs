//! Pods on a real containerd, with a stand-in for the API server. Needs root, containerd, runc and busybox-static.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use support::{Node, condition};

#[tokio::test(flavor = "multi_thread")]
async fn pods_run_end_and_go() {
    let node = Node::start("basic").await;
    node.until("the node is ready", || {
        node.api.get("/api/v1/nodes/test").is_some_and(|node| condition(&node["status"], "Ready") == "True")
    })
    .await;
    plain_pod(&node).await;
    restarts(&node).await;
    ends(&node).await;
    environment_and_volumes(&node).await;
    init_and_sidecars(&node).await;
    failures(&node).await;
    probes(&node).await;
    static_pods(&node).await;
}

async fn plain_pod(node: &Node) {
    let start = std::time::Duration::from_millis(u64::try_from(base::clock::unix_ms()).unwrap());
    node.create_pod("plain", json!({"containers": [{"name": "a"}], "terminationGracePeriodSeconds": 1}));
    let status = node.wait_ready("plain").await;
    eprintln!("create to ready: {} ms", base::clock::unix_ms() - i64::try_from(start.as_millis()).unwrap());
    assert_eq!(status["phase"], "Running");
    assert!(status["podIP"].as_str().unwrap().starts_with("10."), "{status}");
    assert_eq!(status["hostIP"], "127.0.0.1");
    let events = node.events();
    for expected in ["Started: Started container a", "Created: Created container: a"] {
        assert!(events.iter().any(|event| event == expected), "{events:?}");
    }
    node.api.delete(&Node::pod_path("plain"), 1);
    node.wait_gone("plain").await;
    eprintln!("create to gone: {} ms", base::clock::unix_ms() - i64::try_from(start.as_millis()).unwrap());
}

async fn restarts(node: &Node) {
    let script = "echo words > /dev/termination-log; exit 3";
    node.create_pod(
        "crash",
        json!({"restartPolicy": "Always", "containers": [{"name": "a", "command": ["sh", "-c", script],
        "terminationMessagePath": "/dev/termination-log"}]}),
    );
    let status = node.wait("crash", "in backoff", |s| s["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff").await;
    let container = &status["containerStatuses"][0];
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 3);
    assert_eq!(container["lastState"]["terminated"]["message"], "words\n");
    assert!(
        container["state"]["waiting"]["message"]
            .as_str()
            .unwrap()
            .starts_with("back-off 10s restarting failed container=a pod=crash_default(")
    );
    node.api.delete(&Node::pod_path("crash"), 1);
    node.wait_gone("crash").await;
}

async fn ends(node: &Node) {
    node.create_pod("done", json!({"restartPolicy": "Never", "containers": [{"name": "a", "command": ["true"]}]}));
    node.create_pod("failed", json!({"restartPolicy": "Never", "containers": [{"name": "a", "command": ["false"]}]}));
    let status = node.wait("done", "succeeded", |s| s["phase"] == "Succeeded").await;
    assert_eq!(status["containerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
    node.wait("failed", "failed", |s| s["phase"] == "Failed").await;
    for name in ["done", "failed"] {
        node.api.delete(&Node::pod_path(name), 1);
        node.wait_gone(name).await;
    }
}

async fn environment_and_volumes(node: &Node) {
    node.api.put(
        "/api/v1/namespaces/default/configmaps/conf",
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"key": "value", "other": "x"}}),
    );
    node.api.put("/api/v1/namespaces/default/secrets/sec", json!({"apiVersion": "v1", "kind": "Secret", "data": {"pw": "aHVudGVy"}}));
    let script = "env; cat /conf/key /sec/pw /down/name /token/token; echo; stat -L -c %a /token/token; cat /etc/hosts /etc/resolv.conf; hostname; cat /sub/key; mount | grep ' /mem '; sleep 1000";
    node.create_pod("vols", json!({
        "serviceAccountName": "default", "hostname": "h", "subdomain": "s", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["alias"]}],
        "securityContext": {"runAsUser": 33}, "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "a", "command": ["sh", "-c", script], "resources": {"limits": {"memory": "64Mi", "cpu": "500m"}},
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)2"}, {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "key"}}},
                {"name": "P", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "pw"}}},
                {"name": "M", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}}],
            "envFrom": [{"prefix": "X_", "configMapRef": {"name": "conf"}}],
            "volumeMounts": [{"name": "conf", "mountPath": "/conf"}, {"name": "sec", "mountPath": "/sec"}, {"name": "down", "mountPath": "/down"},
                {"name": "tok", "mountPath": "/token"}, {"name": "mem", "mountPath": "/mem"}, {"name": "conf", "mountPath": "/sub/key", "subPath": "key"}]}],
        "volumes": [{"name": "conf", "configMap": {"name": "conf"}}, {"name": "sec", "secret": {"secretName": "sec"}},
            {"name": "down", "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
            {"name": "tok", "projected": {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}]}},
            {"name": "mem", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]}));
    node.wait_ready("vols").await;
    node.until("the log is complete", || node.log("vols", "a", 0).contains(" /mem ")).await;
    let log = node.log("vols", "a", 0);
    for line in
        ["A=1", "B=12", "K=value", "P=hunter", "M=67108864", "X_other=x", "KUBERNETES_SERVICE_HOST=10.96.0.1", "600", "1.2.3.4\talias", "h"]
    {
        assert!(log.lines().any(|found| found == line), "{line:?} is missing in {log}");
    }
    for part in [
        "valuehuntervolst0ken",
        "h.s.default.svc.cluster.local\th",
        "search default.svc.cluster.local svc.cluster.local cluster.local",
        "nameserver 10.96.0.10",
        "ndots:5",
    ] {
        assert!(log.contains(part), "{part:?} is missing in {log}");
    }
    node.api.delete(&Node::pod_path("vols"), 1);
    node.wait_gone("vols").await;
}

async fn init_and_sidecars(node: &Node) {
    node.create_pod(
        "init",
        json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "volumes": [{"name": "d", "emptyDir": {}}],
        "initContainers": [{"name": "side", "restartPolicy": "Always", "command": ["sleep", "1000"]},
            {"name": "first", "command": ["sh", "-c", "echo made > /d/file"], "volumeMounts": [{"name": "d", "mountPath": "/d"}]}],
        "containers": [{"name": "main", "command": ["cat", "/d/file"], "volumeMounts": [{"name": "d", "mountPath": "/d"}]}]}),
    );
    let status = node.wait("init", "succeeded", |s| s["phase"] == "Succeeded").await;
    assert_eq!(node.log("init", "main", 0), "made");
    assert_eq!(status["initContainerStatuses"][1]["state"]["terminated"]["exitCode"], 0);
    assert_eq!(condition(&status, "Initialized"), "True");
    node.api.delete(&Node::pod_path("init"), 1);
    node.wait_gone("init").await;
}

async fn failures(node: &Node) {
    node.create_pod("nopull", json!({"containers": [{"name": "a", "image": "oxi.test/none:1"}]}));
    node.create_pod("never", json!({"containers": [{"name": "a", "image": "oxi.test/none:1", "imagePullPolicy": "Never"}]}));
    node.create_pod("badname", json!({"containers": [{"name": "a", "image": "Not A Name"}]}));
    node.create_pod("noconf", json!({"containers": [{"name": "a", "envFrom": [{"configMapRef": {"name": "absent"}}]}]}));
    node.create_pod("nocmd", json!({"containers": [{"name": "a", "command": ["/no/such/command"]}]}));
    let reason = |status: &Value| status["containerStatuses"][0]["state"]["waiting"]["reason"].as_str().unwrap_or_default().to_owned();
    for (name, expected) in [
        ("nopull", "ErrImagePull"),
        ("nopull", "ImagePullBackOff"),
        ("never", "ErrImageNeverPull"),
        ("badname", "InvalidImageName"),
        ("noconf", "CreateContainerConfigError"),
        ("nocmd", "CrashLoopBackOff"),
    ] {
        let status = node
            .wait(name, expected, |status| reason(status) == expected || (name == "nocmd" && reason(status) == "RunContainerError"))
            .await;
        assert_eq!(status["phase"], if name == "nocmd" { status["phase"].as_str().unwrap() } else { "Pending" }, "{name}");
    }
    for name in ["nopull", "never", "badname", "noconf", "nocmd"] {
        node.api.delete(&Node::pod_path(name), 1);
    }
    for name in ["nopull", "never", "badname", "noconf", "nocmd"] {
        node.wait_gone(name).await;
    }
}

async fn probes(node: &Node) {
    node.create_pod(
        "probed",
        json!({"terminationGracePeriodSeconds": 0, "containers": [{"name": "a",
        "command": ["sh", "-c", "touch /tmp/ok; sleep 3; busybox rm /tmp/ok; sleep 1000"],
        "startupProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1},
        "readinessProbe": {"exec": {"command": ["cat", "/tmp/ok"]}, "periodSeconds": 1},
        "livenessProbe": {"exec": {"command": ["cat", "/tmp/ok"]}, "periodSeconds": 1, "failureThreshold": 2}}]}),
    );
    node.wait_ready("probed").await;
    let status = node.wait("probed", "restarted", |s| s["containerStatuses"][0]["restartCount"] == 1).await;
    assert_eq!(status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 137);
    let events = node.events();
    assert!(events.iter().any(|event| event.contains("Container a failed liveness probe, will be restarted")), "{events:?}");
    assert!(events.iter().any(|event| event.starts_with("Unhealthy: Liveness probe failed")), "{events:?}");
    node.api.delete(&Node::pod_path("probed"), 1);
    node.wait_gone("probed").await;
}

async fn static_pods(node: &Node) {
    let manifest = node.containerd.dir.join("manifests/web.yaml");
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  containers: [{{name: a, image: '{}'}}]\n  terminationGracePeriodSeconds: 1\n",
        support::IMAGE
    );
    std::fs::write(&manifest, text).unwrap();
    node.wait_ready("web-test").await;
    std::fs::remove_file(&manifest).unwrap();
    node.wait_gone("web-test").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_kubelet_adopts_what_runs_and_removes_what_is_not_wanted() {
    let mut node = Node::start("adopt").await;
    node.create_pod("kept", json!({"containers": [{"name": "a"}], "terminationGracePeriodSeconds": 1}));
    node.create_pod("gone", json!({"containers": [{"name": "a"}], "terminationGracePeriodSeconds": 1}));
    let before = node.wait_ready("kept").await;
    node.wait_ready("gone").await;
    node.tasks.stop();
    node.tasks.join().await;
    node.api.delete(&Node::pod_path("gone"), 0);
    node.start_kubelet().await;
    node.until("the unwanted pod's containers go", || node.containerd.ctr(&["tasks", "ls", "-q"]).lines().count() == 2).await;
    let after = node.wait_ready("kept").await;
    assert_eq!(before["containerStatuses"], after["containerStatuses"]);
    assert_eq!(before["podIP"], after["podIP"]);
    node.api.delete(&Node::pod_path("kept"), 1);
    node.wait_gone("kept").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_pods_at_once() {
    let node = Node::start("many").await;
    let start = base::clock::monotonic();
    for index in 0..20 {
        node.create_pod(&format!("p{index}"), json!({"containers": [{"name": "a"}], "terminationGracePeriodSeconds": 0}));
    }
    for index in 0..20 {
        node.wait_ready(&format!("p{index}")).await;
    }
    eprintln!("20 pods ready: {:?}", start.elapsed());
    for index in 0..20 {
        node.api.delete(&Node::pod_path(&format!("p{index}")), 1);
    }
    for index in 0..20 {
        node.wait_gone(&format!("p{index}")).await;
    }
}
