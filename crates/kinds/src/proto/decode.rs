//! Protobuf to JSON. What Go writes into protobuf but leaves out of JSON (zeroes that it holds by value) is left out here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::wire::{Fields, Malformed, Wire};
use super::{MAX_DEPTH, Object, PREFIX, ProtoError};
use crate::facts::{self, Field, Shape, Special, TypeFacts};

type Result<T> = std::result::Result<T, ProtoError>;

pub(super) fn json_schema_props() -> &'static TypeFacts {
    facts::type_of("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")
        .expect("the table has JSONSchemaProps: its test reads it")
}

pub(super) fn object(facts: &'static TypeFacts, bytes: &[u8], depth: usize) -> Result<Object> {
    if depth > MAX_DEPTH {
        return Err(ProtoError::TooDeep);
    }
    let by_path: Vec<&'static Field> = facts.by_path().collect();
    let mut found = Object::new();
    fields(&by_path, 0, bytes, &mut found, depth)?;
    Ok(found)
}

/// Reads a message into `found`: fields whose paths agree in the first `level` numbers.
fn fields(known: &[&'static Field], level: usize, bytes: &[u8], found: &mut Object, depth: usize) -> Result<()> {
    for entry in Fields(bytes) {
        let (number, wire) = entry?;
        let start = known.partition_point(|field| field.path[level] < number);
        let count = known[start..].iter().take_while(|field| field.path[level] == number).count();
        // Newer versions add fields: those are skipped.
        let Some(field) = known[start..].first().filter(|_| count > 0) else { continue };
        if field.path.len() == level + 1 {
            field_value(field, wire, found, depth)?;
        } else {
            fields(&known[start..start + count], level + 1, wire.bytes()?, found, depth)?;
        }
    }
    Ok(())
}

fn field_value(field: &'static Field, wire: Wire<'_>, found: &mut Object, depth: usize) -> Result<()> {
    match field.shape {
        Shape::List(item) => {
            let value = single(*item, wire, depth)?.unwrap_or(Value::Null);
            if let Value::Array(list) = found.entry(field.name).or_insert_with(|| json!([])) {
                list.push(value);
            }
        }
        Shape::Map(of) => {
            let (key, value) = entry(*of, wire, depth)?;
            if let Value::Object(map) = found.entry(field.name).or_insert_with(|| json!({})) {
                map.insert(key, value);
            }
        }
        shape => {
            if let Some(value) = single(shape, wire, depth)?.filter(|value| !is_left_out(field, value)) {
                found.insert(field.name.into(), value);
            } else {
                found.remove(field.name);
            }
        }
    }
    Ok(())
}

/// Whether Go's JSON would not have this zero.
fn is_left_out(field: &Field, value: &Value) -> bool {
    match value {
        // An empty string that means something is rare: such fields are pointers in Go.
        Value::String(text) if text.is_empty() => !matches!(field.name, "storageClassName" | "volumeAttributesClassName"),
        Value::Bool(false) => field.omits_zero,
        Value::Number(number) => field.omits_zero && number.as_i64() == Some(0),
        _ => false,
    }
}

fn entry(of: Shape, wire: Wire<'_>, depth: usize) -> Result<(String, Value)> {
    let (mut key, mut value) = (String::new(), None);
    for part in Fields(wire.bytes()?) {
        match part? {
            (1, text) => key = text.text()?.to_owned(),
            (2, wire) => {
                value = match of {
                    // A list as a map's value is a message of its own.
                    Shape::List(item) => {
                        let items = Fields(wire.bytes()?).map(|part| {
                            let (_, wire) = part?;
                            Ok(single(*item, wire, depth)?.unwrap_or(Value::Null))
                        });
                        Some(items.collect::<Result<Value>>()?)
                    }
                    shape => single(shape, wire, depth)?,
                }
            }
            _ => {}
        }
    }
    // A value that was not sent is its type's zero.
    let value = value.unwrap_or_else(|| match of {
        Shape::String | Shape::Bytes => json!(""),
        Shape::Bool => json!(false),
        Shape::Int32 | Shape::Int64 | Shape::Double => json!(0),
        Shape::List(_) => json!([]),
        _ if is_time(of) => Value::Null,
        _ => json!({}),
    });
    Ok((key, value))
}

fn is_time(shape: Shape) -> bool {
    shape.facts().is_some_and(|facts| matches!(facts.special, Special::Time | Special::MicroTime))
}

/// One scalar or message. None: an absent time.
fn single(shape: Shape, wire: Wire<'_>, depth: usize) -> Result<Option<Value>> {
    Ok(Some(match shape {
        Shape::String => wire.text()?.into(),
        Shape::Bytes => STANDARD.encode(wire.bytes()?).into(),
        Shape::Bool => (wire.varint()? != 0).into(),
        Shape::Int32 | Shape::Int64 => wire.varint()?.cast_signed().into(),
        Shape::Double => match wire {
            Wire::Fixed64(bits) => f64::from_bits(bits).into(),
            _ => return Err(Malformed.into()),
        },
        Shape::Type(id) => {
            let facts = id.facts();
            return match facts.special {
                Special::None => object(facts, wire.bytes()?, depth + 1).map(|object| Some(Value::Object(object))),
                special => special_value(special, wire.bytes()?, depth + 1),
            };
        }
        Shape::Any | Shape::List(_) | Shape::Map(_) => return Err(Malformed.into()),
    }))
}

fn special_value(special: Special, bytes: &[u8], depth: usize) -> Result<Option<Value>> {
    let mut parts = Fields(bytes);
    match special {
        Special::Quantity => Ok(Some(last(parts, 1)?.map_or(Ok("0"), Wire::text)?.into())),
        Special::IntOrString => int_or_string(parts).map(Some),
        Special::Time | Special::MicroTime => time(parts, special == Special::MicroTime),
        Special::RawExtension | Special::FieldsV1 | Special::Json => match last(parts, 1)?.map_or(Ok(&[][..]), Wire::bytes)? {
            [] => Ok(None),
            raw if raw.starts_with(PREFIX) => super::to_value_at(raw, depth + 1).map(Some),
            raw => serde_json::from_slice(raw).map(Some).map_err(|e| ProtoError::Json(e.to_string())),
        },
        Special::JsonSchemaPropsOrArray => {
            let mut schemas = Vec::new();
            for part in parts {
                match part? {
                    (1, wire) => return json_schema(wire, depth).map(Some),
                    (2, wire) => schemas.push(json_schema(wire, depth)?),
                    _ => {}
                }
            }
            Ok(Some(schemas.into()))
        }
        Special::JsonSchemaPropsOrBool => {
            let mut allows = false;
            for part in parts {
                match part? {
                    (1, wire) => allows = wire.varint()? != 0,
                    (2, wire) => return json_schema(wire, depth).map(Some),
                    _ => {}
                }
            }
            Ok(Some(allows.into()))
        }
        Special::JsonSchemaPropsOrStringArray => {
            let mut names = Vec::new();
            for part in parts.by_ref() {
                match part? {
                    (1, wire) => return json_schema(wire, depth).map(Some),
                    (2, wire) => names.push(Value::from(wire.text()?)),
                    _ => {}
                }
            }
            Ok(Some(names.into()))
        }
        Special::None => Err(Malformed.into()),
    }
}

fn json_schema(wire: Wire<'_>, depth: usize) -> Result<Value> {
    object(json_schema_props(), wire.bytes()?, depth + 1).map(Value::Object)
}

/// The last field with this number: what counts when one appears again.
fn last(parts: Fields<'_>, number: u32) -> Result<Option<Wire<'_>>> {
    let mut found = None;
    for part in parts {
        let (at, wire) = part?;
        if at == number {
            found = Some(wire);
        }
    }
    Ok(found)
}

fn int_or_string(parts: Fields<'_>) -> Result<Value> {
    let (mut is_text, mut number, mut text) = (false, 0, "");
    for part in parts {
        match part? {
            (1, wire) => is_text = wire.varint()? == 1,
            (2, wire) => number = wire.varint()?.cast_signed(),
            (3, wire) => text = wire.text()?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

/// None: no time, which Go writes as an empty message.
fn time(parts: Fields<'_>, is_micro: bool) -> Result<Option<Value>> {
    let (mut seconds, mut nanos) = (None, 0);
    for part in parts {
        match part? {
            (1, wire) => seconds = Some(wire.varint()?.cast_signed()),
            (2, wire) => nanos = i32::try_from(wire.varint()?.cast_signed()).map_err(|_| Malformed)?,
            _ => {}
        }
    }
    let Some(seconds) = seconds else { return Ok(None) };
    let time = Timestamp::new(seconds, if is_micro { nanos } else { 0 }).map_err(|_| Malformed)?;
    let format = if is_micro { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(Some(time.strftime(format).to_string().into()))
}

/// PartialObjectMetadata.
pub(super) fn metadata(bytes: &[u8], depth: usize) -> Result<Object> {
    let meta = last(Fields(bytes), 1)?.map_or(Ok(&[][..]), Wire::bytes)?;
    Ok(Object::from_iter([("metadata".to_owned(), Value::Object(object(super::object_meta(), meta, depth)?))]))
}

/// A list, each item by `item`.
pub(super) fn list(bytes: &[u8], depth: usize, item: impl Fn(&[u8]) -> Result<Object>) -> Result<Object> {
    let mut found = Object::new();
    let mut items = Vec::new();
    for part in Fields(bytes) {
        match part? {
            (1, wire) => _ = found.insert("metadata".into(), Value::Object(object(super::list_meta(), wire.bytes()?, depth)?)),
            (2, wire) => items.push(Value::Object(item(wire.bytes()?)?)),
            _ => {}
        }
    }
    found.insert("items".into(), items.into());
    Ok(found)
}
