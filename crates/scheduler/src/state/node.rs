//! A node with what its pods take of it.

use std::collections::HashMap;
use std::sync::Arc;

use api::core::v1::{Node, Taint};

use super::pod::{HostPort, PodInfo};
use super::resources::Resources;

#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// `None` while pods are known whose node is not (yet).
    pub node: Option<Arc<Node>>,
    pub name: String,
    pub allocatable: Resources,
    pub allowed_pods: i64,
    pub requested: Resources,
    pub scored_requested: Resources,
    pub ports: Vec<HostPort>,
    pub pods: Vec<Arc<PodInfo>>,
    /// Image name to size in bytes.
    pub images: HashMap<String, i64>,
}

impl NodeInfo {
    pub fn new(name: &str) -> Self {
        Self {
            node: None,
            name: name.to_owned(),
            allocatable: Resources::default(),
            allowed_pods: 0,
            requested: Resources::default(),
            scored_requested: Resources::default(),
            ports: Vec::new(),
            pods: Vec::new(),
            images: HashMap::new(),
        }
    }

    pub fn set_node(&mut self, node: Arc<Node>) {
        let status = node.status.as_ref();
        let allocatable = status.and_then(|s| s.allocatable.as_ref());
        self.allocatable = allocatable.map(Resources::from_map).unwrap_or_default();
        self.allowed_pods =
            allocatable.and_then(|a| a.get("pods")).and_then(|q| api::quantity::parse(&q.0).ok()).map_or(0, |amount| amount.value());
        self.images = status
            .and_then(|s| s.images.as_ref())
            .into_iter()
            .flatten()
            .flat_map(|image| image.names.iter().flatten().map(move |name| (name.clone(), image.size_bytes.unwrap_or(0))))
            .collect();
        self.node = Some(node);
    }

    pub fn add_pod(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests);
        self.scored_requested.add(&pod.scored_requests);
        self.ports.extend(pod.ports.iter().cloned());
        self.pods.push(pod);
    }

    /// False when the pod was not here.
    pub fn remove_pod(&mut self, uid: &str) -> bool {
        let Some(at) = self.pods.iter().position(|pod| pod.uid == uid) else { return false };
        let pod = self.pods.swap_remove(at);
        self.requested.subtract(&pod.requests);
        self.scored_requested.subtract(&pod.scored_requests);
        for port in &pod.ports {
            if let Some(at) = self.ports.iter().position(|known| known == port) {
                self.ports.swap_remove(at);
            }
        }
        true
    }

    pub fn labels(&self) -> &std::collections::BTreeMap<String, String> {
        static NONE: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
        self.node.as_ref().and_then(|node| node.metadata.labels.as_ref()).unwrap_or(&NONE)
    }

    pub fn taints(&self) -> &[Taint] {
        self.node.as_ref().and_then(|node| node.spec.as_ref()).and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
    }

    pub fn is_unschedulable(&self) -> bool {
        self.node.as_ref().and_then(|node| node.spec.as_ref()).and_then(|spec| spec.unschedulable).unwrap_or(false)
    }
}
