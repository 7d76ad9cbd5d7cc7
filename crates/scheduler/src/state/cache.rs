//! The nodes and the pods on them, kept up to date by events and by assumed placements that no event has confirmed yet.

use std::collections::HashMap;
use std::sync::Arc;

use api::core::v1::{Node, Pod};

use super::node::NodeInfo;
use super::pod::{self, PodInfo};

/// Flat and indexed by name; a pod is found by its uid.
#[derive(Default)]
pub struct Cache {
    nodes: Vec<NodeInfo>,
    by_name: HashMap<String, usize>,
    /// Pod uid to the name of the node it counts on.
    placed: HashMap<String, String>,
}

impl Cache {
    pub fn nodes(&self) -> &[NodeInfo] {
        &self.nodes
    }

    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.by_name.get(name).map(|at| &self.nodes[*at])
    }

    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Whether the pod counts on a node, assumed or seen.
    pub fn is_placed(&self, uid: &str) -> bool {
        self.placed.contains_key(uid)
    }

    fn entry(&mut self, name: &str) -> &mut NodeInfo {
        let at = match self.by_name.get(name) {
            Some(at) => *at,
            None => {
                self.nodes.push(NodeInfo::new(name));
                self.by_name.insert(name.to_owned(), self.nodes.len() - 1);
                self.nodes.len() - 1
            }
        };
        &mut self.nodes[at]
    }

    pub fn set_node(&mut self, node: &Arc<Node>) {
        let name = node.metadata.name.clone().unwrap_or_default();
        self.entry(&name).set_node(node.clone());
    }

    /// The node is gone; it stays as an empty place while pods count on it.
    pub fn remove_node(&mut self, name: &str) {
        let Some(at) = self.by_name.get(name).copied() else { return };
        self.nodes[at].node = None;
        self.drop_if_empty(at);
    }

    fn drop_if_empty(&mut self, at: usize) {
        if self.nodes[at].node.is_some() || !self.nodes[at].pods.is_empty() {
            return;
        }
        let gone = self.nodes.swap_remove(at);
        self.by_name.remove(&gone.name);
        if let Some(moved) = self.nodes.get(at) {
            self.by_name.insert(moved.name.clone(), at);
        }
    }

    /// Counts the pod on the node that was chosen, before the binding is written.
    pub fn assume(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.remove_pod(&pod.uid);
        self.placed.insert(pod.uid.clone(), node.to_owned());
        self.entry(node).add_pod(pod);
    }

    /// What an event says of a pod that is bound. A pod that is over takes nothing.
    pub fn set_pod(&mut self, pod: &Arc<Pod>) {
        let Some(node) = pod::node_name(pod) else { return };
        if pod::is_over(pod) {
            self.remove_pod(pod.metadata.uid.as_deref().unwrap_or_default());
            return;
        }
        self.assume(Arc::new(PodInfo::new(pod.clone())), node);
    }

    /// Forgets the pod; the name of the node it was on.
    pub fn remove_pod(&mut self, uid: &str) -> Option<String> {
        let node = self.placed.remove(uid)?;
        if let Some(at) = self.by_name.get(&node).copied() {
            self.nodes[at].remove_pod(uid);
            self.drop_if_empty(at);
        }
        Some(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(uid: &str, node: &str, phase: &str) -> Arc<Pod> {
        let value = json!({ "metadata": { "name": uid, "namespace": "d", "uid": uid }, "status": { "phase": phase },
            "spec": { "nodeName": node, "containers": [{ "name": "c", "resources": { "requests": { "cpu": "1" } } }] } });
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn node(name: &str) -> Arc<Node> {
        Arc::new(
            serde_json::from_value(json!({ "metadata": { "name": name }, "status": { "allocatable": { "cpu": "4", "pods": "10" } } }))
                .unwrap(),
        )
    }

    #[test]
    fn pods_count_once_and_are_given_back() {
        let mut cache = Cache::default();
        cache.set_node(&node("a"));
        cache.assume(Arc::new(PodInfo::new(pod("1", "", "Pending"))), "a");
        assert_eq!(cache.node("a").unwrap().requested.milli_cpu, 1000);
        cache.set_pod(&pod("1", "a", "Running"));
        assert_eq!(cache.node("a").unwrap().requested.milli_cpu, 1000, "the event confirms the assumed pod");
        cache.set_pod(&pod("1", "a", "Succeeded"));
        assert_eq!(cache.node("a").unwrap().requested.milli_cpu, 0);
    }

    #[test]
    fn a_pod_before_its_node_and_a_node_before_its_pods_go() {
        let mut cache = Cache::default();
        cache.set_pod(&pod("1", "late", "Running"));
        cache.set_node(&node("late"));
        cache.set_node(&node("b"));
        assert_eq!(cache.node("late").unwrap().requested.milli_cpu, 1000);
        cache.remove_node("late");
        assert!(cache.node("late").unwrap().node.is_none(), "its pod still counts");
        cache.remove_pod("1");
        assert!(cache.node("late").is_none());
        assert_eq!(cache.node("b").unwrap().name, "b", "the index follows the move");
    }
}
