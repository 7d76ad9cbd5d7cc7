//! The group discovery.k8s.io.

mod endpoint_slice;

use crate::row::{Row, TypedRow};

pub(super) static ROWS: &[&dyn Row] = &[&TypedRow::<api::discovery::v1::EndpointSlice>::new()];
