//! The group flowcontrol.apiserver.k8s.io.

mod flow_schema;
mod priority_level_configuration;

use crate::row::{Row, TypedRow};

pub(super) static ROWS: &[&dyn Row] =
    &[&TypedRow::<api::flowcontrol::v1::FlowSchema>::new(), &TypedRow::<api::flowcontrol::v1::PriorityLevelConfiguration>::new()];
