//! Kubernetes types as every crate names them, with the small pure rules on them: quantities, selectors, field errors, Status.
//! Must not do I/O nor know a clock.

pub mod field;
pub mod names;
pub mod quantity;
pub mod quota;
pub mod selector;
pub mod status;

pub use field::{FieldError, FieldErrors, Path};
pub use status::{Reason, StatusError};

/// Types by group and version: `api::core::v1::Pod`, `api::apps::v1::Deployment`, `api::meta::v1::ObjectMeta`.
pub use k8s_openapi::api::*;
pub use k8s_openapi::apimachinery::pkg::apis::meta;
pub use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
pub use k8s_openapi::{ByteString, apimachinery::pkg::api::resource::Quantity};
