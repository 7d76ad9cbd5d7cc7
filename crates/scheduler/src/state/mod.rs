//! The cluster as plugins see it: nodes with what their pods take, pods with what they ask for, the queue of pods to place. No I/O.

pub mod affinity;
pub mod cache;
pub mod node;
pub mod pod;
pub mod queue;
pub mod resources;

pub use cache::Cache;
pub use node::NodeInfo;
pub use pod::PodInfo;
pub use queue::Queue;
pub use resources::Resources;
