//! Deletes pods that nobody else will: finished ones beyond a limit, those of vanished nodes, unscheduled ones that are to go (pkg/controller/podgc).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api::core::v1::{Node, Pod};
use api::meta::v1::Time;
use client::{Api, Client, Informer, WorkQueue};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use crate::common::pods;
use crate::context::Context;
use crate::frame::{Controller, Error, Next, Result};

const INTERVAL: Duration = Duration::from_secs(20);
/// How long a node must be missing before its pods go.
const QUARANTINE: Duration = Duration::from_secs(40);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

pub struct PodGc {
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    client: Client,
    threshold: usize,
    /// Nodes that pods name and that are not in the cache, and since when.
    missing: Mutex<HashMap<String, Instant>>,
}

#[derive(Debug, Default)]
struct Plan {
    /// Pod, and why it fails first: none for finished pods.
    delete: Vec<(Arc<Pod>, Option<&'static str>)>,
    /// Nodes to look up in the API before their pods go.
    missing: HashSet<String>,
}

/// `threshold` of zero keeps all finished pods.
fn plan(all: &[Arc<Pod>], nodes: &HashMap<String, Arc<Node>>, threshold: usize) -> Plan {
    let mut plan = Plan::default();
    let mut finished: Vec<&Arc<Pod>> = all.iter().filter(|pod| pods::is_finished(pod)).collect();
    if threshold > 0 && finished.len() > threshold {
        finished.sort_by_key(|pod| (pod.metadata.creation_timestamp.as_ref().map(|time| time.0), pod.metadata.name.clone()));
        plan.delete.extend(finished.iter().take(finished.len() - threshold).map(|pod| (Arc::clone(pod), None)));
    }
    for pod in all {
        match pods::node_name(pod) {
            None if pods::is_terminating(pod) => plan.delete.push((pod.clone(), None)),
            None => {}
            Some(name) => match nodes.get(name) {
                None => {
                    plan.missing.insert(name.to_owned());
                }
                Some(node) if pods::is_terminating(pod) && is_out_of_service(node) => {
                    plan.delete.push((pod.clone(), Some("PodGC: node is out-of-service")));
                }
                Some(_) => {}
            },
        }
    }
    plan
}

fn is_out_of_service(node: &Node) -> bool {
    let ready = node.status.as_ref().and_then(|status| status.conditions.as_ref()?.iter().find(|condition| condition.type_ == "Ready"));
    let tainted = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).any(|taint| taint.key == OUT_OF_SERVICE);
    tainted && ready.is_none_or(|ready| ready.status != "True")
}

impl PodGc {
    pub fn new(context: &Context, threshold: usize) -> Self {
        let (pods, nodes) = (context.informer(), context.informer());
        Self { pods, nodes, client: context.client("pod-garbage-collector"), threshold, missing: Mutex::default() }
    }

    /// Nodes that have been missing for long enough and that the API does not have either.
    async fn gone(&self, missing: &HashSet<String>) -> Result<HashSet<String>> {
        let now = base::clock::monotonic();
        let ripe: Vec<String> = {
            let mut since = self.missing.lock();
            since.retain(|name, _| missing.contains(name));
            missing.iter().filter(|&name| now >= *since.entry(name.clone()).or_insert(now) + QUARANTINE).cloned().collect()
        };
        let nodes = Api::<Node>::all(self.client.clone());
        let mut gone = HashSet::new();
        for name in ripe {
            if nodes.get_opt(&name).await?.is_none() {
                gone.insert(name);
            }
        }
        Ok(gone)
    }

    async fn delete(&self, pod: &Pod, failure: Option<&str>) -> Result<()> {
        let key = client::key_of(pod);
        let api = Api::<Pod>::namespaced(self.client.clone(), &key.namespace);
        tracing::info!(pod = %key, reason = failure.unwrap_or("finished or never scheduled"), "deleting a pod that nobody else will");
        if let Some(message) = failure.filter(|_| !pods::is_finished(pod)) {
            let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC", "message": message,
                "lastTransitionTime": Time(base::clock::now())});
            let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"phase": "Failed", "conditions": [condition]}});
            match api.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch)).await.map_err(Error::from) {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        let only_this = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() }.preconditions(only_this);
        match api.delete(&key.name, &now).await.map_err(Error::from) {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
            _ => Ok(()),
        }
    }
}

impl Controller for PodGc {
    type Key = &'static str;

    fn name(&self) -> &'static str {
        "pod-garbage-collector-controller"
    }

    fn watch(&self, queue: &WorkQueue<&'static str>) {
        queue.add("all");
    }

    async fn synced(&self) {
        self.pods.synced().await;
        self.nodes.synced().await;
    }

    async fn reconcile(&self, _: &&'static str) -> Result<Next> {
        let pods = self.pods.list();
        let nodes = self.nodes.list().into_iter().filter_map(|node| Some((node.metadata.name.clone()?, node))).collect();
        let mut plan = plan(&pods, &nodes, self.threshold);
        let gone = self.gone(&plan.missing).await?;
        let orphans = pods.iter().filter(|pod| pods::node_name(pod).is_some_and(|name| gone.contains(name)));
        plan.delete.extend(orphans.map(|pod| (pod.clone(), Some("PodGC: node no longer exists"))));
        for (pod, failure) in &plan.delete {
            self.delete(pod, *failure).await?;
        }
        Ok(Next::After(INTERVAL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, node: Option<&str>, phase: &str, deleting: bool, created: &str) -> Arc<Pod> {
        let deleted = deleting.then_some("2026-01-01T00:00:00Z");
        let pod = json!({"metadata": {"name": name, "deletionTimestamp": deleted, "creationTimestamp": format!("2026-01-0{created}T00:00:00Z")},
            "spec": {"nodeName": node, "containers": []}, "status": {"phase": phase}});
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    #[test]
    fn plans() {
        let node = |taint: &str| {
            Arc::new(serde_json::from_value::<Node>(json!({"spec": {"taints": [{"key": taint, "effect": "NoExecute"}]}})).expect("a node"))
        };
        let nodes = HashMap::from([("good".to_owned(), node("other")), ("off".to_owned(), node(OUT_OF_SERVICE))]);
        let pods = [
            pod("running", Some("good"), "Running", true, "1"),
            pod("orphan", Some("gone"), "Running", false, "1"),
            pod("unscheduled", None, "Pending", true, "1"),
            pod("waiting", None, "Pending", false, "1"),
            pod("stranded", Some("off"), "Running", true, "1"),
            pod("newer", Some("good"), "Succeeded", false, "3"),
            pod("older", Some("good"), "Failed", false, "2"),
        ];
        let check = |threshold: usize, expected: &[&str]| {
            let plan = plan(&pods, &nodes, threshold);
            let names: Vec<_> = plan.delete.iter().map(|(pod, _)| pod.metadata.name.as_deref().unwrap_or_default()).collect();
            assert_eq!(names, expected);
            assert_eq!(plan.missing, HashSet::from(["gone".to_owned()]));
        };
        check(0, &["unscheduled", "stranded"]);
        check(1, &["older", "unscheduled", "stranded"]);
        check(2, &["unscheduled", "stranded"]);
    }
}
