//! The pod network: the CNI plugin that gives a pod its interface and address, the agent that joins the nodes' pod networks.
//!
//! Pods hang on the bridge `oxi0` with a /32 (or /128) address of their own and reach everything, their neighbours too, through the
//! bridge's address. So every packet is routed and passes the node's packet filter: Services work between pods of one node
//! without br_netfilter, a module that many machines lack.
//!
//! Must never allocate outside the node's pod CIDRs, nor touch interfaces and tables that it did not make.

pub mod agent;
pub mod bridge;
pub mod cni;
pub mod plan;

pub use agent::{Agent, Options, cleanup};

/// The bridge that pods are attached to.
pub const BRIDGE: &str = "oxi0";
/// The overlay's interface.
pub const OVERLAY: &str = "oxi.vx";
/// Where allocations are recorded.
pub const DATA_DIR: &str = "/var/lib/cni/oxikube";
/// The name of the network in CNI's sense.
pub const NETWORK: &str = "oxikube";
