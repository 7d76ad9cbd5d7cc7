//! NodeName: the pod asks for one node by name.

use crate::framework::{ClusterEvent, Plugin, Points, Rejection, Slot};
use crate::state::{NodeInfo, PodInfo};

pub struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn points(&self) -> Points {
        Points::FILTER
    }

    fn filter(&self, _slot: &Slot, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        match pod.node_name() {
            Some(wanted) if wanted != node.name => Err(Rejection::final_("node(s) didn't match the requested node name")),
            _ => Ok(()),
        }
    }

    fn may_help(&self, event: &ClusterEvent<'_>, pod: &PodInfo) -> bool {
        matches!(event, ClusterEvent::NodeAdded(node) if node.metadata.name.as_deref() == pod.node_name())
    }
}
