//! A pod as the scheduler sees it: what plugins need, computed once.

use std::sync::Arc;

use api::core::v1::{Pod, Toleration};
use client::ObjectKey;

use super::affinity::NodeAffinity;
use super::resources::{self, Resources};

/// A host port that the pod wants on its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Empty or `0.0.0.0`: every address.
    pub address: String,
    pub protocol: String,
    pub port: i32,
}

impl HostPort {
    /// Two pods with these ports cannot share a node (pkg/scheduler/framework/types.go, HostPortInfo).
    pub fn conflicts(&self, other: &Self) -> bool {
        let wild = |address: &str| address.is_empty() || address == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address == other.address || wild(&self.address) || wild(&other.address))
    }
}

#[derive(Clone, Debug)]
pub struct PodInfo {
    pub pod: Arc<Pod>,
    pub key: ObjectKey,
    pub uid: String,
    pub priority: i32,
    pub requests: Resources,
    /// With default amounts for containers that ask for nothing: only for scores.
    pub scored_requests: Resources,
    pub ports: Vec<HostPort>,
    pub affinity: NodeAffinity,
    pub tolerations: Vec<Toleration>,
    pub images: Vec<String>,
}

impl PodInfo {
    pub fn new(pod: Arc<Pod>) -> Self {
        let key = client::key_of(pod.as_ref());
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let Some(spec) = pod.spec.as_ref() else {
            return Self {
                key,
                uid,
                priority: 0,
                requests: Resources::default(),
                scored_requests: Resources::default(),
                ports: Vec::new(),
                affinity: NodeAffinity::default(),
                tolerations: Vec::new(),
                images: Vec::new(),
                pod,
            };
        };
        let containers =
            || spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always")).chain(&spec.containers);
        let ports = containers()
            .flat_map(|c| c.ports.iter().flatten())
            .filter_map(|p| {
                let port = p.host_port.filter(|port| *port > 0)?;
                let protocol = p.protocol.clone().unwrap_or_else(|| "TCP".into());
                Some(HostPort { address: p.host_ip.clone().unwrap_or_default(), protocol, port })
            })
            .collect();
        Self {
            priority: spec.priority.unwrap_or(0),
            requests: resources::of_pod(spec),
            scored_requests: resources::of_pod_for_scoring(spec),
            ports,
            affinity: NodeAffinity::new(spec),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
            images: spec.init_containers.iter().flatten().chain(&spec.containers).filter_map(|c| c.image.clone()).collect(),
            key,
            uid,
            pod,
        }
    }

    pub fn node_name(&self) -> Option<&str> {
        node_name(&self.pod)
    }
}

/// The node the pod is bound to.
pub fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

/// Succeeded or Failed: it takes nothing any more.
pub fn is_over(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).is_some_and(|phase| phase == "Succeeded" || phase == "Failed")
}
