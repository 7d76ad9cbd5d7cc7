//! The group authorization.k8s.io.

mod local_subject_access_review;
mod self_subject_access_review;
mod self_subject_rules_review;
mod subject_access_review;

use crate::row::{Row, TypedRow};

pub(super) static ROWS: &[&dyn Row] = &[
    &TypedRow::<api::authorization::v1::LocalSubjectAccessReview>::new(),
    &TypedRow::<api::authorization::v1::SelfSubjectAccessReview>::new(),
    &TypedRow::<api::authorization::v1::SelfSubjectRulesReview>::new(),
    &TypedRow::<api::authorization::v1::SubjectAccessReview>::new(),
];
