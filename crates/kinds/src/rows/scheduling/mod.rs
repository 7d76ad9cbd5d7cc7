//! The group scheduling.k8s.io.

mod priority_class;

use crate::row::{Row, TypedRow};

pub(super) static ROWS: &[&dyn Row] = &[&TypedRow::<api::scheduling::v1::PriorityClass>::new()];
