//! NodeResourcesBalancedAllocation: prefers nodes whose cpu and memory would be used in like shares.

use crate::framework::{MAX_NODE_SCORE, Plugin, Points, Slot};
use crate::state::{NodeInfo, PodInfo};

pub struct NodeResourcesBalancedAllocation;

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn points(&self) -> Points {
        Points::PRE_SCORE.and(Points::SCORE)
    }

    /// A pod that asks for nothing changes no balance.
    fn pre_score(&self, _slot: &mut Slot, pod: &PodInfo, _nodes: &[&NodeInfo]) -> bool {
        pod.requests.milli_cpu > 0 || pod.requests.memory > 0
    }

    fn score(&self, _slot: &Slot, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let share = |total: i64, used: i64| if total == 0 { None } else { Some((used as f64 / total as f64).min(1.0)) };
        let cpu = share(node.allocatable.milli_cpu, node.requested.milli_cpu + pod.requests.milli_cpu);
        let memory = share(node.allocatable.memory, node.requested.memory + pod.requests.memory);
        // The standard deviation of two values is half their distance.
        let deviation = match (cpu, memory) {
            (Some(cpu), Some(memory)) => ((cpu - memory) / 2.0).abs(),
            _ => 0.0,
        };
        ((1.0 - deviation) * MAX_NODE_SCORE as f64) as i64
    }
}
