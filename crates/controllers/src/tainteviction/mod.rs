//! Deletes pods from nodes with NoExecute taints when their tolerations end (pkg/controller/tainteviction).

use std::time::Duration;

use api::core::v1::{Node, Pod, Taint, Toleration};
use api::meta::v1::Time;
use client::{Api, Client, EventType, Informer, ObjectKey, Recorder, WorkQueue};
use jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;

use crate::common::{pods, taints};
use crate::context::Context;
use crate::frame::{Controller, Error, Next, Result};

const SERVICE_ACCOUNT: &str = "node-controller";
pub const BY_NODE: &str = "node";

pub struct TaintEviction {
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    client: Client,
    recorder: Recorder,
}

#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Stay,
    EvictAfter(Duration),
    Evict,
}

/// Every taint must be tolerated; of limited tolerations the shortest counts, from when its taint was added.
fn plan(taints: &[&Taint], tolerations: &[Toleration], now: Timestamp) -> Plan {
    let mut ends: Option<i64> = None;
    for taint in taints {
        let matching: Vec<&Toleration> = tolerations.iter().filter(|toleration| taints::tolerates(toleration, taint)).collect();
        if matching.is_empty() {
            return Plan::Evict;
        }
        if let Some(seconds) = matching.iter().filter_map(|toleration| toleration.toleration_seconds).min() {
            let added = taint.time_added.as_ref().map_or(now, |time| time.0);
            let end = added.as_second().saturating_add(seconds.max(0));
            ends = Some(ends.map_or(end, |other| other.min(end)));
        }
    }
    match ends.map(|end| end.saturating_sub(now.as_second())) {
        None => Plan::Stay,
        Some(left) if left <= 0 => Plan::Evict,
        Some(left) => Plan::EvictAfter(Duration::from_secs(u64::try_from(left).unwrap_or(0))),
    }
}

/// The values of `BY_NODE`.
pub fn by_node(pod: &Pod) -> Vec<String> {
    pods::node_name(pod).map(str::to_owned).into_iter().collect()
}

impl TaintEviction {
    pub fn new(context: &Context) -> Self {
        let pods = context.informer::<Pod>();
        pods.index(BY_NODE, by_node);
        Self { pods, nodes: context.informer(), client: context.client(SERVICE_ACCOUNT), recorder: context.recorder(SERVICE_ACCOUNT) }
    }

    async fn evict(&self, key: &ObjectKey, pod: &Pod) -> Result<()> {
        let api = Api::<Pod>::namespaced(self.client.clone(), &key.namespace);
        self.recorder.event(
            &client::object_ref(pod),
            EventType::Normal,
            "TaintManagerEviction",
            "",
            format!("Marking for deletion Pod {key}"),
        );
        let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": Time(base::clock::now())});
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
        let only_this = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let marked = api.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch)).await.map_err(Error::from);
        let deleted = match marked {
            Ok(_) => api.delete(&key.name, &DeleteParams::default().preconditions(only_this)).await.map(drop).map_err(Error::from),
            Err(error) => Err(error),
        };
        match deleted {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

impl Controller for TaintEviction {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "taint-eviction-controller"
    }

    fn watch(&self, queue: &WorkQueue<ObjectKey>) {
        let (pods, nodes) = (queue.clone(), self.nodes.clone());
        self.pods.on_change(move |delta| {
            let Some(pod) = delta.current() else { return };
            let tainted =
                pods::node_name(pod).and_then(|name| nodes.get(None, name)).is_some_and(|node| taints::no_execute(&node).next().is_some());
            if tainted {
                pods.add(client::key_of(&**pod));
            }
        });
        let (queue, pods) = (queue.clone(), self.pods.clone());
        self.nodes.on_change(move |delta| {
            let Some(node) = delta.current() else { return };
            let changed = delta.old().is_none_or(|old| taints::of(old) != taints::of(node));
            if changed && taints::no_execute(node).next().is_some() {
                pods.by_index(BY_NODE, node.metadata.name.as_deref().unwrap_or_default())
                    .iter()
                    .for_each(|pod| queue.add(client::key_of(&**pod)));
            }
        });
    }

    async fn synced(&self) {
        self.pods.synced().await;
        self.nodes.synced().await;
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let Some(pod) = self.pods.get_key(key).filter(|pod| !pods::is_terminating(pod)) else { return Ok(Next::Done) };
        let Some(node) = pods::node_name(&pod).and_then(|name| self.nodes.get(None, name)) else { return Ok(Next::Done) };
        let taints: Vec<&Taint> = taints::no_execute(&node).collect();
        match plan(&taints, taints::tolerations(&pod), base::clock::now()) {
            Plan::Stay => Ok(Next::Done),
            Plan::EvictAfter(delay) => Ok(Next::After(delay)),
            Plan::Evict => {
                self.evict(key, &pod).await?;
                Ok(Next::Done)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerations_end() {
        let now = Timestamp::from_second(100_000).expect("in range");
        let taint = |key: &str, age: i64| Taint {
            key: key.into(),
            effect: taints::NO_EXECUTE.into(),
            time_added: Some(Time(Timestamp::from_second(100_000 - age).expect("in range"))),
            ..Taint::default()
        };
        let tolerate = |key: &str, seconds: Option<i64>| Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            toleration_seconds: seconds,
            ..Toleration::default()
        };
        let check =
            |age: i64, tolerations: &[Toleration], expected: Plan| assert_eq!(plan(&[&taint("a", age)], tolerations, now), expected);
        let after = |seconds| Plan::EvictAfter(Duration::from_secs(seconds));
        check(0, &[], Plan::Evict);
        check(0, &[tolerate("b", None)], Plan::Evict);
        check(9000, &[tolerate("a", None)], Plan::Stay);
        check(0, &[tolerate("a", Some(300))], after(300));
        check(100, &[tolerate("a", Some(300))], after(200));
        check(300, &[tolerate("a", Some(300))], Plan::Evict);
        check(0, &[tolerate("a", Some(0))], Plan::Evict);
        check(0, &[tolerate("a", Some(300)), tolerate("a", Some(30))], after(30));
        assert_eq!(plan(&[], &[], now), Plan::Stay);
        assert_eq!(plan(&[&taint("a", 0), &taint("b", 0)], &[tolerate("a", None)], now), Plan::Evict);
    }
}
