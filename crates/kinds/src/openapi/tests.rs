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
    let policy = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["restartPolicy"];
    assert_eq!(policy["enum"], json!(["Always", "Never", "OnFailure"]));
    assert!(
        policy["description"].as_str().unwrap().ends_with("Possible enum values:\n - `\"Always\"`\n - `\"Never\"`\n - `\"OnFailure\"`")
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

/// What upstream's document and ours must agree on.
fn essence(schema: &Value) -> Value {
    let mut essence = serde_json::Map::new();
    for (name, value) in schema.as_object().into_iter().flatten() {
        match name.as_str() {
            // Prose; unions, which nothing reads; who has DeleteOptions depends on which groups are served.
            "description" | "x-kubernetes-unions" | "x-kubernetes-group-version-kind" => {}
            "required" => {
                let mut required: Vec<&str> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                required.sort_unstable();
                essence.insert(name.clone(), required.into());
            }
            "properties" => {
                let properties = value.as_object().into_iter().flatten().map(|(name, property)| (name.clone(), essence_of(property)));
                essence.insert(name.clone(), properties.collect());
            }
            _ => _ = essence.insert(name.clone(), essence_of(value)),
        }
    }
    Value::Object(essence)
}

fn essence_of(value: &Value) -> Value {
    if value.is_object() { essence(value) } else { value.clone() }
}

#[test]
#[ignore = "needs OXIKUBE_SPEC"]
fn spec_openapi_agrees() {
    let folder = std::path::PathBuf::from(std::env::var_os("OXIKUBE_SPEC").expect("OXIKUBE_SPEC names the folder with upstream's data"));
    let path = [folder.join("v1.36/openapi-v2.json"), folder.join("openapi-v2.json")];
    let path = path.iter().find(|path| path.is_file()).expect("OXIKUBE_SPEC has openapi-v2.json");
    let (theirs, ours) = (document(&std::fs::read(path).unwrap()), document(&v2(rows())));
    let mut differences = Vec::new();
    for (name, schema) in ours["definitions"].as_object().unwrap() {
        let (theirs, ours) = (essence(&theirs["definitions"][name]), essence(schema));
        if theirs != ours {
            differences.push(format!("{name}:\n  upstream {theirs}\n  ours     {ours}"));
        }
    }
    for (path, item) in ours["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(method, _)| *method != "parameters") {
            for field in ["operationId", "tags", "x-kubernetes-action", "x-kubernetes-group-version-kind"] {
                let theirs = &theirs["paths"][path][method][field];
                if *theirs != operation[field] {
                    differences.push(format!("{path} {method} {field}: upstream {theirs}, ours {}", operation[field]));
                }
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
