//! `Schema`: what is known of the value at some place of an object, for walks that merge, own, prune or check values.
//! Built-in kinds answer from `facts`, others from their structural OpenAPI. Must not look at values but to name list items.

use serde_json::Value;

use crate::facts::{self, Field, ListType, Shape, Special, TypeFacts};

/// How a value is merged and owned.
#[derive(Clone, Copy, Debug)]
pub enum Merge<'s> {
    /// As a whole: scalars, atomic lists, maps and structs.
    Leaf,
    /// Field by field.
    Object,
    /// A list of scalars, each once.
    Set,
    /// A list of objects, told apart by their keys.
    Keyed(Keys<'s>),
    /// Nothing is known: objects field by field, all else as a whole.
    Deduced,
}

#[derive(Clone, Copy, Debug)]
pub enum Schema<'s> {
    /// A place in a built-in type. The field is there unless the place is an item, a map's value or the root.
    Built { shape: Shape, field: Option<&'static Field> },
    /// An OpenAPI v3 schema of a CustomResourceDefinition.
    Structural(&'s Value),
    /// Any value.
    Untyped,
}

/// The names of the fields that tell items of a list apart.
#[derive(Clone, Copy, Debug)]
pub enum Keys<'s> {
    Built { names: &'static [&'static str], item: Option<&'static TypeFacts> },
    Structural { names: &'s [Value], item: &'s Value },
}

impl Schema<'static> {
    /// The schema of a built-in type: `io.k8s.api.apps.v1.Deployment`.
    pub fn of(name: &str) -> Option<Self> {
        facts::id_of(name).map(|id| Self::Built { shape: Shape::Type(id), field: None })
    }
}

impl<'s> Schema<'s> {
    pub fn merge(self) -> Merge<'s> {
        match self {
            Self::Built { shape, field } => merge_of_built(shape, field),
            Self::Structural(schema) => merge_of_structural(schema),
            Self::Untyped => Merge::Deduced,
        }
    }

    /// The schema of a field or of a map's value, and whether it is a named field. None: no such field.
    pub fn child(self, name: &str) -> Option<(Schema<'s>, bool)> {
        match self {
            Self::Built { shape: Shape::Map(value), .. } => Some((Self::Built { shape: *value, field: None }, false)),
            Self::Built { shape: Shape::Any, .. } | Self::Untyped => Some((Self::Untyped, false)),
            Self::Built { shape: Shape::Type(id), .. } => {
                let facts = id.facts();
                match facts.special {
                    Special::None => facts.field(name).map(|field| (Self::Built { shape: field.shape, field: Some(field) }, true)),
                    Special::RawExtension | Special::FieldsV1 | Special::Json => Some((Self::Untyped, false)),
                    Special::JsonSchemaPropsOrArray | Special::JsonSchemaPropsOrBool | Special::JsonSchemaPropsOrStringArray => {
                        Schema::of("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")?.child(name)
                    }
                    _ => None,
                }
            }
            Self::Built { .. } => None,
            Self::Structural(schema) => structural_child(schema, name),
        }
    }

    /// The schema of a list's items.
    pub fn item(self) -> Schema<'s> {
        match self {
            Self::Built { shape: Shape::List(item), .. } => Self::Built { shape: *item, field: None },
            Self::Structural(schema) => schema.get("items").map_or(Self::Untyped, Self::Structural),
            _ => Self::Untyped,
        }
    }

    /// The struct of this place, where it is a built-in one.
    pub fn facts(self) -> Option<&'static TypeFacts> {
        match self {
            Self::Built { shape, .. } => shape.facts(),
            _ => None,
        }
    }
}

fn merge_of_built(shape: Shape, field: Option<&'static Field>) -> Merge<'static> {
    match shape {
        Shape::List(item) => match field.map(|f| &f.list) {
            Some(ListType::Set) => Merge::Set,
            Some(ListType::Map(names)) => Merge::Keyed(Keys::Built { names, item: item.facts() }),
            _ => Merge::Leaf,
        },
        Shape::Map(_) if field.is_some_and(|f| f.is_atomic) => Merge::Leaf,
        Shape::Map(_) => Merge::Object,
        Shape::Type(id) => {
            let facts = id.facts();
            match facts.special {
                Special::None if field.is_some_and(|f| f.is_atomic) => Merge::Leaf,
                Special::None if facts.is_atomic && !field.is_some_and(|f| f.is_granular) => Merge::Leaf,
                Special::None => Merge::Object,
                Special::Quantity | Special::IntOrString | Special::Time | Special::MicroTime => Merge::Leaf,
                _ => Merge::Deduced,
            }
        }
        Shape::Any => Merge::Deduced,
        _ => Merge::Leaf,
    }
}

fn merge_of_structural(schema: &Value) -> Merge<'_> {
    let text = |key: &str| schema.get(key).and_then(Value::as_str);
    if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        return Merge::Leaf;
    }
    match text("type") {
        Some("array") => match (text("x-kubernetes-list-type"), schema.get("items")) {
            (Some("set"), _) => Merge::Set,
            (Some("map"), Some(item)) => match schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array) {
                Some(names) => Merge::Keyed(Keys::Structural { names, item }),
                None => Merge::Leaf,
            },
            _ => Merge::Leaf,
        },
        Some("object") if text("x-kubernetes-map-type") == Some("atomic") => Merge::Leaf,
        Some("object") => Merge::Object,
        Some(_) => Merge::Leaf,
        None => Merge::Deduced,
    }
}

fn structural_child<'s>(schema: &'s Value, name: &str) -> Option<(Schema<'s>, bool)> {
    if let Some(property) = schema.get("properties").and_then(|properties| properties.get(name)) {
        return Some((Schema::Structural(property), true));
    }
    if schema.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true)) && matches!(name, "apiVersion" | "kind" | "metadata") {
        return Some((Schema::Untyped, true));
    }
    match schema.get("additionalProperties") {
        Some(values @ Value::Object(_)) => Some((Schema::Structural(values), false)),
        Some(Value::Bool(true)) => Some((Schema::Untyped, false)),
        _ if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true)) => Some((Schema::Untyped, false)),
        _ => None,
    }
}

impl<'s> Keys<'s> {
    /// Each key's name with its value in an item: the item's own, else the schema's default.
    pub fn values(self, item: &Value) -> impl Iterator<Item = (&'s str, Option<Value>)> {
        let count = match self {
            Self::Built { names, .. } => names.len(),
            Self::Structural { names, .. } => names.len(),
        };
        (0..count).map(move |at| {
            let (name, default) = self.name_and_default(at);
            (name, item.get(name).filter(|v| !v.is_null()).or(default).cloned())
        })
    }

    fn name_and_default(self, at: usize) -> (&'s str, Option<&'s Value>) {
        match self {
            Self::Built { names, item } => {
                let name = names[at];
                (name, item.and_then(|facts| facts.field(name)).and_then(|field| field.default.as_ref()))
            }
            Self::Structural { names, item } => {
                let name = names[at].as_str().unwrap_or_default();
                (name, item.get("properties").and_then(|p| p.get(name)).and_then(|p| p.get("default")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn built_in_and_structural_schemas_answer_alike() {
        let structural = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"],
                "items": {"type": "object", "properties": {"protocol": {"type": "string", "default": "TCP"}, "port": {"type": "integer"}}}},
            "externalIPs": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "atomic"},
            "selector": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"}}
        }}}});
        for root in [Schema::of("io.k8s.api.core.v1.Service").unwrap(), Schema::Structural(&structural)] {
            let spec = root.child("spec").unwrap().0;
            assert!(matches!(spec.merge(), Merge::Object));
            let Merge::Keyed(keys) = spec.child("ports").unwrap().0.merge() else { panic!("{root:?}: ports merge by key") };
            let item = json!({"port": 80});
            let values: Vec<_> = keys.values(&item).collect();
            assert_eq!(values, [("port", Some(json!(80))), ("protocol", Some(json!("TCP")))]);
            assert!(matches!(spec.child("externalIPs").unwrap().0.merge(), Merge::Leaf));
            assert!(matches!(spec.child("selector").unwrap().0.merge(), Merge::Leaf));
            assert!(spec.child("bogus").is_none());
        }
    }

    #[test]
    fn what_keeps_unknown_fields_knows_nothing_of_them() {
        let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let (below, is_named) = Schema::Structural(&open).child("any").unwrap();
        assert!(matches!(below.merge(), Merge::Deduced) && !is_named);
        let raw = Schema::of("io.k8s.apimachinery.pkg.runtime.RawExtension").unwrap();
        assert!(matches!(raw.merge(), Merge::Deduced) && raw.child("any").is_some());
    }
}
