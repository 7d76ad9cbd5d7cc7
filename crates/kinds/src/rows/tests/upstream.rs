//! The table beside upstream's data, under `make spec`: its list of resources, and its objects of every kind with something in every field.

use std::path::PathBuf;

use super::*;
use crate::proto;

fn spec() -> PathBuf {
    let folder = PathBuf::from(std::env::var_os("OXIKUBE_SPEC").expect("OXIKUBE_SPEC names the folder with upstream's data"));
    let nested = folder.join("v1.36");
    if nested.is_dir() { nested } else { folder }
}

/// Upstream's objects have made-up words in every field; where hooks go by one, it gets a value that exists.
fn meaningful(mut object: Value) -> Value {
    match object["kind"].as_str() {
        Some("Service") => object["spec"]["type"] = "LoadBalancer".into(),
        // Its sample has a time that is null, which no client sends.
        Some("PodDisruptionBudget") => object["status"]["disruptedPods"] = json!({"a": "2004-01-01T01:01:01Z"}),
        _ => {}
    }
    object
}

/// An object that breaks many rules still round trips, defaults idempotently, stays as it is in an update to the same, and prints.
fn full(label: &str, row: &dyn Row, value: &Value) {
    let mut object = decode(row, value);
    let value = object.to_value();
    let bytes = proto::from_value(&value).unwrap_or_else(|error| panic!("{label}: {error}"));
    assert_eq!(decode(row, &proto::to_value(&bytes).unwrap()).to_value(), value, "{label}: protobuf round trip");
    row.default_fields(object.as_mut());
    let once = object.to_value();
    row.default_fields(object.as_mut());
    assert_eq!(object.to_value(), once, "{label}: defaults are not idempotent");
    let old = object.clone_object();
    row.prepare_update(object.as_mut(), old.as_ref());
    row.prepare_status_update(object.as_mut(), old.as_ref());
    assert_eq!(object.to_value(), once, "{label}: an update to the same changes something");
    let mut errors = FieldErrors::default();
    row.validate(object.as_ref(), &mut errors);
    row.validate_update(object.as_ref(), old.as_ref(), &mut errors);
    row.validate_status_update(object.as_ref(), old.as_ref(), &mut errors);
    row.prepare_create(object.as_mut());
    row.warnings(object.as_ref());
    assert_eq!(row.cells(object.as_ref(), jiff::Timestamp::UNIX_EPOCH).len(), row.columns().len(), "{label}");
}

#[test]
#[ignore = "needs OXIKUBE_SPEC"]
fn spec_objects_pass_the_hooks() {
    for row in rows() {
        let info = row.info();
        // The kinds of servers that upstream builds from repositories of their own: its data has none.
        if ["apiregistration.k8s.io", "apiextensions.k8s.io"].contains(&info.group) {
            continue;
        }
        let group = if info.group.is_empty() { "core" } else { info.group };
        let path = spec().join(format!("objects/{group}.{}.{}.json", info.version, info.kind));
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        full(&format!("{} {}", info.api_version(), info.kind), *row, &meaningful(serde_json::from_slice(&bytes).unwrap()));
    }
}

/// What the list says of a resource: `verbs|short names|categories|namespaced`.
fn facts_of(verbs: &str, short_names: &str, categories: &str, is_namespaced: bool) -> String {
    let sorted = |text: &str| text.split(',').filter_map(verb_of).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(",");
    format!("{}|{}|{}|{is_namespaced}", sorted(verbs), sorted(short_names), sorted(categories))
}

/// The RBAC verb of a method that is passed through (`connect:POST`); other words are what they are.
fn verb_of(word: &str) -> Option<&str> {
    match word {
        "connect:GET" => Some("get"),
        "connect:POST" => Some("create"),
        "connect:PUT" => Some("update"),
        "connect:PATCH" => Some("patch"),
        "connect:DELETE" => Some("delete"),
        _ if word.starts_with("connect:") => None,
        _ => Some(word),
    }
}

#[test]
#[ignore = "needs OXIKUBE_SPEC"]
fn spec_resources_agree() {
    let text = std::fs::read_to_string(spec().join("resources.tsv")).unwrap();
    let mut wrong = Vec::new();
    for line in text.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [group, version, resource, subresource, _, namespaced, verbs, short_names, categories] = columns[..] else {
            panic!("{line:?} has {} columns", columns.len());
        };
        let at = format!("{group}/{version} {resource}/{subresource}");
        let Some(row) = find(group, version, resource) else {
            // Alpha and beta versions are off unless asked for.
            if !version.contains("alpha") && !version.contains("beta") {
                wrong.push(format!("{at}: no row"));
            }
            continue;
        };
        let info = row.info();
        let expected = facts_of(verbs, short_names, categories, namespaced == "true");
        let ours = match info.subresources.iter().find(|found| found.name == subresource) {
            _ if subresource.is_empty() => {
                facts_of(&info.verbs.join(","), &info.short_names.join(","), &info.categories.join(","), info.is_namespaced())
            }
            Some(found) => facts_of(&found.verbs.join(","), short_names, categories, info.is_namespaced()),
            None => "nothing".to_owned(),
        };
        if ours != expected {
            wrong.push(format!("{at}: {ours}, upstream {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
