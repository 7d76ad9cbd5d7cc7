//! Cases from the documented behaviour: kubernetes.io "Update API Objects in Place Using kubectl patch", the strategic-merge-patch and
//! preserve-order design documents.

use serde_json::{Value, json};

use super::*;

const POD: &str = "io.k8s.api.core.v1.Pod";
const DEPLOYMENT: &str = "io.k8s.api.apps.v1.Deployment";

fn check(schema: &str, current: Value, patch: Value, expected: Value) {
    assert_eq!(strategic_merge(&current, &patch, schema), Ok(expected));
}

fn check_error(current: Value, patch: Value, expected: &str) {
    let error = strategic_merge(&current, &patch, POD).unwrap_err();
    assert_eq!(error.to_string(), expected);
}

#[test]
fn fields_and_maps() {
    check(
        POD,
        json!({"metadata": {"labels": {"a": "1"}}}),
        json!({"metadata": {"labels": {"b": "2"}}}),
        json!({"metadata": {"labels": {"a": "1", "b": "2"}}}),
    );
    check(
        POD,
        json!({"metadata": {"labels": {"a": "1"}}}),
        json!({"metadata": {"labels": {"a": null}}}),
        json!({"metadata": {"labels": {}}}),
    );
    check(
        POD,
        json!({"metadata": {"labels": {"a": "1"}}}),
        json!({"metadata": {"labels": {"$patch": "replace", "b": "2"}}}),
        json!({"metadata": {"labels": {"b": "2"}}}),
    );
    check(
        POD,
        json!({"spec": {"securityContext": {"runAsUser": 1}}}),
        json!({"spec": {"securityContext": {"$patch": "delete"}}}),
        json!({"spec": {"securityContext": {}}}),
    );
    check(POD, json!({}), json!({"metadata": {"labels": {"a": "1", "b": null}}}), json!({"metadata": {"labels": {"a": "1"}}}));
}

#[test]
fn lists_merge_by_key() {
    let pod = |containers: Value| json!({"spec": {"containers": containers}});
    check(
        POD,
        pod(json!([{"name": "web", "image": "a"}])),
        pod(json!([{"name": "log", "image": "b"}])),
        pod(json!([{"name": "log", "image": "b"}, {"name": "web", "image": "a"}])),
    );
    check(
        POD,
        pod(json!([{"name": "web", "image": "a", "tty": true}])),
        pod(json!([{"name": "web", "image": "c"}])),
        pod(json!([{"name": "web", "image": "c", "tty": true}])),
    );
    check(POD, pod(json!([{"name": "a"}, {"name": "b"}])), pod(json!([{"name": "a", "$patch": "delete"}])), pod(json!([{"name": "b"}])));
    check(POD, pod(json!([{"name": "a"}, {"name": "b"}])), pod(json!([{"name": "c"}, {"$patch": "replace"}])), pod(json!([{"name": "c"}])));
    let args = |list: Value| pod(json!([{"name": "a", "args": list}]));
    check(POD, args(json!(["x", "y"])), args(json!(["z"])), args(json!(["z"])));
}

#[test]
fn sets_of_scalars() {
    let meta = |list: Value| json!({"metadata": {"finalizers": list}});
    check(POD, meta(json!(["a", "b"])), meta(json!(["b", "c"])), meta(json!(["a", "b", "c"])));
    check(POD, meta(json!(["a", "b"])), json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}), meta(json!(["b"])));
    check(
        POD,
        meta(json!(["a", "b", "c"])),
        json!({"metadata": {"$setElementOrder/finalizers": ["c", "a"], "$deleteFromPrimitiveList/finalizers": ["b"]}}),
        meta(json!(["c", "a"])),
    );
}

#[test]
fn set_element_order_as_kubectl_apply_sends_it() {
    let spec = |body: Value| json!({"spec": body});
    check(
        POD,
        spec(json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "server"}]})),
        spec(json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "a", "image": "i"}]})),
        spec(json!({"containers": [{"name": "b"}, {"name": "a", "image": "i"}, {"name": "server"}]})),
    );
    check(
        POD,
        spec(json!({})),
        spec(json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "b"}, {"name": "a"}]})),
        spec(json!({"containers": [{"name": "b"}, {"name": "a"}]})),
    );
    check_error(
        spec(json!({"containers": [{"name": "a"}]})),
        spec(json!({"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "z"}]})),
        "The order in patch list:\n[map[name:z]]\n doesn't match $setElementOrder list:\n[map[name:a]]\n",
    );
}

#[test]
fn retain_keys_clears_the_others_of_a_union() {
    let strategy = |body: Value| json!({"spec": {"strategy": body}});
    check(
        DEPLOYMENT,
        strategy(json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}})),
        strategy(json!({"$retainKeys": ["type"], "type": "Recreate"})),
        strategy(json!({"type": "Recreate"})),
    );
    let volumes = |list: Value| json!({"spec": {"volumes": list}});
    check(
        POD,
        volumes(json!([{"name": "v", "emptyDir": {}}])),
        volumes(json!([{"$retainKeys": ["hostPath", "name"], "name": "v", "hostPath": {"path": "/x"}}])),
        volumes(json!([{"name": "v", "hostPath": {"path": "/x"}}])),
    );
    check_error(
        json!({"spec": {"volumes": [{"name": "v"}]}}),
        volumes(json!([{"$retainKeys": ["name"], "name": "v", "hostPath": {}}])),
        "patch content doesn't match retainKeys list",
    );
}

#[test]
fn errors_are_upstreams() {
    let pod = json!({"spec": {"containers": [{"name": "a"}]}});
    check_error(
        pod.clone(),
        json!({"spec": {"containers": [{"image": "x"}]}}),
        "map: map[image:x] does not contain declared merge key: name",
    );
    check_error(pod.clone(), json!({"spec": {"$patch": "bogus"}}), "unknown patch type: bogus in map: map[$patch:bogus]");
    check_error(pod.clone(), json!([1]), "invalid JSON document");
    let mut deep = json!({});
    for _ in 0..200 {
        deep = json!({"a": deep});
    }
    let original = deep.clone();
    assert!(strategic_merge(&original, &deep, POD).is_err());
}
