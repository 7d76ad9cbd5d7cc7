//! Endpoints and definitions as an OpenAPI v2 (Swagger) or v3 document.

use serde_json::{Map, Value, json};

use super::definitions::{Definitions, META};
use super::paths::{self, Body, Endpoint, Operation, Parameter};
use crate::row::Row;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    V2,
    V3,
}

impl Dialect {
    pub fn definitions_path(self) -> &'static str {
        match self {
            Self::V2 => "/definitions",
            Self::V3 => "/components/schemas",
        }
    }

    fn reference(self, name: &str) -> Value {
        json!({"$ref": format!("#{}/{name}", self.definitions_path())})
    }
}

/// What answers and bodies are in. Protobuf is left out for what has no such form.
const MEDIA_TYPES: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const STREAM_TYPES: [&str; 2] = ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];
const PATCH_TYPES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

pub(super) fn v2(rows: &[&dyn Row], definitions: Definitions) -> Value {
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "v1.36.0"},
        "paths": paths_of(rows, Dialect::V2),
        "definitions": definitions.schemas,
        "securityDefinitions": {"BearerToken": {
            "description": "Bearer Token authentication", "type": "apiKey", "name": "authorization", "in": "header",
        }},
        "security": [{"BearerToken": []}],
    })
}

pub(super) fn v3(rows: &[&dyn Row], definitions: Definitions) -> Value {
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.36.0"},
        "paths": paths_of(rows, Dialect::V3),
        "components": {
            "schemas": definitions.schemas,
            "securitySchemes": {"BearerToken": {
                "description": "Bearer Token authentication", "type": "apiKey", "name": "authorization", "in": "header",
            }},
        },
    })
}

fn paths_of(rows: &[&dyn Row], dialect: Dialect) -> Map<String, Value> {
    let mut found = Map::new();
    for row in rows {
        let tag = paths::tag(row.info());
        for endpoint in paths::endpoints(*row) {
            let item = path_item(&endpoint, &tag, dialect);
            found.insert(endpoint.path, Value::Object(item));
        }
    }
    found
}

fn path_item(endpoint: &Endpoint, tag: &str, dialect: Dialect) -> Map<String, Value> {
    let mut item = Map::new();
    item.insert("parameters".into(), endpoint.parameters.iter().map(|p| parameter(*p, dialect)).collect());
    for operation in &endpoint.operations {
        let rendered = match dialect {
            Dialect::V2 => operation_v2(operation),
            Dialect::V3 => operation_v3(operation),
        };
        let mut rendered = rendered;
        let (group, version, kind) = &operation.kind;
        rendered.insert("operationId".into(), operation.id.clone().into());
        rendered.insert("description".into(), operation.description.clone().into());
        rendered.insert("tags".into(), json!([tag]));
        rendered.insert("x-kubernetes-action".into(), operation.action.into());
        rendered.insert("x-kubernetes-group-version-kind".into(), json!({"group": group, "version": version, "kind": kind}));
        item.insert(operation.method.into(), Value::Object(rendered));
    }
    item
}

fn parameter(parameter: Parameter, dialect: Dialect) -> Value {
    let mut rendered = json!({
        "name": parameter.name,
        "in": if parameter.is_path { "path" } else { "query" },
        "description": parameter.description,
    });
    if parameter.is_path {
        rendered["required"] = true.into();
    }
    match dialect {
        Dialect::V2 => rendered["type"] = parameter.kind.into(),
        Dialect::V3 => rendered["schema"] = json!({"type": parameter.kind, "uniqueItems": true}),
    }
    if dialect == Dialect::V2 {
        rendered["uniqueItems"] = true.into();
    }
    rendered
}

/// The statuses that an operation answers with.
fn statuses(operation: &Operation) -> &'static [(&'static str, &'static str)] {
    const OK: (&str, &str) = ("200", "OK");
    const CREATED: (&str, &str) = ("201", "Created");
    const ACCEPTED: (&str, &str) = ("202", "Accepted");
    match operation.action {
        "post" => &[OK, CREATED, ACCEPTED],
        "put" | "patch" => &[OK, CREATED],
        "delete" => &[OK, ACCEPTED],
        _ => &[OK],
    }
}

fn body_schema(body: &Body, dialect: Dialect) -> Option<(Value, bool)> {
    match body {
        Body::None => None,
        Body::Object(name) => Some((dialect.reference(name), true)),
        Body::Patch => Some((dialect.reference(&format!("{META}.Patch")), true)),
        Body::DeleteOptions => Some((dialect.reference(&format!("{META}.DeleteOptions")), false)),
    }
}

fn media_types(operation: &Operation) -> Vec<&'static str> {
    let streams: &[&str] = if operation.action == "list" { &STREAM_TYPES } else { &[] };
    match operation.answer {
        Some(_) => MEDIA_TYPES.iter().chain(streams).copied().collect(),
        None if operation.action == "connect" => vec!["*/*"],
        None => vec!["text/plain", "application/json"],
    }
}

fn operation_v2(operation: &Operation) -> Map<String, Value> {
    let mut parameters: Vec<Value> = operation.query.iter().map(|p| parameter(*p, Dialect::V2)).collect();
    if let Some((schema, is_required)) = body_schema(&operation.body, Dialect::V2) {
        let mut body = json!({"in": "body", "name": "body", "schema": schema});
        if is_required {
            body["required"] = true.into();
        }
        parameters.insert(0, body);
    }
    let schema = match &operation.answer {
        Some(name) => Dialect::V2.reference(name),
        None => json!({"type": "string"}),
    };
    let mut responses = Map::new();
    for (status, text) in statuses(operation) {
        responses.insert((*status).into(), json!({"description": text, "schema": schema}));
    }
    responses.insert("401".into(), json!({"description": "Unauthorized"}));
    let consumes: &[&str] = if operation.body == Body::Patch { &PATCH_TYPES } else { &["*/*"] };
    let mut rendered = Map::new();
    if !parameters.is_empty() {
        rendered.insert("parameters".into(), parameters.into());
    }
    rendered.insert("consumes".into(), consumes.into());
    rendered.insert("produces".into(), media_types(operation).into());
    rendered.insert("schemes".into(), json!(["https"]));
    rendered.insert("responses".into(), Value::Object(responses));
    rendered
}

fn operation_v3(operation: &Operation) -> Map<String, Value> {
    let mut rendered = Map::new();
    let parameters: Vec<Value> = operation.query.iter().map(|p| parameter(*p, Dialect::V3)).collect();
    if !parameters.is_empty() {
        rendered.insert("parameters".into(), parameters.into());
    }
    let content = |types: &[&str], schema: &Value| -> Value {
        Value::Object(types.iter().map(|media| ((*media).to_owned(), json!({"schema": schema}))).collect())
    };
    if let Some((schema, is_required)) = body_schema(&operation.body, Dialect::V3) {
        let types: &[&str] = if operation.body == Body::Patch { &PATCH_TYPES } else { &["*/*"] };
        let mut body = json!({"content": content(types, &schema)});
        if is_required {
            body["required"] = true.into();
        }
        rendered.insert("requestBody".into(), body);
    }
    let schema = match &operation.answer {
        Some(name) => Dialect::V3.reference(name),
        None => json!({"type": "string"}),
    };
    let mut responses = Map::new();
    for (status, text) in statuses(operation) {
        responses.insert((*status).into(), json!({"description": text, "content": content(&media_types(operation), &schema)}));
    }
    responses.insert("401".into(), json!({"description": "Unauthorized"}));
    rendered.insert("responses".into(), Value::Object(responses));
    rendered
}
