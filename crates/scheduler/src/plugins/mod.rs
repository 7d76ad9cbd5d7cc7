//! The plugins, a file each, and the registry with upstream's default order and weights (pkg/scheduler/apis/config/v1/default_plugins.go).

mod balanced_allocation;
mod image_locality;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources_fit;
mod node_unschedulable;
mod scheduling_gates;
mod taint_toleration;

use crate::framework::Plugin;

/// A plugin with the weight of its score.
pub struct Registered {
    pub plugin: Box<dyn Plugin>,
    pub weight: i64,
}

/// The default profile.
pub fn defaults() -> Vec<Registered> {
    let with = |plugin: Box<dyn Plugin>, weight| Registered { plugin, weight };
    vec![
        with(Box::new(scheduling_gates::SchedulingGates), 0),
        with(Box::new(node_unschedulable::NodeUnschedulable), 0),
        with(Box::new(node_name::NodeName), 0),
        with(Box::new(taint_toleration::TaintToleration), 3),
        with(Box::new(node_affinity::NodeAffinity), 2),
        with(Box::new(node_ports::NodePorts), 0),
        with(Box::new(node_resources_fit::NodeResourcesFit), 1),
        with(Box::new(balanced_allocation::NodeResourcesBalancedAllocation), 1),
        with(Box::new(image_locality::ImageLocality), 1),
    ]
}

/// Points that upstream has as plugins but that the cycle does itself: they cannot be switched off, but a configuration may name them.
pub const BUILT_IN: &[&str] = &["PrioritySort", "DefaultBinder"];

#[cfg(test)]
mod tests;
