//! From cached bytes to what the client asked for: JSON as it lies, other media types, tables, metadata only.

use api::StatusError;
use bytes::Bytes;
use kinds::Column;
use serde_json::{Value, json};

use crate::cache::Entry;
use crate::table::Resource;
use crate::transport::negotiate::{Include, Media, Shape, View};

/// The whole object as JSON in the row's own version.
pub fn full(resource: &Resource, entry: &Entry) -> Result<Bytes, StatusError> {
    if !resource.is_converted() {
        return Ok(entry.json());
    }
    let value: Value = serde_json::from_slice(&entry.json()).map_err(StatusError::internal)?;
    serde_json::to_vec(&super::convert::from_stored(resource, value)).map(Bytes::from).map_err(StatusError::internal)
}

/// One object in the asked shape and media type. `headers`: whether a Table names its columns.
pub fn object(resource: &Resource, entry: &Entry, view: View, headers: bool) -> Result<Bytes, StatusError> {
    let json = match view.shape {
        Shape::Object => full(resource, entry)?,
        Shape::Metadata => metadata_only(entry),
        Shape::Table(include) => {
            let mut out = table_head(resource, &ListMeta { revision: entry.revision, ..ListMeta::default() }, headers);
            write_row(resource, entry, include, &mut out)?;
            out.extend_from_slice(b"]}");
            out.into()
        }
    };
    media(json, view)
}

/// JSON in the asked media type.
pub fn media(json: Bytes, view: View) -> Result<Bytes, StatusError> {
    match view.media {
        Media::Json if view.pretty => {
            let value: Value = serde_json::from_slice(&json).map_err(StatusError::internal)?;
            let mut out = serde_json::to_vec_pretty(&value).map_err(StatusError::internal)?;
            out.push(b'\n');
            Ok(out.into())
        }
        Media::Json => Ok(json),
        Media::Yaml => super::convert::to_yaml(&json),
        Media::Protobuf => super::convert::to_protobuf(&json),
    }
}

pub fn metadata_only(entry: &Entry) -> Bytes {
    let mut out = Vec::with_capacity(256);
    write_metadata_only(entry, &mut out);
    out.into()
}

fn write_metadata_only(entry: &Entry, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":"#);
    entry.write_metadata(out);
    out.push(b'}');
}

/// What a list says about itself.
#[derive(Clone, Debug, Default)]
pub struct ListMeta {
    pub revision: i64,
    pub next: Option<String>,
    pub remaining: Option<i64>,
}

impl ListMeta {
    fn to_value(&self) -> Value {
        let mut meta = json!({ "resourceVersion": self.revision.to_string() });
        if let Some(next) = &self.next {
            meta["continue"] = Value::from(next.as_str());
        }
        if let Some(remaining) = self.remaining {
            meta["remainingItemCount"] = Value::from(remaining);
        }
        meta
    }
}

/// The start of a list's JSON, up to the first item.
pub fn list_head(resource: &Resource, shape: Shape, meta: &ListMeta) -> Vec<u8> {
    match shape {
        Shape::Object => {
            let kind = format!("{}List", resource.info().kind);
            format!(r#"{{"kind":{kind:?},"apiVersion":{:?},"metadata":{},"items":["#, resource.api_version, meta.to_value()).into_bytes()
        }
        Shape::Metadata => {
            format!(r#"{{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{},"items":["#, meta.to_value())
                .into_bytes()
        }
        Shape::Table(_) => table_head(resource, meta, true),
    }
}

fn table_head(resource: &Resource, meta: &ListMeta, headers: bool) -> Vec<u8> {
    let columns = if headers { Value::from_iter(resource.row.columns().iter().map(column)) } else { Value::Null };
    format!(r#"{{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{},"columnDefinitions":{columns},"rows":["#, meta.to_value())
        .into_bytes()
}

fn column(column: &Column) -> Value {
    json!({
        "name": column.name,
        "type": column.kind,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    })
}

/// One item of a list whose head `list_head` wrote.
pub fn write_item(resource: &Resource, entry: &Entry, shape: Shape, out: &mut Vec<u8>) -> Result<(), StatusError> {
    match shape {
        Shape::Object if !resource.is_converted() => entry.write_json(out),
        Shape::Object => out.extend_from_slice(&full(resource, entry)?),
        Shape::Metadata => write_metadata_only(entry, out),
        Shape::Table(include) => write_row(resource, entry, include, out)?,
    }
    Ok(())
}

fn write_row(resource: &Resource, entry: &Entry, include: Include, out: &mut Vec<u8>) -> Result<(), StatusError> {
    let json = full(resource, entry)?;
    let object = resource.row.decode(&json).map_err(StatusError::internal)?;
    let cells = resource.row.cells(object.as_ref(), base::clock::now());
    out.extend_from_slice(br#"{"cells":"#);
    serde_json::to_writer(&mut *out, &cells).map_err(StatusError::internal)?;
    match include {
        Include::None => {}
        Include::Metadata => {
            out.extend_from_slice(br#","object":"#);
            write_metadata_only(entry, out);
        }
        Include::Object => {
            out.extend_from_slice(br#","object":"#);
            out.extend_from_slice(&json);
        }
    }
    out.push(b'}');
    Ok(())
}
