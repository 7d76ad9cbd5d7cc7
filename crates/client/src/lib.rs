//! A Kubernetes client
