//! Clusters for tests and benches: the real binary, containerd and kubectl in network and mount namespaces of their own, gone afterwards.

pub mod cluster;
pub mod host;
pub mod wait;

pub use cluster::Cluster;
pub use host::TestHost;
