//! OpenAPI v2 and v3 of a set of rows, made when asked for: k8s-openapi's schemas, the facts' extensions, and paths from the table.
//! Nothing is kept: a caller that answers often keeps the bytes. kubectl reads these for explain, validation, diff and apply.

mod definitions;
mod document;
mod gnostic;
mod paths;

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::facts;
use crate::row::Row;
use definitions::Definitions;
use document::Dialect;

/// `/openapi/v2` as JSON.
pub fn v2(rows: &[&dyn Row]) -> Bytes {
    serde_json::to_vec(&v2_document(rows)).expect("a JSON value serializes").into()
}

/// `/openapi/v2` as `application/com.github.proto-openapi.spec.v2.v1.0+protobuf`, which kubectl before 1.27 asks for.
pub fn v2_protobuf(rows: &[&dyn Row]) -> Bytes {
    gnostic::encode(&v2_document(rows)).into()
}

fn v2_document(rows: &[&dyn Row]) -> Value {
    let definitions = Definitions::of(rows, Dialect::V2);
    document::v2(rows, definitions)
}

/// `/openapi/v3`: a path per group and version, with a hash that changes when the document does.
pub fn v3_index(rows: &[&dyn Row]) -> Bytes {
    let mut index = serde_json::Map::new();
    for (group, version) in group_versions(rows) {
        let path = api_path(group, version);
        let mut hash = Sha256::new();
        hash.update(env!("CARGO_PKG_VERSION"));
        for row in of_version(rows, group, version) {
            hash.update(format!("{:?}", row.info()));
            // A built-in kind's schema is this build's.
            if facts::type_of(row.info().schema).is_none() {
                hash.update(Value::Object(Definitions::of(&[row], Dialect::V3).schemas).to_string());
            }
        }
        let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02X}")).collect();
        index.insert(path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")}));
    }
    Value::Object(serde_json::Map::from_iter([("paths".to_owned(), Value::Object(index))])).to_string().into()
}

/// `/openapi/v3/apis/GROUP/VERSION` (or `/openapi/v3/api/v1`) as JSON. None: no row is of that version.
pub fn v3(rows: &[&dyn Row], group: &str, version: &str) -> Option<Bytes> {
    let rows: Vec<&dyn Row> = of_version(rows, group, version).collect();
    if rows.is_empty() {
        return None;
    }
    let definitions = Definitions::of(&rows, Dialect::V3);
    Some(serde_json::to_vec(&document::v3(&rows, definitions)).expect("a JSON value serializes").into())
}

fn of_version<'r>(rows: &'r [&'r dyn Row], group: &str, version: &str) -> impl Iterator<Item = &'r dyn Row> {
    rows.iter().copied().filter(move |row| row.info().group == group && row.info().version == version)
}

/// Each once, in the order of the rows.
fn group_versions<'r>(rows: &'r [&'r dyn Row]) -> Vec<(&'r str, &'r str)> {
    let mut found: Vec<(&str, &str)> = Vec::new();
    for row in rows {
        let version = (row.info().group, row.info().version);
        if !found.contains(&version) {
            found.push(version);
        }
    }
    found
}

/// `api/v1`, `apis/apps/v1`.
fn api_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

#[cfg(test)]
mod tests;
