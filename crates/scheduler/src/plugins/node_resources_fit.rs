//! NodeResourcesFit: what a pod asks for must be free; nodes with more left score higher (LeastAllocated, cpu and memory alike).

use std::borrow::Cow;

use api::core::v1::Node;

use crate::framework::{ClusterEvent, MAX_NODE_SCORE, Plugin, Points, Rejection, Slot};
use crate::state::{NodeInfo, PodInfo, Resources};

pub struct NodeResourcesFit;

fn allocatable(node: &Node) -> Resources {
    node.status.as_ref().and_then(|status| status.allocatable.as_ref()).map(Resources::from_map).unwrap_or_default()
}

/// Every resource that is short, by name.
fn short<'a>(pod: &'a PodInfo, node: &'a NodeInfo) -> impl Iterator<Item = (Cow<'static, str>, bool)> + 'a {
    let lacks = |wanted: i64, total: i64, used: i64| wanted > 0 && wanted > total - used;
    let (want, have, used) = (&pod.requests, &node.allocatable, &node.requested);
    let plain = [
        ("Insufficient cpu", want.milli_cpu, have.milli_cpu, used.milli_cpu),
        ("Insufficient memory", want.memory, have.memory, used.memory),
        ("Insufficient ephemeral-storage", want.ephemeral_storage, have.ephemeral_storage, used.ephemeral_storage),
    ];
    let plain = plain.into_iter().filter(move |(_, w, h, u)| lacks(*w, *h, *u)).map(|(reason, w, h, _)| (Cow::Borrowed(reason), w <= h));
    let extended = want.extended.iter().filter_map(move |(name, wanted)| {
        let total = have.get(name);
        lacks(*wanted, total, used.get(name)).then(|| (Cow::Owned(format!("Insufficient {name}")), *wanted <= total))
    });
    plain.chain(extended)
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn points(&self) -> Points {
        Points::FILTER.and(Points::SCORE)
    }

    fn filter(&self, _slot: &Slot, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let mut rejection = Rejection { reasons: Vec::new(), resolvable: true };
        if node.pods.len() as i64 + 1 > node.allowed_pods {
            rejection.reasons.push("Too many pods".into());
        }
        for (reason, resolvable) in short(pod, node) {
            rejection.reasons.push(reason);
            rejection.resolvable &= resolvable;
        }
        if rejection.reasons.is_empty() { Ok(()) } else { Err(rejection) }
    }

    fn score(&self, _slot: &Slot, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let left = |total: i64, used: i64| if total == 0 || used > total { 0 } else { (total - used) * MAX_NODE_SCORE / total };
        let cpu = left(node.allocatable.milli_cpu, node.scored_requested.milli_cpu + pod.scored_requests.milli_cpu);
        let memory = left(node.allocatable.memory, node.scored_requested.memory + pod.scored_requests.memory);
        (cpu + memory) / 2
    }

    fn may_help(&self, event: &ClusterEvent<'_>, _pod: &PodInfo) -> bool {
        match event {
            ClusterEvent::NodeAdded(_) | ClusterEvent::PodLeft(_) => true,
            ClusterEvent::NodeUpdated { old, new } => allocatable(old) != allocatable(new),
            ClusterEvent::PodPlaced(_) => false,
        }
    }
}
