//! Watches over nodes: silence makes them NotReady, conditions become taints, pods of dead nodes are marked and, as zones allow, evicted by taints.

mod plan;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use api::coordination::v1::Lease;
use api::core::v1::{Node, NodeStatus, Pod};
use api::meta::v1::Time;
use client::limit::TokenBucket;
use client::{Api, Client, EventType, Informer, Recorder, WorkQueue};
use kube::api::{Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

pub use self::plan::Rates;
use self::plan::ZoneState;
use crate::common::pods;
use crate::context::Context;
use crate::frame::{Controller, Error, Next, Result};
use crate::tainteviction::{BY_NODE, by_node};

const SERVICE_ACCOUNT: &str = "node-controller";

#[derive(Clone, Debug)]
pub struct Settings {
    pub monitor_period: Duration,
    pub grace_period: Duration,
    pub startup_grace_period: Duration,
    pub rates: Rates,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// Look at the heartbeats of all nodes.
    Monitor,
    Node(String),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Monitor => f.write_str("(all nodes)"),
            Self::Node(name) => f.write_str(name),
        }
    }
}

pub struct NodeLifecycle {
    nodes: Informer<Node>,
    leases: Informer<Lease>,
    pods: Informer<Pod>,
    client: Client,
    recorder: Recorder,
    settings: Settings,
    /// The last sign of life of each node by this process's own clock, and what it was.
    heartbeats: Mutex<HashMap<String, (Heartbeat, Instant)>>,
    zones: Mutex<HashMap<String, TokenBucket>>,
    started: Instant,
}

/// Whatever a kubelet renews.
#[derive(Clone, Debug, Default, PartialEq)]
struct Heartbeat {
    uid: Option<String>,
    renewed: Option<jiff::Timestamp>,
    reported: Option<Time>,
}

impl NodeLifecycle {
    pub fn new(context: &Context, settings: Settings) -> Self {
        let pods = context.informer::<Pod>();
        pods.index(BY_NODE, by_node);
        Self {
            nodes: context.informer(),
            leases: context.informer(),
            pods,
            client: context.client(SERVICE_ACCOUNT),
            recorder: context.recorder(SERVICE_ACCOUNT),
            settings,
            heartbeats: Mutex::default(),
            zones: Mutex::default(),
            started: base::clock::monotonic(),
        }
    }

    /// Nodes that have been silent for too long.
    fn silent(&self, nodes: &[Arc<Node>]) -> Vec<Arc<Node>> {
        let now = base::clock::monotonic();
        let mut known = self.heartbeats.lock();
        let mut seen = HashMap::with_capacity(nodes.len());
        let mut silent = Vec::new();
        for node in nodes {
            let name = node.metadata.name.clone().unwrap_or_default();
            let beat = self.heartbeat(&name, node);
            let (since, grace) = match known.remove(&name) {
                Some((old, since)) if old == beat => (since, self.settings.grace_period),
                _ => (now, self.settings.grace_period),
            };
            let grace = if beat.reported.is_none() && beat.renewed.is_none() { self.settings.startup_grace_period } else { grace };
            if now > since + grace {
                silent.push(node.clone());
            }
            seen.insert(name, (beat, since));
        }
        *known = seen;
        silent
    }

    fn heartbeat(&self, name: &str, node: &Node) -> Heartbeat {
        let lease = self.leases.get(Some("kube-node-lease"), name);
        Heartbeat {
            uid: node.metadata.uid.clone(),
            renewed: lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref().map(|time| time.0)),
            // Only the kubelet's own reports count: this controller writes Unknown itself without touching the heartbeat time.
            reported: plan::ready(node).and_then(|ready| ready.last_heartbeat_time.clone()),
        }
    }

    async fn monitor(&self) -> Result<()> {
        let nodes = self.nodes.list();
        for node in self.silent(&nodes) {
            let Some(conditions) = plan::unknown_conditions(&node, base::clock::now()) else { continue };
            let name = node.metadata.name.as_deref().unwrap_or_default();
            tracing::warn!(node = name, "the node stopped posting its status");
            let patch = json!({"status": NodeStatus { conditions: Some(conditions), ..NodeStatus::default() }});
            match Api::<Node>::all(self.client.clone())
                .patch_status(name, &PatchParams::default(), &Patch::Strategic(patch))
                .await
                .map_err(Error::from)
            {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        self.set_rates(&nodes);
        Ok(())
    }

    fn set_rates(&self, nodes: &[Arc<Node>]) {
        let mut counts: HashMap<String, (usize, usize)> = HashMap::new();
        for node in nodes {
            let (ready, not_ready) = counts.entry(zone(node)).or_default();
            *(if plan::is_ready(node) { ready } else { not_ready }) += 1;
        }
        let rates = &self.settings.rates;
        let states: HashMap<&String, (ZoneState, usize)> = counts
            .iter()
            .map(|(zone, &(ready, not_ready))| (zone, (plan::zone_state(ready, not_ready, rates.unhealthy_threshold), ready + not_ready)))
            .collect();
        let all_full = states.values().all(|(state, _)| *state == ZoneState::Full);
        let now = base::clock::monotonic();
        let mut zones = self.zones.lock();
        zones.retain(|zone, _| counts.contains_key(zone));
        for (zone, (state, size)) in states {
            let rate = plan::eviction_rate(state, all_full, size, rates);
            zones.entry(zone.clone()).or_insert_with(|| TokenBucket::new(rate, 1, now)).set_rate(rate, now);
        }
    }

    /// Whether another node of the zone may be emptied now.
    fn may_evict(&self, node: &Node) -> bool {
        let now = base::clock::monotonic();
        // Before the first heartbeats could be judged, nothing is known about disruptions.
        let judged = now >= self.started + self.settings.monitor_period;
        let all_full = { self.nodes.list().iter().all(|node| !plan::is_ready(node)) };
        judged && !all_full && self.zones.lock().get_mut(&zone(node)).is_some_and(|bucket| bucket.try_take(now))
    }

    async fn node(&self, name: &str) -> Result<Next> {
        let Some(node) = self.nodes.get(None, name) else { return Ok(Next::Done) };
        let execute = plan::wanted_no_execute(&node);
        let tainted = crate::common::taints::no_execute(&node).any(|taint| Some(taint.key.as_str()) == execute);
        let may_evict = execute.is_some() && !tainted && self.may_evict(&node);
        if let Some(taints) = plan::taints(&node, may_evict, base::clock::now()) {
            // With the resource version, because the list is replaced as a whole.
            let patch = json!({"metadata": {"resourceVersion": node.metadata.resource_version}, "spec": {"taints": taints}});
            match Api::<Node>::all(self.client.clone())
                .patch(name, &PatchParams::default(), &Patch::Merge(patch))
                .await
                .map_err(Error::from)
            {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        if execute.is_some() {
            self.mark_pods(name).await?;
        }
        // Waiting for the zone's next turn.
        Ok(if execute.is_some() && !tainted && !may_evict { Next::After(self.settings.monitor_period) } else { Next::Done })
    }

    /// Pods of a node that is not ready are not ready (`MarkPodsNotReady`).
    async fn mark_pods(&self, node: &str) -> Result<()> {
        for pod in self.pods.by_index(BY_NODE, node).iter().filter(|pod| pods::is_ready(pod)) {
            let key = client::key_of(&**pod);
            let condition = json!({"type": "Ready", "status": "False", "lastTransitionTime": Time(base::clock::now())});
            let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
            let api = Api::<Pod>::namespaced(self.client.clone(), &key.namespace);
            match api.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch)).await.map_err(Error::from) {
                Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error),
                Err(_) => {}
                Ok(_) => self.recorder.event(&client::object_ref(&**pod), EventType::Warning, "NodeNotReady", "", "Node is not ready"),
            }
        }
        Ok(())
    }
}

/// Region and zone; nodes without labels share one.
fn zone(node: &Node) -> String {
    let label = |key: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str).unwrap_or_default();
    format!("{}:\0:{}", label("topology.kubernetes.io/region"), label("topology.kubernetes.io/zone"))
}

impl Controller for NodeLifecycle {
    type Key = Key;

    fn name(&self) -> &'static str {
        "node-lifecycle-controller"
    }

    fn watch(&self, queue: &WorkQueue<Key>) {
        queue.add(Key::Monitor);
        let (queue, recorder) = (queue.clone(), self.recorder.clone());
        self.nodes.on_change(move |delta| {
            let Some(node) = delta.current() else { return };
            let name = node.metadata.name.clone().unwrap_or_default();
            let was_ready = delta.old().is_some_and(|old| plan::is_ready(old));
            if was_ready && !plan::is_ready(node) {
                let note = format!("Node {name} status is now: NodeNotReady");
                recorder.event(&client::object_ref(&**node), EventType::Normal, "NodeNotReady", "", note);
            }
            let facts = |node: &Node| {
                let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
                (node.spec.clone(), conditions.map(|condition| (condition.type_.clone(), condition.status.clone())).collect::<Vec<_>>())
            };
            // Heartbeats alone are many and change nothing.
            if delta.old().is_none_or(|old| facts(old) != facts(node)) {
                queue.add(Key::Node(name));
            }
        });
    }

    async fn synced(&self) {
        self.nodes.synced().await;
        self.leases.synced().await;
        self.pods.synced().await;
    }

    async fn reconcile(&self, key: &Key) -> Result<Next> {
        match key {
            Key::Monitor => {
                self.monitor().await?;
                Ok(Next::After(self.settings.monitor_period))
            }
            Key::Node(name) => self.node(name).await,
        }
    }
}
