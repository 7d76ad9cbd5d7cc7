//! The group admissionregistration.k8s.io.

mod mutating_admission_policy;
mod mutating_admission_policy_binding;
mod mutating_webhook_configuration;
mod validating_admission_policy;
mod validating_admission_policy_binding;
mod validating_webhook_configuration;
mod webhooks;

use crate::row::{Row, TypedRow};

pub(super) static ROWS: &[&dyn Row] = &[
    &TypedRow::<api::admissionregistration::v1::MutatingAdmissionPolicy>::new(),
    &TypedRow::<api::admissionregistration::v1::MutatingAdmissionPolicyBinding>::new(),
    &TypedRow::<api::admissionregistration::v1::MutatingWebhookConfiguration>::new(),
    &TypedRow::<api::admissionregistration::v1::ValidatingAdmissionPolicy>::new(),
    &TypedRow::<api::admissionregistration::v1::ValidatingAdmissionPolicyBinding>::new(),
    &TypedRow::<api::admissionregistration::v1::ValidatingWebhookConfiguration>::new(),
];
