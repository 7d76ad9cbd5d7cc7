//! The group authentication.k8s.io.

mod self_subject_review;
mod token_review;

use crate::row::{Row, TypedRow};

pub(super) static ROWS: &[&dyn Row] =
    &[&TypedRow::<api::authentication::v1::SelfSubjectReview>::new(), &TypedRow::<api::authentication::v1::TokenReview>::new()];
