//! The kubelet: runs the pods that the API binds to this node, over CRI, and reports the node and its pods.
//!
//! A worker per pod compares what is wanted with what the runtime holds and acts on the difference (`pod::plan`, `pod::status` are pure). Nothing is remembered
//! on disk but what the runtime and the volumes themselves are: after a crash containers are found by their labels and adopted. Must not talk to another
//! component but through the API.

pub mod admission;
pub mod cgroups;
pub mod context;
pub mod eviction;
pub mod gc;
pub mod kubelet;
pub mod node;
pub mod objects;
pub mod options;
pub mod paths;
pub mod pod;
pub mod pods;
pub mod probes;
pub mod runtime;
pub mod server;
pub mod source;
pub mod status_manager;
pub mod volumes;

pub use kubelet::{Kubelet, KubeletError};
pub use options::{ConfigError, Options, Settings};
