//! The schemas of rows, with upstream's extensions. Must not know paths.

use k8s_openapi::api::{authentication, autoscaling, policy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::document::Dialect;
use crate::facts::{self, Field, ListType, Shape, TypeFacts};
use crate::row::Row;

/// Group, version, kind.
pub(super) type Gvk<'a> = (&'a str, &'a str, &'a str);

pub(super) const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

pub(super) struct Definitions {
    /// By name.
    pub schemas: Map<String, Value>,
}

impl Definitions {
    /// The schemas of rows, their lists and subresources, and all that these refer to.
    pub fn of(rows: &[&dyn Row], dialect: Dialect) -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = dialect.definitions_path().into();
            settings.meta_schema = None;
            settings.transforms = Vec::new();
        });
        let mut generator = settings.into_generator();
        for row in rows {
            row.define(&mut generator);
            for subresource in row.info().subresources {
                match subresource.kind.map(|(_, _, kind)| kind) {
                    Some("Scale") => _ = generator.subschema_for::<autoscaling::v1::Scale>(),
                    Some("Eviction") => _ = generator.subschema_for::<policy::v1::Eviction>(),
                    Some("TokenRequest") => _ = generator.subschema_for::<authentication::v1::TokenRequest>(),
                    _ => {}
                }
            }
        }
        generator.subschema_for::<meta::DeleteOptions>();
        generator.subschema_for::<meta::Status>();
        generator.subschema_for::<meta::Patch>();
        generator.subschema_for::<meta::ListMeta>();
        generator.subschema_for::<meta::WatchEvent<Value>>();
        generator.subschema_for::<meta::APIResourceList>();
        let mut schemas = generator.take_definitions(false);
        for row in rows.iter().filter(|row| is_listed(**row)) {
            schemas.insert(format!("{}List", row.info().schema), list_schema(*row, dialect));
        }
        for (name, schema) in &mut schemas {
            if let Value::Object(schema) = schema {
                extend(name, schema, dialect);
            }
        }
        let mut definitions = Self { schemas };
        definitions.name_kinds(rows);
        if dialect == Dialect::V3 {
            definitions.schemas.values_mut().for_each(wrap_references);
        }
        definitions
    }

    /// `x-kubernetes-group-version-kind`, by which clients find the schema of an object.
    fn name_kinds(&mut self, rows: &[&dyn Row]) {
        let mut add = |schema: &str, (group, version, kind): Gvk<'_>| {
            if let Some(Value::Object(schema)) = self.schemas.get_mut(schema) {
                let kinds = schema.entry("x-kubernetes-group-version-kind").or_insert_with(|| json!([]));
                let kind = json!({"group": group, "version": version, "kind": kind});
                if let Some(kinds) = kinds.as_array_mut().filter(|kinds| !kinds.contains(&kind)) {
                    kinds.push(kind);
                }
            }
        };
        for row in rows {
            let info = row.info();
            add(info.schema, (info.group, info.version, info.kind));
            if is_listed(*row) {
                add(&format!("{}List", info.schema), (info.group, info.version, &format!("{}List", info.kind)));
            }
            for kind in info.subresources.iter().filter_map(|subresource| subresource.kind) {
                if let Some(schema) = schema_of(kind) {
                    add(&schema, kind);
                }
            }
            for kind in ["DeleteOptions", "WatchEvent"] {
                add(&format!("{META}.{kind}"), (info.group, info.version, kind));
            }
        }
        for kind in ["DeleteOptions", "WatchEvent", "Status", "APIResourceList"] {
            add(&format!("{META}.{kind}"), ("", "v1", kind));
        }
    }
}

pub(super) fn is_listed(row: &dyn Row) -> bool {
    row.info().verbs.contains(&"list")
}

/// The definition of a built-in kind that is a body of subresources.
pub(super) fn schema_of((group, version, kind): Gvk<'_>) -> Option<String> {
    if let Some(row) = crate::rows::find_kind(group, version, kind) {
        return Some(row.info().schema.to_owned());
    }
    let package = group.strip_suffix(".k8s.io").unwrap_or(if group.is_empty() { "core" } else { group });
    let name = format!("io.k8s.api.{package}.{version}.{kind}");
    facts::type_of(&name).map(|_| name)
}

fn list_schema(row: &dyn Row, dialect: Dialect) -> Value {
    let kind = row.info().kind;
    let reference = |name: &str| format!("#{}/{name}", dialect.definitions_path());
    json!({
        "description": format!("{kind}List is a list of {kind} objects."),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": "The group and version of the list."},
            "kind": {"type": "string", "description": "The kind of the list."},
            "metadata": {"$ref": reference(&format!("{META}.ListMeta")), "description": "The list's revision, and where to continue."},
            "items": {
                "type": "array",
                "description": format!("The {kind} objects."),
                "items": {"$ref": reference(row.info().schema)},
            },
        },
    })
}

/// Adds what upstream's documents say beyond the shape.
fn extend(name: &str, schema: &mut Map<String, Value>, dialect: Dialect) {
    let scalar = match name {
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => match dialect {
            Dialect::V2 => json!({"type": "string", "format": "int-or-string"}),
            Dialect::V3 => json!({"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"}),
        },
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => match dialect {
            Dialect::V2 => json!({"type": "string"}),
            Dialect::V3 => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        },
        _ => Value::Null,
    };
    if let Value::Object(scalar) = scalar {
        schema.retain(|key, _| key == "description");
        schema.extend(scalar);
        return;
    }
    if name.starts_with("io.k8s.apiextensions-apiserver.") && !schema.contains_key("properties") && !name.ends_with("SubresourceStatus") {
        // Any JSON: upstream names no type.
        schema.retain(|key, _| key == "description");
    }
    let Some(facts) = facts::type_of(name) else { return };
    if facts.is_atomic {
        schema.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
    if facts.field("kind").is_some() && facts.field("apiVersion").is_some() {
        correct_required(name, schema);
    }
    extend_properties(facts, schema, dialect);
}

/// k8s-openapi demands metadata of every kind; upstream only of the old Event, and of the new one its time.
fn correct_required(name: &str, schema: &mut Map<String, Value>) {
    match name {
        "io.k8s.api.core.v1.Event" => {}
        "io.k8s.api.events.v1.Event" => _ = schema.insert("required".into(), json!(["eventTime"])),
        _ => drop_required(schema, "metadata"),
    }
}

fn drop_required(schema: &mut Map<String, Value>, dropped: &str) {
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|name| name != dropped);
        if required.is_empty() {
            schema.remove("required");
        }
    }
}

fn extend_properties(facts: &TypeFacts, schema: &mut Map<String, Value>, dialect: Dialect) {
    // A field with a default is not required, whatever its Rust type says.
    for field in facts.fields.iter().filter(|field| field.default.is_some()) {
        drop_required(schema, field.name);
    }
    let Some(Value::Object(properties)) = schema.get_mut("properties") else { return };
    for (name, property) in properties {
        if let (Some(field), Value::Object(property)) = (facts.field(name), property) {
            extend_property(field, property, dialect);
        }
    }
}

fn extend_property(field: &Field, property: &mut Map<String, Value>, dialect: Dialect) {
    let mut put = |name: &str, value: Value| _ = property.insert(name.to_owned(), value);
    match (&field.list, field.shape) {
        (ListType::Set, _) => put("x-kubernetes-list-type", "set".into()),
        (ListType::Map(keys), _) => {
            put("x-kubernetes-list-type", "map".into());
            put("x-kubernetes-list-map-keys", keys.iter().copied().collect());
        }
        (ListType::Atomic, Shape::List(_) | Shape::Bytes) if field.is_atomic => put("x-kubernetes-list-type", "atomic".into()),
        _ if field.is_atomic => put("x-kubernetes-map-type", "atomic".into()),
        _ if field.is_granular => put("x-kubernetes-map-type", "granular".into()),
        _ => {}
    }
    if let Some(key) = field.merge_key {
        put("x-kubernetes-patch-merge-key", key.into());
    }
    let strategy = field.strategy;
    let words = [(strategy.merge, "merge"), (strategy.retain_keys, "retainKeys"), (strategy.replace, "replace")];
    let words: Vec<&str> = words.into_iter().filter_map(|(is_set, word)| is_set.then_some(word)).collect();
    if !words.is_empty() {
        put("x-kubernetes-patch-strategy", words.join(",").into());
    }
    if dialect == Dialect::V2 {
        return;
    }
    if let Some(default) = &field.default {
        put("default", default.clone());
    }
    if !field.values.is_empty() {
        name_values(field, property);
    }
}

/// The values go beside the type and, as upstream has it, below the description.
fn name_values(field: &Field, property: &mut Map<String, Value>) {
    if let Some(Value::String(description)) = property.get_mut("description") {
        description.push_str("\n\nPossible enum values:");
        for value in &field.values {
            description.push_str(&format!("\n - `{value:?}`"));
        }
    }
    let values: Value = field.values.iter().copied().collect();
    match property.get_mut("items") {
        Some(Value::Object(items)) => _ = items.insert("enum".into(), values),
        _ => _ = property.insert("enum".into(), values),
    }
}

/// OpenAPI v3 allows nothing beside a `$ref`: what is there goes around it.
fn wrap_references(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.len() > 1
                && let Some(reference @ Value::String(_)) = map.remove("$ref")
            {
                map.insert("allOf".into(), json!([{"$ref": reference}]));
            }
            map.values_mut().for_each(wrap_references);
        }
        Value::Array(list) => list.iter_mut().for_each(wrap_references),
        _ => {}
    }
}
