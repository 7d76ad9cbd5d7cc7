//! The group policy.

mod pod_disruption_budget;

use crate::row::{Row, TypedRow};

pub(super) static ROWS: &[&dyn Row] = &[&TypedRow::<api::policy::v1::PodDisruptionBudget>::new()];
