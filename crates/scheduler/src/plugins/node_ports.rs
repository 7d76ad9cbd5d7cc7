//! NodePorts: two pods cannot have the same host port on a node.

use crate::framework::{ClusterEvent, Plugin, Points, PreFilter, Rejection, Slot};
use crate::state::{Cache, NodeInfo, PodInfo};

pub struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn points(&self) -> Points {
        Points::PRE_FILTER.and(Points::FILTER)
    }

    fn pre_filter(&self, _slot: &mut Slot, pod: &PodInfo, _cluster: &Cache) -> PreFilter {
        if pod.ports.is_empty() { PreFilter::Skip } else { PreFilter::Continue }
    }

    fn filter(&self, _slot: &Slot, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let taken = pod.ports.iter().any(|wanted| node.ports.iter().any(|used| used.conflicts(wanted)));
        if taken { Err(Rejection::resolvable("node(s) didn't have free ports for the requested pod ports")) } else { Ok(()) }
    }

    fn may_help(&self, event: &ClusterEvent<'_>, pod: &PodInfo) -> bool {
        match event {
            ClusterEvent::NodeAdded(_) => true,
            ClusterEvent::PodLeft(gone) => gone.ports.iter().any(|freed| pod.ports.iter().any(|wanted| wanted.conflicts(freed))),
            ClusterEvent::NodeUpdated { .. } | ClusterEvent::PodPlaced(_) => false,
        }
    }
}
