//! Point 6: every kind of volume, updates that reach running pods, and a token that works against the API from inside a pod.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use testkit::{Cluster, wait};

use crate::{Test, manifests};

pub const TESTS: &[Test] = &[("volumes::kinds_and_updates", kinds_and_updates), ("volumes::the_service_account_token_works", token_works)];

const VOLUMES: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: files}
data: {plain: "one", other: "two"}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {key: "k1"}
---
apiVersion: v1
kind: Pod
metadata: {name: volumes, labels: {colour: red}}
spec:
  terminationGracePeriodSeconds: 0
  volumes:
  - {name: disk, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 8Mi}}
  - {name: host, hostPath: {path: PLACE, type: Directory}}
  - {name: files, configMap: {name: files, defaultMode: 0440, items: [{key: plain, path: sub/plain.txt}]}}
  - {name: keys, secret: {secretName: keys, defaultMode: 0400}}
  - {name: downward, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
  - name: all
    projected:
      sources:
      - {configMap: {name: files}}
      - {secret: {name: keys, items: [{key: key, path: secret/key}]}}
      - {serviceAccountToken: {path: token, audience: somebody, expirationSeconds: 600}}
      - {downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}
  containers:
  - name: writer
    image: oxikube.io/busybox:1
    command: [sh, -c, "echo shared > /disk/file; sleep infinity"]
    volumeMounts: [{name: disk, mountPath: /disk}, {name: memory, mountPath: /memory}, {name: host, mountPath: /host}]
  - name: reader
    image: oxikube.io/busybox:1
    command: [sleep, infinity]
    volumeMounts:
    - {name: disk, mountPath: /disk, readOnly: true}
    - {name: files, mountPath: /files}
    - {name: files, mountPath: /one.txt, subPath: sub/plain.txt}
    - {name: keys, mountPath: /keys}
    - {name: downward, mountPath: /down}
    - {name: all, mountPath: /all}
"#;

fn kinds_and_updates(cluster: &Cluster) -> Result<()> {
    let place = cluster.host.path("shared");
    std::fs::create_dir_all(&place)?;
    std::fs::write(place.join("there"), "host file")?;
    cluster.apply(&VOLUMES.replace("PLACE", &place.display().to_string()))?;
    cluster.wait_ready("volumes", 40)?;
    let run = |container: &str, script: &str| {
        cluster.kubectl(&["exec", "volumes", "-c", container, "--", "sh", "-c", script]).map(|text| text.trim().to_owned())
    };
    ensure!(run("reader", "cat /disk/file; touch /disk/x 2>&1 || true")?.starts_with("shared\n"), "containers share an emptyDir");
    ensure!(run("reader", "touch /disk/x 2>&1 || true")?.contains("Read-only"), "a read-only mount");
    ensure!(run("writer", "grep ' /memory tmpfs ' /proc/mounts | wc -l")? == "1", "an emptyDir in memory is a tmpfs");
    ensure!(run("writer", "df -m /memory | tail -1 | awk '{print $2}'")? == "8", "with its size");
    ensure!(run("writer", "cat /host/there; echo back > /host/back")? == "host file", "a folder of the host");
    ensure!(std::fs::read_to_string(place.join("back"))? == "back\n", "and back");
    let files = run("reader", "cat /files/sub/plain.txt; echo; stat -Lc %a /files/sub/plain.txt; cat /one.txt")?;
    ensure!(files == "one\n440\none", "a config map's files: {files:?}");
    ensure!(run("reader", "ls /files")? == "sub", "only the items that are named");
    ensure!(run("reader", "cat /keys/key; echo; stat -Lc %a /keys/key")? == "k1\n400", "a secret's");
    ensure!(run("reader", "cat /down/labels")? == "colour=\"red\"", "labels");
    ensure!(run("reader", "cat /all/plain /all/secret/key /all/name")? == "onek1volumes", "projected together");
    ensure!(run("reader", "cut -d. -f2 /all/token | base64 -d 2>/dev/null || true")?.contains("\"somebody\""), "a token for an audience");
    cluster.kubectl(&["patch", "configmap", "files", "-p", r#"{"data":{"plain":"changed"}}"#])?;
    cluster.kubectl(&["patch", "secret", "keys", "-p", r#"{"stringData":{"key":"k2"}}"#])?;
    cluster.kubectl(&["label", "pod", "volumes", "--overwrite", "colour=blue"])?;
    wait::until(Duration::from_secs(90), "the changes reach the running pod", || {
        let seen = run("reader", "cat /files/sub/plain.txt; echo; cat /keys/key; echo; cat /down/labels; echo; cat /one.txt")?;
        if seen == "changed\nk2\ncolour=\"blue\"\none" { Ok(()) } else { bail!("{seen:?}") }
    })?;
    cluster.kubectl(&["delete", "pod", "volumes", "--now"])?;
    cluster.kubectl(&["delete", "configmap/files", "secret/keys"]).map(|_| ())
}

/// Asks the API from inside the pod with the host's curl (busybox knows too little of TLS), the pod's credentials and its CA bundle.
const ASK: &str = r#"
D=/var/run/secrets/kubernetes.io/serviceaccount
mkdir -p /host/tmp && cp $D/ca.crt /host/BUNDLE
chroot /host curl -sS -m 5 --cacert /BUNDLE --resolve kubernetes.default.svc:443:$KUBERNETES_SERVICE_HOST -H "Authorization: Bearer $(cat $D/token)" \
  'https://kubernetes.default.svc/api/v1/namespaces/default/pods?limit=1' 2>&1
"#;

fn token_works(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["create", "serviceaccount", "reader"])?;
    cluster.kubectl(&["create", "rolebinding", "reader", "--clusterrole=view", "--serviceaccount=default:reader"])?;
    let spec = "  serviceAccountName: reader\n  volumes: [{name: host, hostPath: {path: /}}]";
    let mounted = manifests::sleeper("asker", spec) + "    volumeMounts: [{name: host, mountPath: /host}]\n";
    cluster.apply(&mounted)?;
    cluster.wait_ready("asker", 30)?;
    let directory = "/var/run/secrets/kubernetes.io/serviceaccount";
    let token = cluster.exec("asker", &["cat", &format!("{directory}/token")])?;
    let bundle = cluster.host.path("pod-ca.crt");
    std::fs::write(&bundle, cluster.exec("asker", &["cat", &format!("{directory}/ca.crt")])?)?;
    ensure!(cluster.exec("asker", &["cat", &format!("{directory}/namespace")])?.trim() == "default", "the namespace");
    let ask = |path: &str| {
        let url = format!("https://{}:6443{path}", cluster.host.address());
        let header = format!("Authorization: Bearer {}", token.trim());
        testkit::host::output(cluster.host.command("curl").args(["-sS", "-m", "5", "--cacert"]).arg(&bundle).args(["-H", &header, &url]))
    };
    ensure!(ask("/api/v1/namespaces/default/pods")?.contains("\"PodList\""), "the token may list pods");
    ensure!(ask("/api/v1/namespaces/default/secrets")?.contains("\"Forbidden\""), "but not secrets");
    let inside = cluster.exec("asker", &["sh", "-c", &ASK.replace("BUNDLE", bundle.display().to_string().trim_start_matches('/'))])?;
    ensure!(inside.contains("\"PodList\""), "from inside the pod by https://kubernetes.default.svc: {inside}");
    cluster.kubectl(&["delete", "pod", "asker", "--now"])?;
    wait::until(Duration::from_secs(15), "the token ends with its pod", || {
        let answer = ask("/api/v1/namespaces/default/pods")?;
        if answer.contains("Unauthorized") { Ok(()) } else { bail!("{}", &answer[..answer.len().min(200)]) }
    })?;
    cluster.kubectl(&["delete", "serviceaccount/reader", "rolebinding/reader"]).map(|_| ())
}
