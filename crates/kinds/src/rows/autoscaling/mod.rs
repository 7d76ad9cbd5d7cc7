//! The group autoscaling.

mod conversion;
mod horizontal_pod_autoscaler;
mod horizontal_pod_autoscaler_v1;

use crate::row::{Row, TypedRow};

pub(super) static ROWS: &[&dyn Row] =
    &[&TypedRow::<api::autoscaling::v2::HorizontalPodAutoscaler>::new(), &TypedRow::<api::autoscaling::v1::HorizontalPodAutoscaler>::new()];
