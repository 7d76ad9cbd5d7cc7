//! The core group.

mod binding;
mod component_status;
mod config_map;
pub(crate) mod endpoints;
pub(crate) mod event;
mod limit_range;
pub mod namespace;
mod node;
mod persistent_volume;
pub(crate) mod persistent_volume_claim;
pub mod pod;
mod pod_template;
mod replication_controller;
mod resource_quota;
mod secret;
pub mod service;
mod service_account;

use crate::row::{Row, TypedRow};

/// The data of a ConfigMap or Secret together, in bytes.
const MAX_DATA_BYTES: usize = 1024 * 1024;

pub(super) static ROWS: &[&dyn Row] = &[
    &TypedRow::<api::core::v1::Binding>::new(),
    &TypedRow::<api::core::v1::ComponentStatus>::new(),
    &TypedRow::<api::core::v1::ConfigMap>::new(),
    &TypedRow::<api::core::v1::Endpoints>::new(),
    &TypedRow::<api::core::v1::Event>::new(),
    &TypedRow::<api::core::v1::LimitRange>::new(),
    &TypedRow::<api::core::v1::Namespace>::new(),
    &TypedRow::<api::core::v1::Node>::new(),
    &TypedRow::<api::core::v1::PersistentVolumeClaim>::new(),
    &TypedRow::<api::core::v1::PersistentVolume>::new(),
    &TypedRow::<api::core::v1::Pod>::new(),
    &TypedRow::<api::core::v1::PodTemplate>::new(),
    &TypedRow::<api::core::v1::ReplicationController>::new(),
    &TypedRow::<api::core::v1::ResourceQuota>::new(),
    &TypedRow::<api::core::v1::Secret>::new(),
    &TypedRow::<api::core::v1::ServiceAccount>::new(),
    &TypedRow::<api::core::v1::Service>::new(),
];
