//! Documents are whole, and hold what kubectl looks for.

use serde_json::Value;

use super::*;
use crate::rows::rows;

fn document(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// Every `$ref` of a document leads somewhere.
fn check_references(value: &Value, root: &Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                assert!(root.pointer(&reference[1..]).is_some(), "{reference} leads nowhere");
            }
            map.values().for_each(|value| check_references(value, root));
        }
        Value::Array(list) => list.iter().for_each(|value| check_references(value, root)),
        _ => {}
    }
}

#[test]
fn v2_is_whole() {
    let doc = document(&v2(rows()));
    check_references(&doc["paths"], &doc);
    check_references(&doc["definitions"], &doc);
    let ports = &doc["definitions"]["io.k8s.api.core.v1.ServiceSpec"]["properties"]["ports"];
    assert_eq!(ports["x-kubernetes-list-map-keys"], json!(["port", "protocol"]));
    assert_eq!(ports["x-kubernetes-patch-merge-key"], "port");
    assert_eq!(ports["x-kubernetes-patch-strategy"], "merge");
    for row in rows() {
        assert!(doc["definitions"].get(row.info().schema).is_some(), "{} has no definition", row.info().schema);
    }
    let ids: Vec<&str> = doc["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|item| item.as_object().unwrap().values())
        .filter_map(|operation| operation.get("operationId")?.as_str())
        .collect();
    let distinct: std::collections::BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), distinct.len(), "an operation id appears twice");
    assert!(distinct.contains("listCoreV1PodForAllNamespaces") && distinct.contains("readAppsV1NamespacedDeploymentScale"));
}

#[test]
fn v3_has_what_kubectl_looks_for() {
    let index = document(&v3_index(rows()));
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    assert!(url.starts_with("/openapi/v3/apis/apps/v1?hash="), "{url}");
    for (group, version) in group_versions(rows()) {
        let doc = document(&v3(rows(), group, version).unwrap());
        check_references(&doc, &doc);
    }
    let doc = document(&v3(rows(), "apps", "v1").unwrap());
    let patch = &doc["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"], json!({"group": "apps", "version": "v1", "kind": "Deployment"}));
    let names: Vec<&str> = patch["parameters"].as_array().unwrap().iter().filter_map(|p| p["name"].as_str()).collect();
    assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);
    let schemas = &doc["components"]["schemas"];
    assert_eq!(
        schemas["io.k8s.api.apps.v1.Deployment"]["properties"]["spec"]["allOf"],
        json!([{"$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec"}])
    );
    assert!(v3(rows(), "apps", "v9").is_none());
}

#[test]
fn protobuf_has_every_definition_and_path() {
    use crate::proto::wire::Fields;
    let doc = document(&v2(rows()));
    let bytes = v2_protobuf(rows());
    let count = |number: u32| -> usize {
        let part = Fields(&bytes).map(Result::unwrap).find(|(found, _)| *found == number).unwrap().1;
        Fields(part.bytes().unwrap()).map(Result::unwrap).count()
    };
    assert_eq!(count(8), doc["paths"].as_object().unwrap().len());
    assert_eq!(count(9), doc["definitions"].as_object().unwrap().len());
}
