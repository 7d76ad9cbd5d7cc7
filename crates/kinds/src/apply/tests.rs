//! Cases from KEP-555 and the documentation of server-side apply.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn manager(name: &str, seconds: i64) -> FieldManager<'_> {
    FieldManager {
        manager: name,
        subresource: "",
        api_version: "apps/v1",
        schema: Schema::of("io.k8s.api.apps.v1.Deployment").unwrap(),
        now: at(seconds),
    }
}

fn deployment(mut body: Value) -> Value {
    body["apiVersion"] = "apps/v1".into();
    body["kind"] = "Deployment".into();
    body["metadata"]["name"] = "web".into();
    body
}

/// The fields of each manager.
fn owners(object: &Value) -> Value {
    let list = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    Value::Object(
        list.iter()
            .map(|e| (format!("{} {}", e["manager"].as_str().unwrap(), e["operation"].as_str().unwrap()), e["fieldsV1"].clone()))
            .collect(),
    )
}

fn time_of(object: &Value, manager: &str) -> String {
    let list = object["metadata"]["managedFields"].as_array().unwrap();
    list.iter().find(|e| e["manager"] == manager).unwrap()["time"].as_str().unwrap().to_owned()
}

#[test]
fn a_create_owns_what_it_sent_and_what_was_defaulted() {
    let mut web = deployment(json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "i", "ports": [{"containerPort": 80}]}], "securityContext": {}}
            }
        }
    }));
    manager("kubectl-create", 0).track_update(None, &mut web);
    let expected = json!({
        "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
        "f:spec": {
            "f:replicas": {},
            "f:selector": {},
            "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}, "f:type": {}},
            "f:template": {
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {
                    "f:containers": {"k:{\"name\":\"web\"}": {
                        ".": {}, "f:image": {}, "f:name": {}, "f:resources": {},
                        "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}
                    }},
                    "f:securityContext": {}
                }
            }
        }
    });
    assert_eq!(owners(&web)["kubectl-create Update"], expected);
    assert_eq!(time_of(&web, "kubectl-create"), "2023-11-14T22:13:20Z");
}

#[test]
fn an_update_takes_what_it_changes_and_a_no_op_nothing() {
    let mut first = deployment(json!({"spec": {"replicas": 1, "paused": true}}));
    manager("a", 0).track_update(None, &mut first);

    let mut same = first.clone();
    same["metadata"].as_object_mut().unwrap().remove("managedFields");
    manager("b", 5).track_update(Some(&first), &mut same);
    assert_eq!(same, first);

    let mut second = first.clone();
    second["spec"]["replicas"] = 2.into();
    manager("b", 5).track_update(Some(&first), &mut second);
    assert_eq!(owners(&second), json!({"a Update": {"f:spec": {"f:paused": {}}}, "b Update": {"f:spec": {"f:replicas": {}}}}));

    let mut third = second.clone();
    third["spec"].as_object_mut().unwrap().remove("paused");
    third["spec"]["replicas"] = 3.into();
    manager("b", 9).track_update(Some(&second), &mut third);
    assert_eq!(owners(&third), json!({"b Update": {"f:spec": {"f:replicas": {}}}}));
    assert_eq!(time_of(&third, "b"), "2023-11-14T22:13:29Z");
}

#[test]
fn each_endpoint_owns_its_part() {
    let mut first = deployment(json!({"spec": {"replicas": 1}}));
    manager("a", 0).track_update(None, &mut first);
    let mut second = first.clone();
    second["status"] = json!({"replicas": 1});
    second["spec"]["replicas"] = 5.into();
    let status = FieldManager { subresource: "status", ..manager("c", 1) };
    status.track_update(Some(&first), &mut second);
    assert_eq!(owners(&second)["c Update"], json!({"f:status": {"f:replicas": {}}}));
    assert_eq!(second["metadata"]["managedFields"][1]["subresource"], "status");
    let mut third = second.clone();
    third["status"]["replicas"] = 9.into();
    manager("a", 2).track_update(Some(&second), &mut third);
    assert_eq!(owners(&third)["a Update"], json!({"f:spec": {"f:replicas": {}}}));
}

#[test]
fn managed_fields_that_a_user_sends() {
    let mut first = deployment(json!({"spec": {"replicas": 1}}));
    manager("a", 0).track_update(None, &mut first);
    let send = |list: Value| {
        let mut next = first.clone();
        next["metadata"]["managedFields"] = list;
        manager("b", 1).track_update(Some(&first), &mut next);
        next
    };
    assert_eq!(send(json!([{}]))["metadata"].get("managedFields"), None, "an empty entry drops all");
    assert_eq!(send(json!([])), first, "an empty list drops nothing");
    assert_eq!(send(json!([{"manager": "x", "operation": "Bogus"}])), first);
    let moved = json!([{"manager": "x", "operation": "Apply", "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]);
    assert_eq!(owners(&send(moved)), json!({"x Apply": {"f:spec": {"f:replicas": {}}}}));
    let mut untracked = first.clone();
    untracked["metadata"].as_object_mut().unwrap().remove("managedFields");
    let mut next = untracked.clone();
    next["spec"]["replicas"] = 7.into();
    manager("b", 1).track_update(Some(&untracked), &mut next);
    assert_eq!(owners(&next), json!({}), "what is not tracked stays so");
}

#[test]
fn many_updaters_are_merged_into_one_entry() {
    let mut object = deployment(json!({"metadata": {"labels": {"l0": "x"}}}));
    manager("m0", 0).track_update(None, &mut object);
    for n in 1..15 {
        let mut next = object.clone();
        next["metadata"]["labels"][format!("l{n}")] = "x".into();
        manager(&format!("m{n}"), n).track_update(Some(&object), &mut next);
        object = next;
    }
    let owners = owners(&object);
    assert_eq!(owners.as_object().unwrap().len(), 10);
    assert!(owners["ancient-changes Update"]["f:metadata"]["f:labels"].get("f:l0").is_some());
}

#[test]
fn apply_creates_merges_and_removes() {
    let config = |spec: Value| deployment(json!({"spec": spec}));
    let first = manager("ci", 0).apply(None, &config(json!({"replicas": 3, "paused": true})), false).unwrap();
    assert_eq!(owners(&first), json!({"ci Apply": {"f:spec": {"f:paused": {}, "f:replicas": {}}}}));

    let same = manager("ci", 9).apply(Some(&first), &config(json!({"replicas": 3, "paused": true})), false).unwrap();
    assert_eq!(same, first, "the same again changes nothing, not even a time");

    let second = manager("ci", 9).apply(Some(&first), &config(json!({"replicas": 3})), false).unwrap();
    assert_eq!(second["spec"], json!({"replicas": 3}), "what is no longer applied goes");
    assert_eq!(time_of(&second, "ci"), "2023-11-14T22:13:29Z");

    let shared = manager("ops", 10).apply(Some(&first), &config(json!({"paused": true})), false).unwrap();
    let rest = manager("ci", 11).apply(Some(&shared), &config(json!({"replicas": 3})), false).unwrap();
    assert_eq!(rest["spec"], json!({"replicas": 3, "paused": true}), "another applier keeps it");
}

#[test]
fn conflicts_name_the_owner_and_force_takes_over() {
    let config = |replicas: i64| deployment(json!({"spec": {"replicas": replicas}}));
    let first = manager("ci", 0).apply(None, &config(3), false).unwrap();
    let mut scaled = first.clone();
    scaled["spec"]["replicas"] = 5.into();
    manager("kubectl-scale", 1).track_update(Some(&first), &mut scaled);

    let error = manager("ci", 2).apply(Some(&scaled), &config(4), false).unwrap_err();
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"kubectl-scale\" using apps/v1: .spec.replicas");
    let status = StatusError::from(error);
    assert_eq!(status.code(), 409);
    let cause = &status.0.details.as_ref().unwrap().causes.as_ref().unwrap()[0];
    assert_eq!(cause.reason.as_deref(), Some("FieldManagerConflict"));
    assert_eq!(cause.field.as_deref(), Some(".spec.replicas"));
    assert_eq!(cause.message.as_deref(), Some("conflict with \"kubectl-scale\" using apps/v1"));

    let forced = manager("ci", 2).apply(Some(&scaled), &config(4), true).unwrap();
    assert_eq!(owners(&forced), json!({"ci Apply": {"f:spec": {"f:replicas": {}}}}));
    assert_eq!(forced["spec"]["replicas"], 4);

    let agreed = manager("ci", 2).apply(Some(&scaled), &config(5), false).unwrap();
    assert_eq!(owners(&agreed).as_object().unwrap().len(), 2, "the same value is no conflict");
}

#[test]
fn lists_merge_by_their_type() {
    let pod = |containers: Value| deployment(json!({"spec": {"template": {"spec": {"containers": containers}}}}));
    let containers = |object: &Value| object["spec"]["template"]["spec"]["containers"].clone();
    let first = manager("a", 0)
        .apply(None, &pod(json!([{"name": "x", "image": "1", "args": ["p", "q"], "ports": [{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}]}])), false)
        .unwrap();
    let second = manager("b", 1).apply(Some(&first), &pod(json!([{"name": "y", "image": "2"}])), false).unwrap();
    assert_eq!(containers(&second).as_array().unwrap().len(), 2);
    let third = manager("a", 2)
        .apply(
            Some(&second),
            &pod(json!([{"name": "x", "image": "1", "args": ["z"], "ports": [{"containerPort": 80, "protocol": "UDP"}]}])),
            false,
        )
        .unwrap();
    assert_eq!(
        containers(&third),
        json!([{"name": "x", "image": "1", "args": ["z"], "ports": [{"containerPort": 80, "protocol": "UDP"}]}, {"name": "y", "image": "2"}])
    );
    let fourth = manager("a", 3).apply(Some(&third), &deployment(json!({})), false).unwrap();
    assert_eq!(containers(&fourth), json!([{"name": "y", "image": "2"}]));
}

#[test]
fn order_is_the_configurations() {
    let order = |live: &[&str], config: &[&str]| -> Vec<String> {
        let list = |names: &[&str]| names.iter().map(|n| json!({"name": n})).collect::<Value>();
        let pod = |names: &[&str]| json!({"spec": {"template": {"spec": {"containers": list(names)}}}});
        let merged = walk::merge(Schema::of("io.k8s.api.apps.v1.Deployment").unwrap(), Some(&pod(live)), &pod(config));
        let merged = merged["spec"]["template"]["spec"]["containers"].as_array().unwrap().clone();
        merged.iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(order(&["a", "b"], &["b", "a"]), ["b", "a"]);
    assert_eq!(order(&["a", "x", "b"], &["a", "b"]), ["a", "x", "b"]);
    assert_eq!(order(&["x"], &["a", "b"]), ["x", "a", "b"]);
    assert_eq!(order(&["a", "x", "b"], &["b", "c", "a"]), ["x", "b", "c", "a"]);
    assert_eq!(order(&[], &["b", "a"]), ["b", "a"]);
}

#[test]
fn apply_over_what_client_side_apply_wrote() {
    let last = deployment(json!({"spec": {"replicas": 3}}));
    let mut live = last.clone();
    live["metadata"]["annotations"] = json!({LAST_APPLIED: last.to_string()});
    manager("kubectl-client-side-apply", 0).track_update(None, &mut live);
    let config = deployment(json!({"spec": {"replicas": 4}}));
    assert!(manager("someone", 1).apply(Some(&live), &config, false).is_err());
    let upgraded = manager("kubectl", 1).apply(Some(&live), &config, false).unwrap();
    assert_eq!(upgraded["spec"]["replicas"], 4);
    assert_eq!(upgraded["metadata"]["annotations"][LAST_APPLIED], format!("{config}\n"));
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = 9.into();
    manager("hpa", 1).track_update(Some(&live), &mut scaled);
    assert!(manager("kubectl", 2).apply(Some(&scaled), &config, false).is_err(), "the annotation no longer tells the value");
}

#[test]
fn apply_over_an_untracked_object() {
    let live = deployment(json!({"metadata": {"uid": "u"}, "spec": {"replicas": 1, "paused": true}}));
    let error = manager("ci", 0).apply(Some(&live), &deployment(json!({"spec": {"replicas": 2}})), false).unwrap_err();
    assert!(error.to_string().contains("\"before-first-apply\" using apps/v1"), "{error}");
}

#[test]
fn configurations_that_are_refused() {
    let check = |config: Value, expected: &str| {
        assert_eq!(manager("ci", 0).apply(None, &config, false).unwrap_err().to_string(), expected);
    };
    check(
        deployment(json!({"metadata": {"namespace": "default"}, "spec": {"foo": 1}})),
        "failed to create typed patch object (default/web; apps/v1, Kind=Deployment): .spec.foo: field not declared in schema",
    );
    check(
        deployment(json!({"spec": {"foo": 1, "replicas": "three", "template": {"spec": {"containers": {}}}}})),
        "failed to create typed patch object (/web; apps/v1, Kind=Deployment): errors:\n  .spec.foo: field not declared in schema\n  .spec.replicas: expected numeric (int or float), got string\n  .spec.template.spec.containers: expected list, got {}",
    );
    check(deployment(json!({"metadata": {"managedFields": []}})), "metadata.managedFields must be nil");
    check(
        json!({"apiVersion": "apps/v1beta1"}),
        "Incorrect version specified in apply patch. Specified patch version: apps/v1beta1, expected: apps/v1",
    );
    let ports = json!([{"name": "a", "ports": [{"containerPort": 80}, {"containerPort": 80}]}]);
    check(
        deployment(json!({"spec": {"template": {"spec": {"containers": ports}}}})),
        "failed to create typed patch object (/web; apps/v1, Kind=Deployment): .spec.template.spec.containers[name=\"a\"].ports: duplicate entries for key [containerPort=80,protocol=\"TCP\"]",
    );
}

#[test]
fn managers_are_named_after_the_user_agent() {
    assert_eq!(manager_name(Some("ci"), "kubectl/v1.32"), "ci");
    assert_eq!(manager_name(None, "kubectl/v1.32 (linux/amd64)"), "kubectl");
    assert_eq!(manager_name(Some(""), ""), "unknown");
}

/// JSON of a Deployment's field names, mostly where they do not belong.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from)
    ];
    let name = prop::sample::select(vec![
        "metadata",
        "spec",
        "status",
        "template",
        "containers",
        "ports",
        "name",
        "labels",
        "finalizers",
        "containerPort",
        "x",
    ]);
    leaf.prop_recursive(7, 48, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..4)
                .prop_map(|map| map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Value>()),
        ]
    })
}

proptest! {
    #[test]
    fn no_object_makes_it_panic(old in any_json(), new in any_json(), list in any_json()) {
        let mut old = deployment_of(old);
        let mut new = deployment_of(new);
        manager("a", 0).track_update(None, &mut old);
        new["metadata"]["managedFields"] = list;
        manager("b", 1).track_update(Some(&old), &mut new);
        new["metadata"].as_object_mut().unwrap().remove("managedFields");
        let _ = manager("c", 2).apply(Some(&old), &new, true);
        let _ = crate::patch::strategic_merge(&old, &new, "io.k8s.api.apps.v1.Deployment");
        let _ = crate::check::check_value(&new, Schema::of("io.k8s.api.apps.v1.Deployment").unwrap());
    }

    #[test]
    fn applying_again_changes_nothing(labels in prop::collection::btree_map("[a-d]", "[a-c]", 0..4), names in prop::collection::btree_set("[a-e]", 1..5)) {
        let containers: Vec<Value> = names.iter().rev().map(|name| json!({"name": name, "image": "i"})).collect();
        let config = deployment(json!({"metadata": {"labels": labels}, "spec": {"template": {"spec": {"containers": containers}}}}));
        let first = manager("a", 0).apply(None, &config, false).unwrap();
        prop_assert_eq!(&manager("a", 1).apply(Some(&first), &config, false).unwrap(), &first);
        let nothing = manager("a", 2).apply(Some(&first), &deployment(json!({})), false).unwrap();
        prop_assert_eq!(nothing["spec"].get("template"), None);
        prop_assert_eq!(nothing["metadata"].get("managedFields"), None);
    }
}

fn deployment_of(mut value: Value) -> Value {
    if !value.is_object() {
        value = json!({"spec": value});
    }
    if !value["metadata"].is_object() {
        value["metadata"] = json!({});
    }
    deployment(value)
}
