//! The group storage.k8s.io.

mod csi_driver;
mod csi_node;
mod csi_storage_capacity;
mod storage_class;
mod volume_attachment;
mod volume_attributes_class;

use crate::row::{Row, TypedRow};

pub(super) static ROWS: &[&dyn Row] = &[
    &TypedRow::<api::storage::v1::CSIDriver>::new(),
    &TypedRow::<api::storage::v1::CSINode>::new(),
    &TypedRow::<api::storage::v1::CSIStorageCapacity>::new(),
    &TypedRow::<api::storage::v1::StorageClass>::new(),
    &TypedRow::<api::storage::v1::VolumeAttachment>::new(),
    &TypedRow::<api::storage::v1::VolumeAttributesClass>::new(),
];
