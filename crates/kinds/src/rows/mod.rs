//! The table itself: every row, in the order in which discovery lists them.

mod core;

use crate::row::{Row, TypedRow};

static ROWS: &[&dyn Row] = &[&TypedRow::<api::core::v1::ConfigMap>::new()];

/// Every built-in row.
pub fn rows() -> &'static [&'static dyn Row] {
    ROWS
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
