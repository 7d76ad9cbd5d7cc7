//! The group certificates.k8s.io.

pub mod certificate_signing_request;

use crate::row::{Row, TypedRow};

pub(super) static ROWS: &[&dyn Row] = &[&TypedRow::<api::certificates::v1::CertificateSigningRequest>::new()];
