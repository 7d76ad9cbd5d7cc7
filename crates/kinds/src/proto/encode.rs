//! JSON to protobuf.

use api::meta::v1::{MicroTime, Time};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use super::wire::Writer;
use super::{Body, MAX_DEPTH, Object, ProtoError};
use crate::facts::{Field, Shape, Special, TypeFacts};

type Result<T> = std::result::Result<T, ProtoError>;

pub(super) fn object(facts: &'static TypeFacts, object: &Object, writer: &mut Writer, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(ProtoError::TooDeep);
    }
    let present: Vec<(&'static Field, &Value)> =
        facts.by_path().filter_map(|field| Some((field, object.get(field.name)?))).filter(|(_, value)| !value.is_null()).collect();
    fields(&present, 0, writer, depth)
}

/// Fields whose paths agree in the first `level` numbers, in order.
fn fields(mut present: &[(&'static Field, &Value)], level: usize, writer: &mut Writer, depth: usize) -> Result<()> {
    while let Some(((field, value), rest)) = present.split_first() {
        let number = field.path[level];
        if field.path.len() == level + 1 {
            field_value(field, number, value, writer, depth)?;
            present = rest;
        } else {
            let count = present.iter().take_while(|(field, _)| field.path[level] == number).count();
            let (inlined, rest) = present.split_at(count);
            writer.message(number, |writer| fields(inlined, level + 1, writer, depth))?;
            present = rest;
        }
    }
    Ok(())
}

fn field_value(field: &'static Field, number: u32, value: &Value, writer: &mut Writer, depth: usize) -> Result<()> {
    let mismatch = |expected| ProtoError::Mismatch { field: field.name, expected };
    match field.shape {
        Shape::List(item) => {
            for value in value.as_array().ok_or(mismatch("a list"))? {
                scalar_or_message(field.name, *item, number, value, writer, depth)?;
            }
            Ok(())
        }
        Shape::Map(of) => {
            for (key, value) in value.as_object().ok_or(mismatch("an object"))? {
                writer.message(number, |entry| {
                    entry.text(1, key);
                    map_value(field.name, *of, value, entry, depth)
                })?;
            }
            Ok(())
        }
        shape => scalar_or_message(field.name, shape, number, value, writer, depth),
    }
}

fn map_value(name: &'static str, shape: Shape, value: &Value, entry: &mut Writer, depth: usize) -> Result<()> {
    let Shape::List(item) = shape else { return scalar_or_message(name, shape, 2, value, entry, depth) };
    // A list as a map's value is a message of its own, with the items as field 1.
    let list = value.as_array().ok_or(ProtoError::Mismatch { field: name, expected: "a list" })?;
    entry.message(2, |items| list.iter().try_for_each(|value| scalar_or_message(name, *item, 1, value, items, depth)))
}

fn scalar_or_message(name: &'static str, shape: Shape, number: u32, value: &Value, writer: &mut Writer, depth: usize) -> Result<()> {
    let mismatch = |expected| ProtoError::Mismatch { field: name, expected };
    if value.is_null() {
        // An item or a map's value that is none: an empty message.
        if let Shape::Type(_) = shape {
            writer.bytes(number, &[]);
        }
        return Ok(());
    }
    match shape {
        Shape::String => writer.text(number, value.as_str().ok_or(mismatch("a string"))?),
        Shape::Bytes => {
            let bytes = STANDARD.decode(value.as_str().ok_or(mismatch("base64"))?).map_err(|_| mismatch("base64"))?;
            writer.bytes(number, &bytes);
        }
        Shape::Bool => writer.bool(number, value.as_bool().ok_or(mismatch("a boolean"))?),
        Shape::Int32 | Shape::Int64 => writer.int(number, value.as_i64().ok_or(mismatch("an integer"))?),
        Shape::Double => writer.double(number, value.as_f64().ok_or(mismatch("a number"))?),
        Shape::Type(id) => {
            let facts = id.facts();
            return writer.message(number, |writer| match facts.special {
                Special::None => object(facts, value.as_object().ok_or(mismatch("an object"))?, writer, depth + 1),
                special => special_message(name, special, value, writer, depth + 1),
            });
        }
        Shape::Any | Shape::List(_) | Shape::Map(_) => return Err(mismatch("a type that protobuf has")),
    }
    Ok(())
}

fn special_message(name: &'static str, special: Special, value: &Value, writer: &mut Writer, depth: usize) -> Result<()> {
    let mismatch = |expected| ProtoError::Mismatch { field: name, expected };
    match special {
        Special::Quantity => match value {
            Value::String(text) => writer.text(1, text),
            Value::Number(number) => writer.text(1, &number.to_string()),
            _ => return Err(mismatch("a quantity")),
        },
        Special::IntOrString => {
            let (kind, number, text) = match value {
                Value::String(text) => (1, 0, text.as_str()),
                _ => (0, value.as_i64().ok_or(mismatch("an integer or a string"))?, ""),
            };
            writer.int(1, kind);
            writer.int(2, number);
            writer.text(3, text);
        }
        Special::Time => {
            let time: Time = serde_json::from_value(value.clone()).map_err(|_| mismatch("a time"))?;
            time_message(time.0, false, writer);
        }
        Special::MicroTime => {
            let time: MicroTime = serde_json::from_value(value.clone()).map_err(|_| mismatch("a time"))?;
            time_message(time.0, true, writer);
        }
        Special::RawExtension | Special::FieldsV1 | Special::Json => writer.text(1, &value.to_string()),
        Special::JsonSchemaPropsOrArray => match value {
            Value::Array(schemas) => schemas.iter().try_for_each(|schema| json_schema(2, schema, writer, depth))?,
            schema => json_schema(1, schema, writer, depth)?,
        },
        Special::JsonSchemaPropsOrBool => match value {
            Value::Bool(allows) => writer.bool(1, *allows),
            schema => {
                writer.bool(1, true);
                json_schema(2, schema, writer, depth)?;
            }
        },
        Special::JsonSchemaPropsOrStringArray => match value {
            Value::Array(names) => {
                for name in names {
                    writer.text(2, name.as_str().ok_or(mismatch("a list of strings"))?);
                }
            }
            schema => json_schema(1, schema, writer, depth)?,
        },
        Special::None => return Err(mismatch("a type that protobuf has")),
    }
    Ok(())
}

fn json_schema(number: u32, schema: &Value, writer: &mut Writer, depth: usize) -> Result<()> {
    let schema = schema.as_object().ok_or(ProtoError::Mismatch { field: "a schema", expected: "an object" })?;
    writer.message(number, |writer| object(super::decode::json_schema_props(), schema, writer, depth + 1))
}

fn time_message(time: Timestamp, is_micro: bool, writer: &mut Writer) {
    writer.int(1, time.as_second());
    // Time counts whole seconds.
    let nanos = if is_micro { i64::from(time.subsec_nanosecond()) / 1000 * 1000 } else { 0 };
    writer.int(2, nanos);
}

/// PartialObjectMetadata.
pub(super) fn metadata(meta: &Value, writer: &mut Writer) -> Result<()> {
    let empty = Object::new();
    writer.message(1, |writer| object(super::object_meta(), meta.as_object().unwrap_or(&empty), writer, 0))
}

/// A list, each item by `item`.
pub(super) fn list(list: &Body<'_>, writer: &mut Writer, item: impl Fn(&[u8], &mut Writer) -> Result<()>) -> Result<()> {
    let empty = Object::new();
    writer.message(1, |writer| object(super::list_meta(), list.metadata.as_object().unwrap_or(&empty), writer, 0))?;
    list.items.iter().flatten().try_for_each(|value| writer.message(2, |writer| item(value.get().as_bytes(), writer)))
}
