//! The group storage.k8s.io.

mod csi_driver;
mod csi_node;
mod csi_storage_capacity;
mod storage_class;
mod volume_attachment;
mod volume_attributes_class;

use api::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::row::{Row, TypedRow};

pub(super) static ROWS: &[&dyn Row] = &[
    &TypedRow::<api::storage::v1::CSIDriver>::new(),
    &TypedRow::<api::storage::v1::CSINode>::new(),
    &TypedRow::<api::storage::v1::CSIStorageCapacity>::new(),
    &TypedRow::<api::storage::v1::StorageClass>::new(),
    &TypedRow::<api::storage::v1::VolumeAttachment>::new(),
    &TypedRow::<api::storage::v1::VolumeAttributesClass>::new(),
];

/// The name of a class, marked where an annotation makes it the default.
fn class_name(meta: &ObjectMeta, annotation: &str) -> Value {
    let is_default = meta.annotations.as_ref().and_then(|all| all.get(annotation)).is_some_and(|value| value == "true");
    let name = meta.name.clone().unwrap_or_default();
    Value::String(if is_default { format!("{name} (default)") } else { name })
}
