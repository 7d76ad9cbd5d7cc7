//! What Go leaves out when it writes an object: empty lists and maps, zeros of fields that it holds by value. The same object is to have the
//! same bytes here, or `kubectl diff` shows `labels: {}`. Must not touch what Go always writes, nor pointers, where empty means something.

use serde_json::Value;

use crate::facts::{Field, Shape, Special};
use crate::schema::Schema;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Drops what Go would not write from an object of the schema. Metadata is known whatever the kind.
pub fn empties(object: &mut Value, schema: Option<Schema<'_>>) {
    match schema {
        Some(schema @ Schema::Built { .. }) => walk(object, schema),
        _ => {
            if let (Some(meta), Some(schema)) = (object.get_mut("metadata"), Schema::of(OBJECT_META)) {
                walk(meta, schema);
            }
        }
    }
}

fn walk(value: &mut Value, schema: Schema<'_>) {
    let Schema::Built { shape, .. } = schema else { return };
    match (value, shape) {
        (Value::Object(fields), Shape::Type(id)) if id.facts().special == Special::None => {
            let facts = id.facts();
            let is_meta = facts.name == OBJECT_META;
            fields.retain(|name, value| {
                let Some(field) = facts.field(name) else { return true };
                walk(value, Schema::Built { shape: field.shape, field: Some(field) });
                let is_omitted = is_omitted(field, value) || (is_meta && value.as_str() == Some(""));
                !is_omitted
            });
        }
        (Value::Object(entries), Shape::Map(inner)) => {
            entries.values_mut().for_each(|value| walk(value, Schema::Built { shape: *inner, field: None }));
        }
        (Value::Array(items), Shape::List(inner)) => {
            items.iter_mut().for_each(|item| walk(item, Schema::Built { shape: *inner, field: None }));
        }
        _ => {}
    }
}

fn is_omitted(field: &Field, value: &Value) -> bool {
    match (field.shape, value) {
        (Shape::List(_), Value::Array(items)) => items.is_empty() && !field.is_value,
        (Shape::Map(_), Value::Object(entries)) => entries.is_empty() && !field.is_value,
        (_, Value::Bool(false)) => field.omits_zero,
        (_, Value::Number(number)) => field.omits_zero && number.as_i64() == Some(0),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(schema: &str, mut object: Value, expected: Value) {
        empties(&mut object, Schema::of(schema));
        assert_eq!(object, expected);
    }

    #[test]
    fn what_go_leaves_out_goes() {
        let meta = json!({
            "name": "a", "generateName": "", "annotations": {}, "labels": {}, "finalizers": [], "ownerReferences": [], "managedFields": [],
        });
        check("io.k8s.api.core.v1.ConfigMap", json!({"metadata": meta, "data": {}}), json!({"metadata": {"name": "a"}}));
        check("no.such.Kind", json!({"metadata": meta, "data": {}}), json!({"metadata": {"name": "a"}, "data": {}}));
        check(
            "io.k8s.api.core.v1.Pod",
            json!({"spec": {"containers": [{"name": "c", "env": [], "resources": {"limits": {}}}], "volumes": [{"name": "v", "emptyDir": {}}]}}),
            json!({"spec": {"containers": [{"name": "c", "resources": {}}], "volumes": [{"name": "v", "emptyDir": {}}]}}),
        );
        check(
            "io.k8s.api.apps.v1.Deployment",
            json!({"spec": {"replicas": 0, "paused": false, "selector": {"matchLabels": {}}}, "status": {"updatedReplicas": 0, "replicas": 2}}),
            json!({"spec": {"replicas": 0, "selector": {}}, "status": {"replicas": 2}}),
        );
    }

    #[test]
    fn what_go_writes_stays() {
        let check = |schema: &str, object: Value| check(schema, object.clone(), object);
        check("io.k8s.api.rbac.v1.Role", json!({"metadata": {"name": "a"}, "rules": []}));
        check("io.k8s.api.discovery.v1.EndpointSlice", json!({"endpoints": [], "ports": []}));
        check("io.k8s.api.apps.v1.ReplicaSet", json!({"spec": {"replicas": 0}, "status": {"replicas": 0}}));
        check("io.k8s.api.networking.v1.NetworkPolicy", json!({"spec": {"podSelector": {}}}));
        check("io.k8s.api.core.v1.PersistentVolumeClaim", json!({"spec": {"storageClassName": ""}}));
        check("io.k8s.api.core.v1.Pod", json!({"spec": {"automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0}}));
        let schema = json!({"openAPIV3Schema": {"default": {}, "enum": [[]]}});
        check("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceValidation", schema);
    }
}
