//! The group coordination.k8s.io.

mod lease;

use crate::row::{Row, TypedRow};

pub(super) static ROWS: &[&dyn Row] = &[&TypedRow::<api::coordination::v1::Lease>::new()];
