//! Kubernetes' protobuf form of objects: JSON in, `k8s\0` bytes out, and back, driven by the facts
//! (apimachinery/pkg/runtime/serializer/protobuf). Untrusted bytes give errors, never panics.

mod decode;
mod encode;
pub mod wire;

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::facts::{self, TypeFacts};
use wire::{Fields, Malformed, Wire, Writer};

/// What a body starts with, before a `runtime.Unknown`.
pub const PREFIX: &[u8; 4] = b"k8s\0";

/// Deeper messages are refused; no type but a CustomResourceDefinition's schema nests without end.
const MAX_DEPTH: usize = 128;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtoError {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoPrefix,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The kind is none of the built-in ones: it has no protobuf form.
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind { api_version: String, kind: String },
    #[error("{0}")]
    Json(String),
    #[error("{field}: {expected} expected")]
    Mismatch { field: &'static str, expected: &'static str },
    #[error("the object nests too deeply")]
    TooDeep,
}

/// The message of an object.
#[derive(Clone, Copy)]
enum Message {
    Object(&'static TypeFacts),
    /// Of these items.
    List(&'static TypeFacts),
    /// PartialObjectMetadata: nothing but metadata, of any kind.
    Metadata,
    MetadataList,
}

/// Whether objects of a kind have a protobuf form (those of CustomResourceDefinitions do not).
pub fn is_known(api_version: &str, kind: &str) -> bool {
    message_of(api_version, kind).is_some()
}

/// The JSON of a body in protobuf, with apiVersion and kind.
pub fn to_json(bytes: &[u8]) -> Result<Vec<u8>, ProtoError> {
    let value = to_value(bytes)?;
    serde_json::to_vec(&value).map_err(|e| ProtoError::Json(e.to_string()))
}

/// As `to_json`, as a tree.
pub fn to_value(bytes: &[u8]) -> Result<Value, ProtoError> {
    to_value_at(bytes, 0)
}

fn to_value_at(bytes: &[u8], depth: usize) -> Result<Value, ProtoError> {
    if depth > MAX_DEPTH {
        return Err(ProtoError::TooDeep);
    }
    let envelope = Envelope::open(bytes)?;
    envelope.value_at(envelope.api_version, depth)
}

/// A body in protobuf as far as it can be known before its message is.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    raw: &'a [u8],
    content_type: &'a str,
}

impl<'a> Envelope<'a> {
    pub fn open(bytes: &'a [u8]) -> Result<Self, ProtoError> {
        let unknown = bytes.strip_prefix(PREFIX).ok_or(ProtoError::NoPrefix)?;
        let mut envelope = Self { api_version: "", kind: "", raw: &[], content_type: "" };
        for field in Fields(unknown) {
            match field? {
                (1, type_meta) => {
                    for field in Fields(type_meta.bytes()?) {
                        match field? {
                            (1, text) => envelope.api_version = text.text()?,
                            (2, text) => envelope.kind = text.text()?,
                            _ => {}
                        }
                    }
                }
                (2, Wire::Bytes(bytes)) => envelope.raw = bytes,
                (4, text) => envelope.content_type = text.text()?,
                _ => {}
            }
        }
        Ok(envelope)
    }

    /// The object as one of this version, which must have the same fields.
    pub fn value(&self, api_version: &str) -> Result<Value, ProtoError> {
        self.value_at(api_version, 0)
    }

    fn value_at(&self, api_version: &str, depth: usize) -> Result<Value, ProtoError> {
        if self.content_type == "application/json" {
            return serde_json::from_slice(self.raw).map_err(|e| ProtoError::Json(e.to_string()));
        }
        let message = message_of(api_version, self.kind)
            .ok_or_else(|| ProtoError::UnknownKind { api_version: api_version.to_owned(), kind: self.kind.to_owned() })?;
        let mut object = match message {
            Message::Object(facts) => decode::object(facts, self.raw, depth)?,
            Message::List(item) => decode::list(self.raw, depth, |bytes| decode::object(item, bytes, depth))?,
            Message::Metadata => decode::metadata(self.raw, depth)?,
            Message::MetadataList => decode::list(self.raw, depth, |bytes| decode::metadata(bytes, depth))?,
        };
        object.insert("apiVersion".into(), api_version.into());
        object.insert("kind".into(), self.kind.into());
        Ok(Value::Object(object))
    }
}

/// A body in JSON as far as it must be known before its message is.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(rename = "apiVersion", default, borrow)]
    api_version: Cow<'a, str>,
    #[serde(default, borrow)]
    kind: Cow<'a, str>,
    #[serde(default)]
    metadata: Value,
    /// One after the other: a list of all pods as one tree would take six times its bytes.
    #[serde(default, borrow)]
    items: Option<Vec<&'a RawValue>>,
}

/// The protobuf form of an object or list in JSON.
pub fn from_json(json: &[u8]) -> Result<Vec<u8>, ProtoError> {
    let body: Body<'_> = parse(json)?;
    let message = message_of(&body.api_version, &body.kind)
        .ok_or_else(|| ProtoError::UnknownKind { api_version: body.api_version.to_string(), kind: body.kind.to_string() })?;
    let mut writer = Writer(Vec::with_capacity(json.len()));
    writer.0.extend_from_slice(PREFIX);
    writer.message::<ProtoError>(1, |type_meta| {
        type_meta.text(1, &body.api_version);
        type_meta.text(2, &body.kind);
        Ok(())
    })?;
    writer.message(2, |raw| match message {
        Message::Object(facts) => encode::object(facts, &parse(json)?, raw, 0),
        Message::Metadata => encode::metadata(&body.metadata, raw),
        Message::List(item) => encode::list(&body, raw, |value, writer| encode::object(item, &parse(value)?, writer, 0)),
        Message::MetadataList => encode::list(&body, raw, |value, writer| encode::metadata(&parse::<Body<'_>>(value)?.metadata, writer)),
    })?;
    writer.text(3, "");
    writer.text(4, "");
    Ok(writer.0)
}

/// As `from_json`, from a tree.
pub fn from_value(value: &Value) -> Result<Vec<u8>, ProtoError> {
    from_json(&serde_json::to_vec(value).map_err(|e| ProtoError::Json(e.to_string()))?)
}

fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, ProtoError> {
    serde_json::from_slice(json).map_err(|e| ProtoError::Json(e.to_string()))
}

/// A frame of a watch in protobuf: its length in four bytes, then a WatchEvent around the object's bytes (`from_json`'s).
pub fn watch_frame(event: &str, object: &[u8]) -> Vec<u8> {
    let mut writer = Writer(vec![0; 4]);
    writer.text(1, event);
    let Ok(()) = writer.message::<std::convert::Infallible>(2, |raw| {
        raw.bytes(1, object);
        Ok(())
    });
    let length = u32::try_from(writer.0.len() - 4).unwrap_or(u32::MAX);
    writer.0[..4].copy_from_slice(&length.to_be_bytes());
    writer.0
}

fn message_of(api_version: &str, kind: &str) -> Option<Message> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    match (api_version, kind) {
        ("meta.k8s.io/v1", "PartialObjectMetadata") => return Some(Message::Metadata),
        ("meta.k8s.io/v1", "PartialObjectMetadataList") => return Some(Message::MetadataList),
        _ if version.is_empty() || kind.is_empty() => return None,
        _ => {}
    }
    let package = match group {
        "" => "api.core",
        "apiextensions.k8s.io" => "apiextensions-apiserver.pkg.apis.apiextensions",
        "apiregistration.k8s.io" => "kube-aggregator.pkg.apis.apiregistration",
        "internal.apiserver.k8s.io" => "api.apiserverinternal",
        _ => return message_in(&format!("api.{}", group.split('.').next()?), version, kind),
    };
    message_in(package, version, kind)
}

fn message_in(package: &str, version: &str, kind: &str) -> Option<Message> {
    let find = |name: String| facts::type_of(&name).filter(|facts| facts.field("kind").is_some() && facts.field("apiVersion").is_some());
    if let Some(facts) = find(format!("io.k8s.{package}.{version}.{kind}")) {
        return Some(Message::Object(facts));
    }
    // Status, DeleteOptions... are of every group.
    if let Some(facts) = find(format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}")) {
        return Some(Message::Object(facts));
    }
    find(format!("io.k8s.{package}.{version}.{}", kind.strip_suffix("List")?)).map(Message::List)
}

/// What every list has beside its items.
fn list_meta() -> &'static TypeFacts {
    facts::type_of("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta").expect("the table has ListMeta: round trips of lists are tested")
}

fn object_meta() -> &'static TypeFacts {
    facts::type_of("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").expect("the table has ObjectMeta: round trips are tested")
}

type Object = Map<String, Value>;

#[cfg(test)]
mod tests;
