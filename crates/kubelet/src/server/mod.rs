//! The kubelet's HTTP server.

pub mod logs;
