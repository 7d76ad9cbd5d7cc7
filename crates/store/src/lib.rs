//! The versioned key-value store with etcd's semantics, behind one trait. Must not know Kubernetes kinds.

pub mod kv;

pub use kv::*;
