//! The group apps.

mod controller_revision;
mod daemon_set;
mod deployment;
mod replica_set;
mod stateful_set;

use api::meta::v1::LabelSelector;
use api::{FieldErrors, Path};

use crate::row::{Row, TypedRow};
use crate::validation::selectors;

pub(super) static ROWS: &[&dyn Row] = &[
    &TypedRow::<api::apps::v1::ControllerRevision>::new(),
    &TypedRow::<api::apps::v1::DaemonSet>::new(),
    &TypedRow::<api::apps::v1::Deployment>::new(),
    &TypedRow::<api::apps::v1::ReplicaSet>::new(),
    &TypedRow::<api::apps::v1::StatefulSet>::new(),
];

/// A workload's selector: well formed, and never everything. Absent and empty are the same here: upstream's message for the absent one.
fn workload_selector(errors: &mut FieldErrors, path: &Path, selector: &LabelSelector) {
    selectors::label_selector(errors, path, Some(selector));
    if selectors::is_empty(selector) {
        errors.required(path, "");
    }
}
