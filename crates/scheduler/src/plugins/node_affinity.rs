//! NodeAffinity: node selectors, required and preferred node affinity.

use api::core::v1::Node;

use crate::framework::{ClusterEvent, Plugin, Points, PreFilter, Rejection, Slot, normalize};
use crate::state::{Cache, NodeInfo, PodInfo};

pub struct NodeAffinity;

const REASON: &str = "node(s) didn't match Pod's node affinity/selector";

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn points(&self) -> Points {
        Points::PRE_FILTER.and(Points::FILTER).and(Points::PRE_SCORE).and(Points::SCORE)
    }

    fn pre_filter(&self, _slot: &mut Slot, pod: &PodInfo, _cluster: &Cache) -> PreFilter {
        if !pod.affinity.is_required() {
            return PreFilter::Skip;
        }
        match pod.affinity.named_nodes() {
            Some(names) if names.is_empty() => PreFilter::Reject(Rejection::final_(REASON)),
            Some(names) => PreFilter::Only(names.into_iter().map(str::to_owned).collect()),
            None => PreFilter::Continue,
        }
    }

    fn filter(&self, _slot: &Slot, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        if pod.affinity.required_holds(&node.name, node.labels()) { Ok(()) } else { Err(Rejection::final_(REASON)) }
    }

    fn pre_score(&self, _slot: &mut Slot, pod: &PodInfo, _nodes: &[&NodeInfo]) -> bool {
        pod.affinity.is_preferred()
    }

    fn score(&self, _slot: &Slot, pod: &PodInfo, node: &NodeInfo) -> i64 {
        pod.affinity.preferred_weight(&node.name, node.labels())
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize(scores, false);
    }

    fn may_help(&self, event: &ClusterEvent<'_>, pod: &PodInfo) -> bool {
        let fits = |node: &Node| {
            let none = std::collections::BTreeMap::new();
            pod.affinity.required_holds(node.metadata.name.as_deref().unwrap_or_default(), node.metadata.labels.as_ref().unwrap_or(&none))
        };
        match event {
            ClusterEvent::NodeAdded(node) => fits(node),
            ClusterEvent::NodeUpdated { old, new } => !fits(old) && fits(new),
            ClusterEvent::PodLeft(_) | ClusterEvent::PodPlaced(_) => false,
        }
    }
}
