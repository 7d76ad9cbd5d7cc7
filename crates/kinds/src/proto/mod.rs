//! Kubernetes' protobuf form of objects.

pub mod wire;
