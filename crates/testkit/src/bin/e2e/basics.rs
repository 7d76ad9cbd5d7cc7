//! Point 1: a Deployment and a Service, and how kubectl's everyday commands print them.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use testkit::{Cluster, wait};

use crate::Test;
use crate::manifests::HELLO;

pub const TESTS: &[Test] = &[
    ("basics::hello_runs_on_five_pods", hello_runs_on_five_pods),
    ("basics::get_prints_upstreams_columns", get_prints_upstreams_columns),
    ("basics::edit_label_annotate_diff_and_server_side_apply", changes),
    ("basics::rights_and_tokens", rights_and_tokens),
    ("basics::bad_manifests_are_explained", bad_manifests),
];

/// After all others: they use the example too.
pub const LAST: &[Test] = &[("basics::hello_goes_away", hello_goes_away)];

fn hello_runs_on_five_pods(cluster: &Cluster) -> Result<()> {
    cluster.apply(HELLO)?;
    cluster.kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"])?;
    let pods = cluster.get(&["pods", "-l", "app=hello"])?;
    let items = pods["items"].as_array().cloned().unwrap_or_default();
    ensure!(items.len() == 5, "{} pods", items.len());
    let mut addresses: Vec<&str> = items.iter().filter_map(|pod| pod["status"]["podIP"].as_str()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    ensure!(addresses.len() == 5, "every pod has its own IP: {addresses:?}");
    Ok(())
}

fn header(text: &str) -> Vec<&str> {
    text.lines().next().unwrap_or_default().split("  ").map(str::trim).filter(|column| !column.is_empty()).collect()
}

fn get_prints_upstreams_columns(cluster: &Cluster) -> Result<()> {
    let cases: &[(&str, &[&str])] = &[
        ("deployments", &["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"]),
        ("replicasets", &["NAME", "DESIRED", "CURRENT", "READY", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"]),
        ("pods", &["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE", "READINESS GATES"]),
        ("services", &["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE", "SELECTOR"]),
        ("endpointslices", &["NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"]),
        (
            "nodes",
            &["NAME", "STATUS", "ROLES", "AGE", "VERSION", "INTERNAL-IP", "EXTERNAL-IP", "OS-IMAGE", "KERNEL-VERSION", "CONTAINER-RUNTIME"],
        ),
        ("events", &["LAST SEEN", "TYPE", "REASON", "OBJECT", "SUBOBJECT", "SOURCE", "MESSAGE", "FIRST SEEN", "COUNT", "NAME"]),
    ];
    for (resource, wanted) in cases {
        let text = cluster.kubectl(&["get", resource, "-o", "wide"])?;
        ensure!(header(&text) == *wanted, "{resource}: {:?}", header(&text));
    }
    let text = cluster.kubectl(&["get", "pods", "-l", "app=hello"])?;
    ensure!(text.lines().skip(1).all(|line| line.contains("1/1") && line.contains("Running")), "{text}");
    let described = cluster.kubectl(&["describe", "deployment", "hello"])?;
    ensure!(described.contains("5 desired | 5 updated | 5 total | 5 available | 0 unavailable"), "{described}");
    ensure!(described.contains("ScalingReplicaSet"), "describe shows the events: {described}");
    let explained = cluster.kubectl(&["explain", "deployment.spec.strategy"])?;
    ensure!(explained.contains("rollingUpdate") && explained.contains("GROUP:      apps"), "{explained}");
    let resources = cluster.kubectl(&["api-resources"])?;
    for name in ["configmaps", "deployments", "networkpolicies", "poddisruptionbudgets", "clusterroles", "storageclasses"] {
        ensure!(resources.contains(name), "api-resources lacks {name}");
    }
    Ok(())
}

fn changes(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["label", "deployment", "hello", "tier=front"])?;
    cluster.kubectl(&["annotate", "deployment", "hello", "note=kept"])?;
    ensure!(
        cluster.jsonpath(&["deployment", "hello"], "{.metadata.labels.tier}{.metadata.annotations.note}")? == "frontkept",
        "label and annotate"
    );
    let same = cluster.kubectl_output(&["diff", "-f", "-"], HELLO)?;
    ensure!(
        same.status.code() == Some(0),
        "nothing differs: {}{}",
        String::from_utf8_lossy(&same.stdout),
        String::from_utf8_lossy(&same.stderr)
    );
    let differs = cluster.kubectl_output(&["diff", "-f", "-"], &HELLO.replace("replicas: 5", "replicas: 6"))?;
    ensure!(differs.status.code() == Some(1), "diff exits with 1: {}", String::from_utf8_lossy(&differs.stderr));
    ensure!(String::from_utf8_lossy(&differs.stdout).contains("+  replicas: 6"), "{}", String::from_utf8_lossy(&differs.stdout));
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: shared\ndata:\n  a: \"1\"\n";
    cluster.kubectl_with(&["apply", "--server-side", "--field-manager=one", "-f", "-"], config)?;
    let conflict =
        cluster.kubectl_fails(&["apply", "--server-side", "--field-manager=two", "-f", "-"], &config.replace("\"1\"", "\"2\""))?;
    ensure!(conflict.contains("Apply failed with 1 conflict: conflict with \"one\": .data.a"), "{conflict}");
    cluster.kubectl_with(
        &["apply", "--server-side", "--force-conflicts", "--field-manager=two", "-f", "-"],
        &config.replace("\"1\"", "\"2\""),
    )?;
    ensure!(cluster.jsonpath(&["configmap", "shared"], "{.data.a}")? == "2", "forced");
    cluster.kubectl(&["patch", "configmap", "shared", "--type=json", "-p", r#"[{"op":"add","path":"/data/b","value":"3"}]"#])?;
    cluster.kubectl(&["patch", "configmap", "shared", "--type=merge", "-p", r#"{"data":{"a":null}}"#])?;
    ensure!(cluster.jsonpath(&["configmap", "shared"], "{.data}")? == r#"{"b":"3"}"#, "patched");
    let mut edit = cluster.kubectl_command(&["edit", "configmap", "shared"]);
    testkit::host::run(edit.env("KUBE_EDITOR", "sed -i /^..b:/s/3/4/"))?;
    ensure!(cluster.jsonpath(&["configmap", "shared"], "{.data.b}")? == "4", "edited");
    cluster.kubectl(&["delete", "configmap", "shared"]).map(|_| ())
}

fn rights_and_tokens(cluster: &Cluster) -> Result<()> {
    let rights = cluster.kubectl(&["auth", "can-i", "--list"])?;
    ensure!(rights.contains("*.*"), "the admin may do everything: {rights}");
    let none = cluster.kubectl_output(&["auth", "can-i", "list", "secrets", "--as=somebody"], "")?;
    ensure!(none.status.code() == Some(1) && String::from_utf8_lossy(&none.stdout).trim() == "no", "somebody may not");
    let denied = cluster.kubectl_fails(&["get", "pods", "--as=somebody"], "")?;
    let wanted = r#"pods is forbidden: User "somebody" cannot list resource "pods" in API group "" in the namespace "default""#;
    ensure!(denied.contains(wanted), "{denied}");
    let token = cluster.kubectl(&["create", "token", "default"])?;
    ensure!(token.trim().split('.').count() == 3, "a token has three parts: {token}");
    let who = cluster.kubectl(&[
        "auth",
        "whoami",
        "--token",
        token.trim(),
        "--kubeconfig=/dev/null",
        "--insecure-skip-tls-verify",
        "--server=https://127.0.0.1:6443",
    ])?;
    ensure!(who.contains("system:serviceaccount:default:default"), "{who}");
    Ok(())
}

fn bad_manifests(cluster: &Cluster) -> Result<()> {
    let cases = [
        ("apiVersion: v1\nkind: Pod\nmetadata:\n  name: bad\nspec:\n  containers: []\n", "spec.containers: Required value"),
        (
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: Bad_Name\nspec:\n  containers:\n  - name: a\n    image: b\n",
            "metadata.name: Invalid value: \"Bad_Name\"",
        ),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: bad\ndatas: {}\n", "unknown field \"datas\""),
        ("apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: bad\nspec:\n  replicas: many\n", "replicas"),
        ("apiVersion: nowhere/v1\nkind: Nothing\nmetadata:\n  name: bad\n", "no matches for kind \"Nothing\" in version \"nowhere/v1\""),
    ];
    for (manifest, wanted) in cases {
        let text = cluster.kubectl_fails(&["apply", "-f", "-"], manifest)?;
        ensure!(text.contains(wanted), "wanted {wanted:?} in: {text}");
    }
    Ok(())
}

fn hello_goes_away(cluster: &Cluster) -> Result<()> {
    cluster.kubectl_with(&["delete", "-f", "-"], HELLO)?;
    wait::until(Duration::from_secs(30), "the pods of a deleted Deployment go", || {
        let pods = cluster.kubectl(&["get", "pods", "-l", "app=hello", "-o", "name"])?;
        if pods.is_empty() { Ok(()) } else { bail!("left: {pods}") }
    })
}
