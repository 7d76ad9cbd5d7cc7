//! The group apps.

mod controller_revision;
mod daemon_set;
mod deployment;
mod replica_set;
mod stateful_set;

use crate::row::{Row, TypedRow};

pub(super) static ROWS: &[&dyn Row] = &[
    &TypedRow::<api::apps::v1::ControllerRevision>::new(),
    &TypedRow::<api::apps::v1::DaemonSet>::new(),
    &TypedRow::<api::apps::v1::Deployment>::new(),
    &TypedRow::<api::apps::v1::ReplicaSet>::new(),
    &TypedRow::<api::apps::v1::StatefulSet>::new(),
];
