//! NodeUnschedulable: cordoned nodes take only pods that tolerate it.

use api::core::v1::Taint;

use super::taint_toleration::tolerates;
use crate::framework::{ClusterEvent, Plugin, Points, Rejection, Slot};
use crate::state::{NodeInfo, PodInfo};

pub struct NodeUnschedulable;

fn tolerated(pod: &PodInfo) -> bool {
    let taint = Taint { key: "node.kubernetes.io/unschedulable".into(), effect: "NoSchedule".into(), ..Taint::default() };
    pod.tolerations.iter().any(|toleration| tolerates(toleration, &taint))
}

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn points(&self) -> Points {
        Points::FILTER
    }

    fn filter(&self, _slot: &Slot, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        if node.is_unschedulable() && !tolerated(pod) { Err(Rejection::final_("node(s) were unschedulable")) } else { Ok(()) }
    }

    fn may_help(&self, event: &ClusterEvent<'_>, _pod: &PodInfo) -> bool {
        let cordoned = |node: &api::core::v1::Node| node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
        match event {
            ClusterEvent::NodeAdded(node) => !cordoned(node),
            ClusterEvent::NodeUpdated { old, new } => cordoned(old) && !cordoned(new),
            ClusterEvent::PodLeft(_) | ClusterEvent::PodPlaced(_) => false,
        }
    }
}
