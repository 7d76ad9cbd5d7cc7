//! Registers the node and reports its status: at once when it changes, every five minutes when it does not (pkg/kubelet/kubelet_node_status.go).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::core::v1::{DaemonEndpoint, Node, NodeAddress, NodeDaemonEndpoints, NodeRuntimeHandler, NodeSpec, NodeStatus};
use client::EventType;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::time::Instant;

use super::{info, status};
use crate::context::Context;
use crate::objects::{api_text, has_reason};

/// How often readiness is looked at while the node is not ready, and while it is.
const NOT_READY_PERIOD: Duration = Duration::from_millis(200);
const READY_PERIOD: Duration = Duration::from_secs(5);

pub struct Reporter {
    context: Arc<Context>,
    system_info: api::core::v1::NodeSystemInfo,
    ready: tokio::sync::watch::Sender<bool>,
    sent: Option<(NodeStatus, Instant)>,
    registered: bool,
    pod_cidr: String,
}

impl Reporter {
    /// `ready` is set while the API shows the node as ready.
    pub fn new(context: Arc<Context>, ready: tokio::sync::watch::Sender<bool>) -> Self {
        let system_info = info::system_info(context.cri.version());
        Self { context, system_info, ready, sent: None, registered: false, pod_cidr: String::new() }
    }

    pub async fn run(mut self) {
        let mut images = Vec::new();
        let mut images_at: Option<Instant> = None;
        loop {
            if images_at.is_none_or(|at| at.elapsed() >= self.context.settings.status_update_frequency) {
                match self.context.cri.list_images().await {
                    Ok(list) => images = status::images(list),
                    Err(error) => tracing::warn!(%error, "images cannot be listed"),
                }
                images_at = Some(base::clock::monotonic());
            }
            self.pass_pod_cidr_on().await;
            let (status, ready) = self.current(&images).await;
            if let Err(error) = self.report(status, ready).await {
                tracing::warn!(error = api_text(&error), "the node's status cannot be written, trying again");
            }
            let period = if ready && self.registered { READY_PERIOD } else { NOT_READY_PERIOD };
            tokio::time::sleep(period).await;
        }
    }

    /// Runtimes that template their network configuration want to know the node's pod addresses.
    async fn pass_pod_cidr_on(&mut self) {
        let node = self.context.node.get(None, &self.context.settings.node_name);
        let given = node.and_then(|node| node.spec.as_ref()?.pod_cidr.clone());
        let cidr = given.unwrap_or_else(|| self.context.settings.pod_cidr.clone());
        if cidr.is_empty() || cidr == self.pod_cidr {
            return;
        }
        match self.context.cri.update_pod_cidr(&cidr).await {
            Ok(()) => self.pod_cidr = cidr,
            Err(error) => tracing::warn!(%error, cidr, "the runtime does not take the node's pod CIDR"),
        }
    }

    async fn current(&self, images: &[api::core::v1::ContainerImage]) -> (NodeStatus, bool) {
        let runtime = self.context.cri.status().await.map_err(|error| error.to_string());
        let problems = status::problems(&runtime, &self.context.pleg.healthy());
        let node = self.context.node.get(None, &self.context.settings.node_name);
        let shown = node.as_ref().and_then(|node| node.status.as_ref()?.conditions.clone());
        let old = self.sent.as_ref().and_then(|(sent, _)| sent.conditions.clone()).or(shown).unwrap_or_default();
        let pressure = *self.context.pressure.read();
        let handlers = runtime.ok().map(|status| status.runtime_handlers).unwrap_or_default();
        let machine = self.context.machine.read().clone();
        let mut addresses: Vec<NodeAddress> =
            machine.addresses.iter().map(|ip| NodeAddress { type_: "InternalIP".into(), address: ip.clone() }).collect();
        addresses.push(NodeAddress { type_: "Hostname".into(), address: self.context.settings.node_name.clone() });
        let out = NodeStatus {
            addresses: Some(addresses),
            capacity: Some(machine.capacity),
            allocatable: Some(machine.allocatable),
            conditions: Some(status::conditions(&old, pressure, &problems, &crate::pod::api_now())),
            daemon_endpoints: Some(NodeDaemonEndpoints {
                kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(self.context.settings.port) }),
            }),
            images: Some(images.to_vec()).filter(|images| !images.is_empty()),
            node_info: Some(self.system_info.clone()),
            runtime_handlers: Some(
                handlers.into_iter().map(|handler| NodeRuntimeHandler { name: Some(handler.name), features: None }).collect(),
            )
            .filter(|handlers: &Vec<NodeRuntimeHandler>| !handlers.is_empty()),
            ..NodeStatus::default()
        };
        (out, problems.is_empty())
    }

    async fn report(&mut self, status: NodeStatus, ready: bool) -> Result<(), kube::Error> {
        if !self.registered {
            if self.context.settings.register_node {
                self.register(&status).await?;
            }
            self.registered = true;
        }
        let due = match &self.sent {
            Some((sent, at)) => {
                !same(sent, &status) || at.elapsed() >= self.context.settings.status_report_frequency || !self.is_shown(sent)
            }
            None => true,
        };
        if !due {
            return Ok(());
        }
        let mut fields = json!(status);
        if let Some(list) = fields["addresses"].as_array_mut() {
            list.insert(0, json!({"$patch": "replace"}));
        }
        let api: Api<Node> = Api::all(self.context.client.clone());
        let patch = json!({"status": fields});
        if let Err(error) = api.patch_status(&self.context.settings.node_name, &PatchParams::default(), &Patch::Strategic(&patch)).await {
            // The node was deleted: it registers again.
            self.registered &= !has_reason(&error, "NotFound");
            return Err(error);
        }
        self.tell_changes(&status, ready);
        self.sent = Some((status, base::clock::monotonic()));
        Ok(())
    }

    /// Whether the API still shows our word on readiness: the node controller overrides it when heartbeats failed.
    fn is_shown(&self, sent: &NodeStatus) -> bool {
        let Some(node) = self.context.node.get(None, &self.context.settings.node_name) else { return true };
        let shown = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let find = |list: &[api::core::v1::NodeCondition]| list.iter().find(|c| c.type_ == "Ready").map(|c| c.status.clone());
        find(shown) != Some("Unknown".into()) || find(sent.conditions.as_deref().unwrap_or_default()).is_none()
    }

    fn tell_changes(&self, status: &NodeStatus, ready: bool) {
        let before = self.sent.as_ref().map(|(sent, _)| sent);
        let of =
            |status: &NodeStatus, type_: &str| status.conditions.iter().flatten().find(|c| c.type_ == type_).map(|c| c.status == "True");
        let names = [
            ("MemoryPressure", "NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
            ("DiskPressure", "NodeHasDiskPressure", "NodeHasNoDiskPressure"),
            ("PIDPressure", "NodeHasInsufficientPID", "NodeHasSufficientPID"),
            ("Ready", "NodeReady", "NodeNotReady"),
        ];
        for (type_, yes, no) in names {
            let now = of(status, type_);
            if before.and_then(|before| of(before, type_)) == now || (before.is_none() && type_ == "Ready" && !ready) {
                continue;
            }
            let reason = if now == Some(true) { yes } else { no };
            let note = format!("Node {} status is now: {reason}", self.context.settings.node_name);
            self.context.node_event(EventType::Normal, reason, note);
        }
        self.ready.send_if_modified(|shown| std::mem::replace(shown, ready) != ready);
    }

    async fn register(&self, status: &NodeStatus) -> Result<(), kube::Error> {
        let api: Api<Node> = Api::all(self.context.client.clone());
        let node = self.object(status);
        match api.create(&PostParams::default(), &node).await {
            Ok(_) => tracing::info!(node = self.context.settings.node_name, "the node is registered"),
            Err(error) if has_reason(&error, "AlreadyExists") => {
                let patch = json!({"metadata": {"labels": node.metadata.labels, "annotations": node.metadata.annotations}});
                api.patch(&self.context.settings.node_name, &PatchParams::default(), &Patch::Strategic(&patch)).await?;
                tracing::info!(node = self.context.settings.node_name, "the node was registered before");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn object(&self, status: &NodeStatus) -> Node {
        let settings = &self.context.settings;
        let mut labels = BTreeMap::from(
            [
                ("kubernetes.io/hostname", settings.hostname_label()),
                ("kubernetes.io/os", "linux".to_owned()),
                ("kubernetes.io/arch", info::architecture().to_owned()),
                ("beta.kubernetes.io/os", "linux".to_owned()),
                ("beta.kubernetes.io/arch", info::architecture().to_owned()),
            ]
            .map(|(key, value)| (key.to_owned(), value)),
        );
        labels.extend(settings.node_labels.clone());
        let mut node = Node {
            spec: Some(NodeSpec {
                taints: Some(settings.register_taints.clone()).filter(|taints| !taints.is_empty()),
                provider_id: settings.provider_id.clone(),
                ..NodeSpec::default()
            }),
            status: Some(status.clone()),
            ..Node::default()
        };
        node.metadata.name = Some(settings.node_name.clone());
        node.metadata.labels = Some(labels);
        node.metadata.annotations =
            Some(BTreeMap::from([("volumes.kubernetes.io/controller-managed-attach-detach".to_owned(), "true".to_owned())]));
        node
    }
}

/// Equal but for heartbeat times.
fn same(a: &NodeStatus, b: &NodeStatus) -> bool {
    let plain = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    plain(a) == plain(b)
}
