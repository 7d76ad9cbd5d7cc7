//! The group events.k8s.io.

mod event;

use crate::row::{Row, TypedRow};

pub(super) static ROWS: &[&dyn Row] = &[&TypedRow::<api::events::v1::Event>::new()];
