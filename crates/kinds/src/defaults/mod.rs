//! Defaults that several kinds share (pkg/apis/core/v1/defaults.go). Idempotent; must never overwrite what is set.

mod containers;
pub mod pod_spec;
mod volumes;

use std::collections::BTreeMap;

use api::core::v1::PodTemplateSpec;
use api::{Quantity, quantity};

/// Sets an absent field.
pub fn set<T>(field: &mut Option<T>, value: T) {
    if field.is_none() {
        *field = Some(value);
    }
}

/// Sets an absent or empty text.
pub fn set_text(field: &mut Option<String>, value: &str) {
    if field.as_deref().unwrap_or_default().is_empty() {
        *field = Some(value.to_owned());
    }
}

/// Amounts in canonical form, rounded up to thousandths.
pub fn resource_list(list: &mut Option<BTreeMap<String, Quantity>>) {
    for amount in list.iter_mut().flatten().map(|(_, amount)| amount) {
        if let Ok(parsed) = quantity::parse(&amount.0) {
            *amount = parsed.round_up_milli().to_quantity();
        }
    }
}

/// The template of a workload.
pub fn pod_template(template: &mut PodTemplateSpec) {
    template.metadata.get_or_insert_default();
    pod_spec::pod_spec(template.spec.get_or_insert_default());
}
