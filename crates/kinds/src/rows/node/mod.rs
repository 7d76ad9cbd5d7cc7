//! The group node.k8s.io.

mod runtime_class;

use crate::row::{Row, TypedRow};

pub(super) static ROWS: &[&dyn Row] = &[&TypedRow::<api::node::v1::RuntimeClass>::new()];
