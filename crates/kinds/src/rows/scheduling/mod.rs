//! The group scheduling.k8s.io.

pub mod priority_class;

use crate::row::{Row, TypedRow};

pub(super) static ROWS: &[&dyn Row] = &[&TypedRow::<api::scheduling::v1::PriorityClass>::new()];
