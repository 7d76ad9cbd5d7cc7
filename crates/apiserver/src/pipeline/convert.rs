//! Between what is stored, what is sent and what arrives: versions of a kind, YAML, protobuf.

use api::StatusError;
use bytes::Bytes;
use kinds::Object;
use serde_json::Value;

use crate::cache::Entry;
use crate::table::Resource;

/// A stored object in the version of the resource.
pub fn from_stored(resource: &Resource, value: Value) -> Value {
    if resource.is_converted() { resource.row.from_stored(value) } else { value }
}

/// An object of the resource in the version that is stored. Checked: what the other version could not read must never be stored.
pub fn to_stored(resource: &Resource, value: Value) -> Result<Value, StatusError> {
    let Some(collection) = resource.collection.as_ref().filter(|_| resource.is_converted()) else { return Ok(value) };
    let stored = resource.row.to_stored(value);
    let owner = collection.row.info();
    if stored["apiVersion"] != owner.api_version() || stored["kind"] != owner.kind {
        return Err(StatusError::internal(format!("{} cannot be converted to {}", resource.api_version, owner.api_version())));
    }
    collection.row.from_value(stored.clone()).map_err(StatusError::internal)?;
    Ok(stored)
}

/// The typed object, in the resource's version, with its resourceVersion.
pub fn decode(resource: &Resource, entry: &Entry) -> Result<Box<dyn Object>, StatusError> {
    let json = super::encode::full(resource, entry)?;
    resource.row.decode(&json).map_err(StatusError::internal)
}

pub fn to_yaml(json: &[u8]) -> Result<Bytes, StatusError> {
    let value: Value = serde_json::from_slice(json).map_err(StatusError::internal)?;
    serde_saphyr::to_string(&value).map(Bytes::from).map_err(StatusError::internal)
}

pub fn from_yaml(yaml: &[u8]) -> Result<Bytes, StatusError> {
    let bad = |error: &dyn std::fmt::Display| StatusError::bad_request(format!("error converting YAML to JSON: {error}"));
    let text = std::str::from_utf8(yaml).map_err(|error| bad(&error))?;
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let value: Value = serde_saphyr::from_str_with_options(text, options).map_err(|error| bad(&error))?;
    serde_json::to_vec(&value).map(Bytes::from).map_err(StatusError::internal)
}

/// An object or list of a kind that has a protobuf form.
pub fn to_protobuf(json: &[u8]) -> Result<Bytes, StatusError> {
    kinds::proto::from_json(json).map(Bytes::from).map_err(StatusError::internal)
}

pub fn from_protobuf(bytes: &[u8]) -> Result<Bytes, StatusError> {
    let bad = |error| StatusError::bad_request(format!("the body is not Kubernetes protobuf: {error}"));
    kinds::proto::to_json(bytes).map(Bytes::from).map_err(bad)
}

/// A frame of a watch in protobuf.
pub fn watch_to_protobuf(kind: &str, object: &[u8]) -> Result<Bytes, StatusError> {
    Ok(kinds::proto::watch_frame(kind, &to_protobuf(object)?).into())
}
