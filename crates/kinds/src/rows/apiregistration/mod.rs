//! The group apiregistration.k8s.io.

mod api_service;

use crate::row::{Row, TypedRow};

pub(super) static ROWS: &[&dyn Row] = &[&TypedRow::<k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService>::new()];
