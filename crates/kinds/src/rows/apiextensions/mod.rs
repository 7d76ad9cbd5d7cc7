//! The group apiextensions.k8s.io.

mod custom_resource_definition;

use crate::row::{Row, TypedRow};

pub(super) static ROWS: &[&dyn Row] =
    &[&TypedRow::<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition>::new()];
