//! The group resource.k8s.io.

mod device_class;
mod devices;
mod resource_claim;
mod resource_claim_template;
mod resource_slice;

use crate::row::{Row, TypedRow};

pub(super) static ROWS: &[&dyn Row] = &[
    &TypedRow::<api::resource::v1::DeviceClass>::new(),
    &TypedRow::<api::resource::v1::ResourceClaim>::new(),
    &TypedRow::<api::resource::v1::ResourceClaimTemplate>::new(),
    &TypedRow::<api::resource::v1::ResourceSlice>::new(),
];
