//! kube-controller-manager: the loops that make what is there become what was asked for. Each controller is a folder with a pure plan and a thin
//! reconcile; see `frame`. Must talk to the cluster only through the API.

mod clusterroleaggregation;
mod common;
mod connect;
mod context;
mod daemonset;
mod deployment;

mod endpoints;
mod endpointslice;
mod endpointslicemirroring;
mod frame;
mod garbagecollector;
mod manager;
mod namespace;
mod nodeipam;
mod nodelifecycle;
mod options;
mod podgc;
mod replicaset;
mod rootca;
mod serviceaccount;
mod tainteviction;
mod trim;
mod written;

pub use connect::connect;
pub use context::{Clients, Context};
pub use frame::{Controller, Error, Metrics, Next, Result};
pub use manager::{ControllerManager, StartError, Stopped, launch};
pub use options::Options;
