//! The group rbac.authorization.k8s.io.

mod cluster_role;
mod cluster_role_binding;
mod role;
mod role_binding;
mod rules;

use crate::row::{Row, TypedRow};

pub(super) static ROWS: &[&dyn Row] = &[
    &TypedRow::<api::rbac::v1::ClusterRoleBinding>::new(),
    &TypedRow::<api::rbac::v1::ClusterRole>::new(),
    &TypedRow::<api::rbac::v1::RoleBinding>::new(),
    &TypedRow::<api::rbac::v1::Role>::new(),
];
