//! The group networking.k8s.io.

mod ingress;
mod ingress_class;
mod ip_address;
mod network_policy;
mod service_cidr;

use crate::row::{Row, TypedRow};

pub(super) static ROWS: &[&dyn Row] = &[
    &TypedRow::<api::networking::v1::IngressClass>::new(),
    &TypedRow::<api::networking::v1::Ingress>::new(),
    &TypedRow::<api::networking::v1::IPAddress>::new(),
    &TypedRow::<api::networking::v1::NetworkPolicy>::new(),
    &TypedRow::<api::networking::v1::ServiceCIDR>::new(),
];
