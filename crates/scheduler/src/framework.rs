//! The extension points of the scheduling framework (KEP-624) as one trait, and what plugins answer. Plugins decide; they never do I/O in a
//! scheduling cycle and see the cluster only through what they are handed.

use std::any::Any;
use std::borrow::Cow;

use api::core::v1::Node;

use crate::state::{Cache, NodeInfo, PodInfo};

/// The best score a plugin can give a node.
pub const MAX_NODE_SCORE: i64 = 100;

/// What a plugin keeps for itself between the extension points of one cycle.
#[derive(Default)]
pub struct Slot(Option<Box<dyn Any + Send + Sync>>);

impl Slot {
    pub fn set<T: Any + Send + Sync>(&mut self, value: T) {
        self.0 = Some(Box::new(value));
    }

    pub fn get<T: Any>(&self) -> Option<&T> {
        self.0.as_ref()?.downcast_ref()
    }
}

/// Why a node (or every node) does not take a pod. Reasons are what people read in the FailedScheduling event, so they are upstream's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reasons: Vec<Cow<'static, str>>,
    /// Removing pods from the node might help (upstream's Unschedulable, as against UnschedulableAndUnresolvable).
    pub resolvable: bool,
}

impl Rejection {
    pub fn resolvable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reasons: vec![reason.into()], resolvable: true }
    }

    pub fn final_(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reasons: vec![reason.into()], resolvable: false }
    }
}

/// The answer of PreFilter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PreFilter {
    /// The plugin's Filter is to be asked for every node.
    Continue,
    /// The plugin has nothing to say on this pod: its Filter is left out.
    Skip,
    /// Only these nodes can do.
    Only(Vec<String>),
    /// No node can do.
    Reject(Rejection),
}

/// Which extension points a plugin has; those it has not are never called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Points(u16);

impl Points {
    pub const PRE_ENQUEUE: Self = Self(1);
    pub const PRE_FILTER: Self = Self(2);
    pub const FILTER: Self = Self(4);
    pub const POST_FILTER: Self = Self(8);
    pub const PRE_SCORE: Self = Self(16);
    pub const SCORE: Self = Self(32);
    pub const RESERVE: Self = Self(64);
    pub const PERMIT: Self = Self(128);
    pub const PRE_BIND: Self = Self(256);
    pub const POST_BIND: Self = Self(512);

    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Something that may make a pod schedulable that was not.
pub enum ClusterEvent<'a> {
    NodeAdded(&'a Node),
    NodeUpdated {
        old: &'a Node,
        new: &'a Node,
    },
    /// A pod left its node, or takes less of it.
    PodLeft(&'a PodInfo),
    /// A pod came to a node (what affinity waits for).
    PodPlaced(&'a PodInfo),
}

/// A plugin. Only the points that `points` names are called.
pub trait Plugin: Send + Sync {
    fn name(&self) -> &'static str;

    fn points(&self) -> Points;

    /// Before a pod enters the active queue; an error keeps it out until it changes.
    fn pre_enqueue(&self, _pod: &PodInfo) -> Result<(), Rejection> {
        Ok(())
    }

    fn pre_filter(&self, _slot: &mut Slot, _pod: &PodInfo, _cluster: &Cache) -> PreFilter {
        PreFilter::Continue
    }

    fn filter(&self, _slot: &Slot, _pod: &PodInfo, _node: &NodeInfo) -> Result<(), Rejection> {
        Ok(())
    }

    /// No node passed. The name of a node to nominate where the plugin made (or can make) room.
    fn post_filter(&self, _pod: &PodInfo, _cluster: &Cache) -> Option<String> {
        None
    }

    /// False: the plugin's Score is left out for this pod.
    fn pre_score(&self, _slot: &mut Slot, _pod: &PodInfo, _nodes: &[&NodeInfo]) -> bool {
        true
    }

    /// Any number; `normalize` brings the numbers of all nodes to 0 to `MAX_NODE_SCORE`.
    fn score(&self, _slot: &Slot, _pod: &PodInfo, _node: &NodeInfo) -> i64 {
        0
    }

    fn normalize(&self, _scores: &mut [i64]) {}

    /// The pod is about to go to the node: claim what only the plugin counts. An error frees everything again.
    fn reserve(&self, _pod: &PodInfo, _node: &NodeInfo) -> Result<(), Rejection> {
        Ok(())
    }

    /// The claim of `reserve` is void. Called for every plugin, those included whose `reserve` was not.
    fn unreserve(&self, _pod: &PodInfo, _node: &str) {}

    /// Whether the pod may be bound now. (A plugin that wants to wait is not there yet.)
    fn permit(&self, _pod: &PodInfo, _node: &str) -> Result<(), Rejection> {
        Ok(())
    }

    /// Whether the event may help a pod that this plugin rejected (a queueing hint). When in doubt, true.
    fn may_help(&self, _event: &ClusterEvent<'_>, _pod: &PodInfo) -> bool {
        true
    }
}

/// Stretches scores so that the best is `MAX_NODE_SCORE`; `reverse`: the lowest is best (plugins/helper/normalize_score.go).
pub fn normalize(scores: &mut [i64], reverse: bool) {
    let max = scores.iter().copied().max().unwrap_or(0);
    if max == 0 {
        if reverse {
            scores.fill(MAX_NODE_SCORE);
        }
        return;
    }
    for score in scores {
        *score = MAX_NODE_SCORE * *score / max;
        if reverse {
            *score = MAX_NODE_SCORE - *score;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(scores: &[i64], reverse: bool, wanted: &[i64]) {
        let mut scores = scores.to_vec();
        normalize(&mut scores, reverse);
        assert_eq!(scores, wanted);
    }

    #[test]
    fn normalized() {
        check(&[1, 2, 4], false, &[25, 50, 100]);
        check(&[1, 2, 4], true, &[75, 50, 0]);
        check(&[0, 0], false, &[0, 0]);
        check(&[0, 0], true, &[100, 100]);
    }
}
