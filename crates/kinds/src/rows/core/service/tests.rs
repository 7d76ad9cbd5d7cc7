//! Tests of the Service row.

use api::FieldErrors;
use serde_json::json;

use super::*;

fn service(spec: Value) -> Service {
    let mut service: Service = serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": spec})).expect("a service");
    service.default_fields();
    service
}

fn check(spec: Value, expected: &[&str]) {
    let mut errors = FieldErrors::default();
    service(spec).validate(&mut errors);
    let texts: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), expected.len(), "{texts:?}");
    for (text, start) in texts.iter().zip(expected) {
        assert!(text.starts_with(start), "{text}");
    }
}

#[test]
fn rules() {
    check(json!({"ports": [{"port": 80}]}), &[]);
    check(json!({"clusterIP": "None"}), &[]);
    check(json!({"type": "ExternalName", "externalName": "a.b"}), &[]);
    check(json!({}), &["spec.ports: Required value"]);
    check(
        json!({"ports": [{"port": 0}]}),
        &["spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive", "spec.ports[0].targetPort: Invalid value: 0"],
    );
    check(json!({"ports": [{"port": 80}, {"port": 81}]}), &["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"]);
    check(json!({"type": "X", "ports": [{"port": 80}]}), &["spec.type: Unsupported value: \"X\": supported values: \"ClusterIP\""]);
    check(json!({"type": "NodePort", "clusterIP": "None", "ports": [{"port": 80}]}), &["spec.clusterIPs[0]: Invalid value: \"None\""]);
    check(json!({"ports": [{"port": 80, "nodePort": 30000}]}), &["spec.ports[0].nodePort: Forbidden: may not be used when"]);
}

#[test]
fn an_update_keeps_what_was_allocated() {
    let old = service(json!({"type": "NodePort", "clusterIP": "10.0.0.5", "ports": [{"port": 80, "nodePort": 30001}]}));
    let mut new = service(json!({"type": "NodePort", "ports": [{"port": 80}]}));
    new.prepare_update(&old);
    assert_eq!(new.spec, old.spec);
    let mut errors = FieldErrors::default();
    let changed = service(json!({"type": "NodePort", "clusterIP": "10.0.0.6", "ports": [{"port": 80}]}));
    changed.validate_update(&old, &mut errors);
    assert_eq!(errors.0[0].to_string(), "spec.clusterIPs[0]: Invalid value: \"10.0.0.6\": may not change once set");
}

#[test]
fn cells_as_upstream() {
    let now = jiff::Timestamp::UNIX_EPOCH;
    let cells = |spec| service(spec).cells(now)[1..5].iter().map(|cell| cell.as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>();
    assert_eq!(cells(json!({"clusterIP": "10.0.0.1", "ports": [{"port": 80}]})), ["ClusterIP", "10.0.0.1", "<none>", "80/TCP"]);
    assert_eq!(
        cells(json!({"type": "LoadBalancer", "clusterIP": "10.0.0.1", "ports": [{"port": 80, "nodePort": 30000}]})),
        ["LoadBalancer", "10.0.0.1", "<pending>", "80:30000/TCP"]
    );
    assert_eq!(cells(json!({"type": "ExternalName", "externalName": "a.b"})), ["ExternalName", "<none>", "a.b", "<none>"]);
}
