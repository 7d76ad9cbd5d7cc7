//! The table itself: every row, in the order in which discovery lists them.

mod admissionregistration;
mod apiextensions;
mod apiregistration;
mod apps;
mod authentication;
mod authorization;
mod autoscaling;
mod batch;
pub mod certificates;
mod coordination;
pub mod core;
mod discovery;
mod events;
mod flowcontrol;
mod hooks;
mod networking;
mod node;
mod policy;
mod rbac;
mod resource;
pub mod scheduling;
mod storage;

use std::sync::LazyLock;

use crate::row::Row;

/// By group, in upstream's order of groups and versions (pkg/controlplane/instance.go).
static GROUPS: &[&[&dyn Row]] = &[
    core::ROWS,
    apiregistration::ROWS,
    apps::ROWS,
    events::ROWS,
    authentication::ROWS,
    authorization::ROWS,
    autoscaling::ROWS,
    batch::ROWS,
    certificates::ROWS,
    networking::ROWS,
    policy::ROWS,
    rbac::ROWS,
    storage::ROWS,
    admissionregistration::ROWS,
    apiextensions::ROWS,
    scheduling::ROWS,
    coordination::ROWS,
    node::ROWS,
    discovery::ROWS,
    resource::ROWS,
    flowcontrol::ROWS,
];

static ROWS: LazyLock<Vec<&'static dyn Row>> = LazyLock::new(|| GROUPS.concat());

/// Every built-in row.
pub fn rows() -> &'static [&'static dyn Row] {
    &ROWS
}

/// The row of a resource: `find("apps", "v1", "deployments")`.
pub fn find(group: &str, version: &str, resource: &str) -> Option<&'static dyn Row> {
    rows().iter().copied().find(|row| {
        let info = row.info();
        info.group == group && info.version == version && info.resource == resource
    })
}

/// The row of a kind: `find_kind("apps", "v1", "Deployment")`.
pub fn find_kind(group: &str, version: &str, kind: &str) -> Option<&'static dyn Row> {
    rows().iter().copied().find(|row| {
        let info = row.info();
        info.group == group && info.version == version && info.kind == kind
    })
}

#[cfg(test)]
mod tests;
