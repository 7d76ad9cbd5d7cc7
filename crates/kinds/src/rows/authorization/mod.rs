//! The group authorization.k8s.io.

mod local_subject_access_review;
mod self_subject_access_review;
mod self_subject_rules_review;
mod subject_access_review;

use api::{FieldErrors, Path};

use crate::row::{Row, TypedRow};

pub(super) static ROWS: &[&dyn Row] = &[
    &TypedRow::<api::authorization::v1::LocalSubjectAccessReview>::new(),
    &TypedRow::<api::authorization::v1::SelfSubjectAccessReview>::new(),
    &TypedRow::<api::authorization::v1::SelfSubjectRulesReview>::new(),
    &TypedRow::<api::authorization::v1::SubjectAccessReview>::new(),
];

/// A review asks about a resource or about a path, not both.
fn attributes(errors: &mut FieldErrors, resource: bool, path: bool) {
    let at = Path::new("spec").child("resourceAttributes");
    if resource && path {
        let detail = "cannot be specified in combination with resourceAttributes";
        errors.invalid(&Path::new("spec").child("nonResourceAttributes"), "", detail);
    } else if !resource && !path {
        let value = serde_json::Value::Null;
        errors.invalid(&at, &value, "exactly one of nonResourceAttributes or resourceAttributes must be specified");
    }
}
