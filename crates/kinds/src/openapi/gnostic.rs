//! OpenAPI v2 in gnostic's protobuf form (google/gnostic openapiv2/OpenAPIv2.proto), as kubectl reads it: what our documents use of it.

use std::convert::Infallible;

use serde_json::{Map, Value};

use crate::proto::wire::Writer;

type Object = Map<String, Value>;

/// Runs an infallible nested write.
fn message(writer: &mut Writer, number: u32, write: impl FnOnce(&mut Writer)) {
    let Ok(()) = writer.message::<Infallible>(number, |inner| {
        write(inner);
        Ok(())
    });
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn text(writer: &mut Writer, number: u32, value: Option<&Value>) {
    if let Some(text) = value.and_then(Value::as_str) {
        writer.text(number, text);
    }
}

fn texts(writer: &mut Writer, number: u32, value: Option<&Value>) {
    for text in value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        writer.text(number, text);
    }
}

fn flag(writer: &mut Writer, number: u32, value: Option<&Value>) {
    if value == Some(&Value::Bool(true)) {
        writer.bool(number, true);
    }
}

/// Any: as YAML, of which JSON is a part.
fn any(writer: &mut Writer, number: u32, value: &Value) {
    message(writer, number, |any| any.text(2, &format!("{value}\n")));
}

fn extensions(writer: &mut Writer, number: u32, fields: &Object) {
    for (name, value) in fields.iter().filter(|(name, _)| name.starts_with("x-")) {
        message(writer, number, |named| {
            named.text(1, name);
            any(named, 2, value);
        });
    }
}

/// A NamedX: the name, then what `write` puts into the value.
fn named(writer: &mut Writer, number: u32, name: &str, write: impl FnOnce(&mut Writer)) {
    message(writer, number, |entry| {
        entry.text(1, name);
        message(entry, 2, write);
    });
}

/// A document as `v2_document` makes it.
pub(super) fn encode(document: &Value) -> Vec<u8> {
    let mut writer = Writer::default();
    text(&mut writer, 1, document.get("swagger"));
    message(&mut writer, 2, |info| {
        text(info, 1, document["info"].get("title"));
        text(info, 2, document["info"].get("version"));
    });
    message(&mut writer, 8, |paths| {
        for (path, item) in object(&document["paths"]) {
            named(paths, 2, path, |writer| path_item(writer, item));
        }
    });
    message(&mut writer, 9, |definitions| {
        for (name, definition) in object(&document["definitions"]) {
            named(definitions, 1, name, |writer| schema(writer, definition));
        }
    });
    writer.0
}

fn path_item(writer: &mut Writer, item: &Value) {
    for (number, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (6, "options"), (7, "head"), (8, "patch")] {
        if let Some(Value::Object(fields)) = item.get(method) {
            message(writer, number, |writer| operation(writer, fields));
        }
    }
    parameters(writer, 9, item.get("parameters"));
}

fn operation(writer: &mut Writer, fields: &Object) {
    texts(writer, 1, fields.get("tags"));
    text(writer, 3, fields.get("description"));
    text(writer, 5, fields.get("operationId"));
    texts(writer, 6, fields.get("produces"));
    texts(writer, 7, fields.get("consumes"));
    parameters(writer, 8, fields.get("parameters"));
    message(writer, 9, |responses| {
        for (status, response) in fields.get("responses").into_iter().flat_map(object) {
            named(responses, 1, status, |value| {
                message(value, 1, |writer| {
                    text(writer, 1, response.get("description"));
                    if let Some(answer) = response.get("schema") {
                        message(writer, 2, |item| message(item, 1, |writer| schema(writer, answer)));
                    }
                });
            });
        }
    });
    texts(writer, 10, fields.get("schemes"));
    extensions(writer, 13, fields);
}

fn parameters(writer: &mut Writer, number: u32, list: Option<&Value>) {
    for parameter in list.and_then(Value::as_array).into_iter().flatten() {
        // ParametersItem.parameter
        message(writer, number, |item| {
            message(item, 1, |writer| match parameter["in"].as_str() {
                Some("body") => message(writer, 1, |body| {
                    text(body, 1, parameter.get("description"));
                    text(body, 2, parameter.get("name"));
                    text(body, 3, parameter.get("in"));
                    flag(body, 4, parameter.get("required"));
                    message(body, 5, |writer| schema(writer, &parameter["schema"]));
                }),
                // The sub-schemas of path and query differ in their numbers from 5 on.
                place => message(writer, 2, |writer| {
                    let (number, kind, unique) = if place == Some("path") { (4, 5, 19) } else { (3, 6, 20) };
                    message(writer, number, |sub| {
                        flag(sub, 1, parameter.get("required"));
                        text(sub, 2, parameter.get("in"));
                        text(sub, 3, parameter.get("description"));
                        text(sub, 4, parameter.get("name"));
                        text(sub, kind, parameter.get("type"));
                        flag(sub, unique, parameter.get("uniqueItems"));
                    });
                }),
            });
        });
    }
}

fn schema(writer: &mut Writer, schema: &Value) {
    let Value::Object(fields) = schema else { return };
    text(writer, 1, fields.get("$ref"));
    text(writer, 2, fields.get("format"));
    text(writer, 4, fields.get("description"));
    if let Some(default) = fields.get("default") {
        any(writer, 5, default);
    }
    texts(writer, 19, fields.get("required"));
    match fields.get("additionalProperties") {
        Some(Value::Bool(allowed)) => message(writer, 21, |item| item.bool(2, *allowed)),
        Some(values) => message(writer, 21, |item| message(item, 1, |writer| self::schema(writer, values))),
        None => {}
    }
    if fields.contains_key("type") {
        message(writer, 22, |item| text(item, 1, fields.get("type")));
    }
    if let Some(items) = fields.get("items") {
        message(writer, 23, |item| message(item, 1, |writer| self::schema(writer, items)));
    }
    if let Some(properties) = fields.get("properties") {
        message(writer, 25, |writer| {
            for (name, property) in object(properties) {
                named(writer, 1, name, |writer| self::schema(writer, property));
            }
        });
    }
    extensions(writer, 31, fields);
}
