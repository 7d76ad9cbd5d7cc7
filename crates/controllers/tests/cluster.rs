//! The controllers against a real API server in the same process; a kubelet is played by `Kubelet`, which marks pods ready and lets deleted ones go.

use std::sync::Arc;
use std::time::Duration;

use api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet};
use api::core::v1::{ConfigMap, Endpoints, Event, Namespace, Node, Pod, Service, ServiceAccount};
use api::discovery::v1::EndpointSlice;
use base::Tasks;
use clap::Parser;
use client::{Client, Delta, InProcessUser, Informers};
use controllers::{Clients, ControllerManager, Options};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use prometheus_client::registry::Registry;
use serde_json::json;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    options: Options,
}

struct Cluster {
    client: Client,
    tasks: Tasks,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

async fn cluster() -> Cluster {
    base::logging::init(0);
    let tasks = Tasks::new();
    let engine = store::Engine::in_memory(store::EngineOptions::default(), &tasks);
    let mut options = apiserver::Options::default();
    options.auth.authorization_mode = vec!["Node".into(), "RBAC".into()];
    let server = apiserver::ApiServer::new(options, Arc::new(engine)).expect("a server");
    server.start(&tasks).await.expect("it starts");
    let service = server.service();
    let client = client::in_process(service.clone(), InProcessUser::new("test", &["system:masters", "system:authenticated"]));
    let root = client::in_process(service.clone(), InProcessUser::new("system:kube-controller-manager", &["system:authenticated"]));
    // Every controller with just its own rights, so that a missing one shows.
    let clients = Clients::per_controller(root, move |account| {
        let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"];
        client::in_process(service.clone(), InProcessUser::new(format!("system:serviceaccount:kube-system:{account}"), &groups))
    });
    let flags = ["test", "--leader-elect=true", "--allocate-node-cidrs", "--cluster-cidr=10.244.0.0/16"];
    let options = Command::try_parse_from(flags).expect("flags").options;
    let manager = ControllerManager::new(options, clients, "test", &mut Registry::default()).expect("options");
    let running = manager.with_root_ca("CA".into()).run(tasks.clone());
    tasks.spawn("controller manager", async move {
        running.await;
    });
    play_kubelet(&client, &tasks);
    Cluster { client, tasks }
}

/// Pods become ready at once; deleted ones go at once.
fn play_kubelet(client: &Client, tasks: &Tasks) {
    let mut pods = Informers::new(client.clone(), tasks.clone()).of::<Pod>().subscribe();
    let client = client.clone();
    tasks.spawn("kubelet", async move {
        let mut address = 1;
        loop {
            let delta = pods.recv().await;
            let (Delta::Added(pod) | Delta::Updated { new: pod, .. }) = delta else { continue };
            let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
            if pod.metadata.deletion_timestamp.is_some() {
                let _gone_already = api.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await;
            } else if pod.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Running") {
                address += 1;
                let ip = format!("10.244.0.{address}");
                let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                    "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
                let _gone_already = api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(status)).await;
            }
        }
    });
}

impl Cluster {
    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn create<K>(&self, value: serde_json::Value) -> K
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + serde::Serialize
            + serde::de::DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        let object: K = serde_json::from_value(value).expect("an object");
        self.api::<K>().create(&PostParams::default(), &object).await.expect("created")
    }

    async fn count<K>(&self) -> usize
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + serde::de::DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        self.api::<K>().list(&ListParams::default()).await.expect("a list").items.len()
    }
}

/// Asks until the answer is yes, for at most 20 seconds.
async fn wait_for(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asking).await.unwrap_or_else(|_| panic!("waited too long: {what}"));
}

fn deployment(name: &str, replicas: i32, image: &str) -> serde_json::Value {
    json!({"metadata": {"name": name}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": image}]}}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_rolls_and_goes_with_its_pods() {
    let cluster = cluster().await;
    cluster.create::<Deployment>(deployment("web", 5, "one")).await;
    cluster.create::<Service>(json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}})).await;
    let deployments = cluster.api::<Deployment>();
    let available = async |revision: &str| {
        let web = deployments.get("web").await.expect("it is there");
        let status = web.status.clone().unwrap_or_default();
        let current = web.annotations().get("deployment.kubernetes.io/revision").is_some_and(|it| it == revision);
        current
            && status.available_replicas == Some(5)
            && status.updated_replicas == Some(5)
            && status.replicas == Some(5)
            && status.observed_generation == web.metadata.generation
    };
    wait_for("five pods available", async || available("1").await).await;
    let slices = cluster.api::<EndpointSlice>();
    let labelled = ListParams::default().labels("kubernetes.io/service-name=web");
    let ready = async || {
        let list = slices.list(&labelled).await.expect("a list").items;
        let endpoints = list.iter().flat_map(|slice| slice.endpoints.iter().flatten());
        endpoints.filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true)).count()
    };
    wait_for("five endpoints in slices", async || ready().await == 5).await;
    wait_for("five endpoints", async || {
        let endpoints = cluster.api::<Endpoints>().get_opt("web").await.expect("an answer");
        endpoints.iter().flat_map(|it| it.subsets.iter().flatten()).flat_map(|it| it.addresses.iter().flatten()).count() == 5
    })
    .await;

    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "two"}]}}}});
    deployments.patch("web", &PatchParams::default(), &Patch::Strategic(patch)).await.expect("patched");
    wait_for("the second revision", async || available("2").await && cluster.count::<Pod>().await == 5).await;
    assert_eq!(cluster.count::<ReplicaSet>().await, 2);
    assert_eq!(ready().await, 5);
    let events = cluster.api::<Event>().list(&ListParams::default()).await.expect("a list").items;
    let notes: Vec<_> = events
        .iter()
        .filter(|event| event.reason.as_deref() == Some("ScalingReplicaSet"))
        .filter_map(|event| event.message.clone())
        .collect();
    assert!(notes.iter().any(|note| note.contains("from 0 to 5")), "{notes:?}");

    let pod = cluster.api::<Pod>().list(&ListParams::default()).await.expect("a list").items[0].name_any();
    cluster.api::<Pod>().delete(&pod, &DeleteParams::default()).await.expect("deleted");
    wait_for("the deleted pod is replaced", async || {
        let pods = cluster.api::<Pod>().list(&ListParams::default()).await.expect("a list").items;
        pods.len() == 5 && pods.iter().all(|other| other.name_any() != pod)
    })
    .await;

    deployments.delete("web", &DeleteParams::background()).await.expect("deleted");
    wait_for("everything goes with the deployment", async || cluster.count::<ReplicaSet>().await + cluster.count::<Pod>().await == 0).await;
    cluster.api::<Service>().delete("web", &DeleteParams::default()).await.expect("deleted");
    wait_for("the slices go with the service", async || slices.list(&labelled).await.expect("a list").items.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreground_waits_and_orphans_stay() {
    let cluster = cluster().await;
    let deployments = cluster.api::<Deployment>();
    for name in ["fore", "orphan"] {
        cluster.create::<Deployment>(deployment(name, 2, "one")).await;
    }
    wait_for("four pods", async || cluster.count::<Pod>().await == 4 && cluster.count::<ReplicaSet>().await == 2).await;
    deployments.delete("orphan", &DeleteParams::orphan()).await.expect("deleted");
    wait_for("the orphaning deployment is gone", async || deployments.get_opt("orphan").await.expect("an answer").is_none()).await;
    let sets = cluster.api::<ReplicaSet>().list(&ListParams::default()).await.expect("a list").items;
    let orphan = sets.iter().find(|set| set.name_any().starts_with("orphan-")).expect("the set stays");
    assert!(orphan.owner_references().is_empty());
    assert_eq!(cluster.count::<Pod>().await, 4);

    deployments.delete("fore", &DeleteParams::foreground()).await.expect("deleted");
    wait_for("the foreground deletion ends", async || deployments.get_opt("fore").await.expect("an answer").is_none()).await;
    assert_eq!(cluster.count::<ReplicaSet>().await, 1, "the dependents went first");
    // A new deployment of that name adopts the orphan.
    cluster.create::<Deployment>(deployment("orphan", 2, "one")).await;
    wait_for("the orphan is adopted", async || {
        let sets = cluster.api::<ReplicaSet>().list(&ListParams::default()).await.expect("a list").items;
        sets.len() == 1 && !sets[0].owner_references().is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_get_their_objects_and_go() {
    let cluster = cluster().await;
    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "team"}})).expect("a namespace");
    namespaces.create(&PostParams::default(), &namespace).await.expect("created");
    let accounts = Api::<ServiceAccount>::namespaced(cluster.client.clone(), "team");
    let maps = Api::<ConfigMap>::namespaced(cluster.client.clone(), "team");
    wait_for("the default service account", async || accounts.get_opt("default").await.expect("an answer").is_some()).await;
    wait_for("the CA", async || {
        maps.get_opt("kube-root-ca.crt").await.expect("an answer").is_some_and(|map| map.data.is_some_and(|data| data["ca.crt"] == "CA"))
    })
    .await;
    let web: Deployment = serde_json::from_value(deployment("web", 3, "one")).expect("a deployment");
    Api::namespaced(cluster.client.clone(), "team").create(&PostParams::default(), &web).await.expect("created");
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), "team");
    wait_for("pods", async || pods.list(&ListParams::default()).await.expect("a list").items.len() == 3).await;
    namespaces.delete("team", &DeleteParams::default()).await.expect("deleted");
    wait_for("the namespace goes", async || namespaces.get_opt("team").await.expect("an answer").is_none()).await;
    let left = pods.list(&ListParams::default()).await.expect("a list").items;
    assert!(left.is_empty(), "{left:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_get_addresses_and_taints() {
    let cluster = cluster().await;
    let nodes = Api::<Node>::all(cluster.client.clone());
    let node: Node = serde_json::from_value(json!({"metadata": {"name": "one"}})).expect("a node");
    nodes.create(&PostParams::default(), &node).await.expect("created");
    let spec = async || nodes.get("one").await.expect("a node").spec.unwrap_or_default();
    wait_for("addresses", async || spec().await.pod_cidr.as_deref() == Some("10.244.0.0/24")).await;
    let ready = |status: &str| {
        json!({"status": {"conditions": [{"type": "Ready", "status": status, "reason": "Kubelet", "message": "m",
        "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}})
    };
    let set = async |status: &str| nodes.patch_status("one", &PatchParams::default(), &Patch::Merge(ready(status))).await.map(drop);
    set("False").await.expect("patched");
    let tainted = async || {
        spec().await.taints.iter().flatten().any(|taint| taint.key == "node.kubernetes.io/not-ready" && taint.effect == "NoSchedule")
    };
    wait_for("a taint", async || tainted().await).await;
    set("True").await.expect("patched");
    wait_for("no taint", async || !tainted().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_set_covers_the_nodes_and_rolls() {
    let cluster = cluster().await;
    let nodes = Api::<Node>::all(cluster.client.clone());
    for name in ["one", "two", "three"] {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": name}})).expect("a node");
        nodes.create(&PostParams::default(), &node).await.expect("created");
    }
    cluster.create::<DaemonSet>(deployment("agent", 1, "one").without("replicas")).await;
    let sets = cluster.api::<DaemonSet>();
    let covered = async |count: i32| {
        let set = sets.get("agent").await.expect("it is there");
        let status = set.status.unwrap_or_default();
        status.desired_number_scheduled == count
            && status.number_available == Some(count)
            && status.updated_number_scheduled == Some(count)
            && status.observed_generation == set.metadata.generation
    };
    wait_for("a pod on every node", async || covered(3).await).await;
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "two"}]}}}});
    sets.patch("agent", &PatchParams::default(), &Patch::Strategic(patch)).await.expect("patched");
    let images = async || {
        let pods = cluster.api::<Pod>().list(&ListParams::default()).await.expect("a list").items;
        pods.iter().filter_map(|pod| pod.spec.as_ref()?.containers[0].image.clone()).collect::<Vec<_>>()
    };
    wait_for("the new image everywhere", async || covered(3).await && images().await == ["two"; 3]).await;
    assert_eq!(cluster.count::<ControllerRevision>().await, 2);
    nodes.delete("three", &DeleteParams::default()).await.expect("deleted");
    wait_for("two pods", async || covered(2).await).await;
}

trait Without {
    fn without(self, field: &str) -> Self;
}

impl Without for serde_json::Value {
    /// The object without a field of its specification.
    fn without(mut self, field: &str) -> Self {
        if let Some(spec) = self["spec"].as_object_mut() {
            spec.remove(field);
        }
        self
    }
}
