//! Every verb and error over the in-process service, as clients see them.

#![allow(clippy::unwrap_used)] // All of this file is tests.

use std::sync::Arc;

use api::core::v1::{ConfigMap, Namespace, Pod, Secret};
use apiserver::{ApiServer, Options, Service};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use store::{Engine, EngineOptions};
use tower::ServiceExt;

struct Server {
    service: Service,
    client: Client,
    tasks: base::Tasks,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

async fn server() -> Server {
    let tasks = base::Tasks::new();
    let engine = Engine::in_memory(EngineOptions::default(), &tasks);
    let server = ApiServer::for_tests(Options::default(), Arc::new(engine)).unwrap();
    server.start(&tasks).await.unwrap();
    let service = server.service();
    Server { client: Client::new(service.clone(), "default"), service, tasks }
}

impl Server {
    async fn send(&self, method: Method, path: &str, content_type: &str, body: &str) -> (u16, http::HeaderMap, Bytes) {
        self.ask(method, path, &[("content-type", content_type)], body).await
    }

    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, http::HeaderMap, Bytes) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        let response = self.service.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        (parts.status.as_u16(), parts.headers, body.collect().await.unwrap().to_bytes())
    }

    async fn json(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let (code, _, bytes) = self.send(method, path, "application/json", &text).await;
        (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    fn config_maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), "default")
    }
}

fn config_map(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {"app": name}}, "data": {"key": value}})).unwrap()
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn objects_live_and_die() {
    let server = server().await;
    let maps = server.config_maps();
    let made = maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    assert!(made.uid().is_some() && made.creation_timestamp().is_some() && made.resource_version().is_some());
    assert_eq!(maps.get("a").await.unwrap(), made);
    let mut changed = made.clone();
    changed.data = Some([("key".to_owned(), "2".to_owned())].into());
    let stored = maps.replace("a", &PostParams::default(), &changed).await.unwrap();
    assert_ne!(stored.resource_version(), made.resource_version());
    let stale = maps.replace("a", &PostParams::default(), &changed).await.unwrap_err().to_string();
    assert!(stale.contains("the object has been modified; please apply your changes to the latest version and try again"), "{stale}");
    let same = maps.replace("a", &PostParams::default(), &stored).await.unwrap();
    assert_eq!(same.resource_version(), stored.resource_version(), "an update that changes nothing writes nothing");
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(maps.get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn errors_are_upstreams() {
    let server = server().await;
    let check = async |method: Method, path: &str, body: Value, code: i64, reason: &str, message: &str| {
        let (_, seen) = server.json(method, path, body).await;
        assert_eq!((seen["code"].as_i64(), seen["reason"].as_str(), seen["message"].as_str()), (Some(code), Some(reason), Some(message)));
        assert_eq!(seen["kind"], "Status");
    };
    let none = Value::Null;
    check(Method::GET, &format!("{MAPS}/x"), none.clone(), 404, "NotFound", "configmaps \"x\" not found").await;
    server.json(Method::POST, MAPS, json!({"metadata": {"name": "a"}})).await;
    check(Method::POST, MAPS, json!({"metadata": {"name": "a"}}), 409, "AlreadyExists", "configmaps \"a\" already exists").await;
    let message = "the namespace of the provided object does not match the namespace sent on the request";
    check(Method::POST, MAPS, json!({"metadata": {"name": "b", "namespace": "other"}}), 400, "BadRequest", message).await;
    let message = "ConfigMap \"A\" is invalid: metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    check(Method::POST, MAPS, json!({"metadata": {"name": "A"}}), 422, "Invalid", message).await;
    let message = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"foo\"";
    let strict = format!("{MAPS}?fieldValidation=Strict");
    check(Method::POST, &strict, json!({"metadata": {"name": "c"}, "foo": 1}), 400, "BadRequest", message).await;
    let message = "the server does not allow this method on the requested resource";
    check(Method::PUT, MAPS, json!({}), 405, "MethodNotAllowed", message).await;
    let (code, _, page) = server.send(Method::GET, "/apis/none/v1/things", "", "").await;
    assert_eq!((code, page.as_ref()), (404, b"404 page not found\n".as_ref()));
}

#[tokio::test]
async fn warns_of_unknown_fields() {
    let server = server().await;
    let body = json!({"metadata": {"name": "a"}, "foo": 1}).to_string();
    let (code, headers, _) = server.send(Method::POST, MAPS, "application/json", &body).await;
    assert_eq!((code, headers["warning"].to_str().unwrap()), (201, "299 - \"unknown field \\\"foo\\\"\""));
}

#[tokio::test]
async fn patches() {
    let server = server().await;
    let maps = server.config_maps();
    maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    let check = async |patch: Patch<Value>, expected: Value| {
        let seen = maps.patch("a", &PatchParams::default(), &patch).await.unwrap();
        assert_eq!(serde_json::to_value(seen.data).unwrap(), expected);
    };
    check(Patch::Merge(json!({"data": {"b": "2"}})), json!({"b": "2", "key": "1"})).await;
    check(Patch::Strategic(json!({"data": {"b": null, "c": "3"}})), json!({"c": "3", "key": "1"})).await;
    let operations = json!([{"op": "replace", "path": "/data/c", "value": "4"}]).to_string();
    let (code, _, body) = server.send(Method::PATCH, &format!("{MAPS}/a"), "application/json-patch+json", &operations).await;
    assert_eq!((code, &serde_json::from_slice::<Value>(&body).unwrap()["data"]), (200, &json!({"c": "4", "key": "1"})));
    let stale = json!({"metadata": {"resourceVersion": "1"}, "data": {"d": "5"}});
    let refused = maps.patch("a", &PatchParams::default(), &Patch::Merge(stale)).await.unwrap_err();
    assert!(refused.to_string().contains("the object has been modified"), "{refused}");
}

#[tokio::test]
async fn applies() {
    let server = server().await;
    let maps = server.config_maps();
    let config = |value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"key": value}});
    let made = maps.patch("a", &PatchParams::apply("one"), &Patch::Apply(config("1"))).await.unwrap();
    let managers = made.metadata.managed_fields.unwrap();
    assert_eq!((managers.len(), managers[0].manager.as_deref(), managers[0].operation.as_deref()), (1, Some("one"), Some("Apply")));
    let again = maps.patch("a", &PatchParams::apply("one"), &Patch::Apply(config("1"))).await.unwrap();
    assert_eq!(again.metadata.resource_version, made.metadata.resource_version, "applying the same again writes nothing");
    let refused = maps.patch("a", &PatchParams::apply("two"), &Patch::Apply(config("2"))).await.unwrap_err();
    assert!(refused.to_string().contains("Apply failed with 1 conflict: conflict with \"one\""), "{refused}");
    let forced = maps.patch("a", &PatchParams::apply("two").force(), &Patch::Apply(config("2"))).await.unwrap();
    assert_eq!(forced.data.unwrap()["key"], "2");
}

#[tokio::test]
async fn empty_lists_and_maps_are_not_written() {
    let server = server().await;
    let empty = json!({"name": "a", "annotations": {}, "labels": {}, "finalizers": [], "ownerReferences": []});
    let (code, made) = server.json(Method::POST, MAPS, json!({"metadata": empty, "data": {}})).await;
    assert_eq!(code, 201);
    for name in ["annotations", "labels", "finalizers", "ownerReferences"] {
        assert_eq!(made["metadata"].get(name), None, "{name}");
    }
    assert_eq!(made.get("data"), None);
    let (_, _, bytes) = server
        .send(Method::PATCH, &format!("{MAPS}/a"), "application/merge-patch+json", r#"{"metadata": {"labels": {}, "annotations": {}}}"#)
        .await;
    let patched: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(patched["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"], "nothing is changed by what is not written");
    let container = |args: Value| json!({"name": "c", "image": "i", "args": args});
    let template = |args: Value| json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container(args)]}});
    let of =
        |args: Value| json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template(args)}});
    let base = "/apis/apps/v1/namespaces/default/deployments";
    let (_, made) = server.json(Method::POST, base, of(json!([]))).await;
    let (code, put) = server.json(Method::PUT, &format!("{base}/d"), of(json!([]))).await;
    assert_eq!((code, &put["metadata"]["generation"]), (200, &json!(1)), "an empty list is no change of the spec");
    let patch = json!({"spec": {"template": template(json!([]))}}).to_string();
    let (_, _, bytes) = server.send(Method::PATCH, &format!("{base}/d"), "application/merge-patch+json", &patch).await;
    let patched: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!((&patched["metadata"]["generation"], &patched["spec"]), (&json!(1), &made["spec"]));
}

#[tokio::test]
async fn autoscalers_are_one_object_in_both_versions() {
    let server = server().await;
    let path = |version: &str| format!("/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers");
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
    let spec = json!({"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 5, "targetCPUUtilizationPercentage": 50});
    let (code, made) = server.json(Method::POST, &path("v1"), json!({"metadata": {"name": "a"}, "spec": spec})).await;
    assert_eq!((code, &made["apiVersion"], &made["spec"]), (201, &json!("autoscaling/v1"), &spec), "{made}");
    let (_, seen) = server.json(Method::GET, &format!("{}/a", path("v2")), Value::Null).await;
    assert_eq!(seen["spec"]["metrics"][0]["resource"]["target"], json!({"type": "Utilization", "averageUtilization": 50}));
    let (code, metadata, bytes) = server
        .send(
            Method::PATCH,
            &format!("{}/a", path("v2")),
            "application/merge-patch+json",
            r#"{"spec": {"behavior": {"scaleDown": {"selectPolicy": "Disabled"}}}}"#,
        )
        .await;
    assert_eq!(code, 200, "{metadata:?} {bytes:?}");
    let (_, seen) = server.json(Method::GET, &format!("{}/a", path("v1")), Value::Null).await;
    let note = seen["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/behavior"].as_str().unwrap();
    let note: Value = serde_json::from_str(note).unwrap();
    assert_eq!(note["ScaleDown"]["SelectPolicy"], "Disabled");
}

#[tokio::test]
async fn lists_in_pages_and_by_selectors() {
    let server = server().await;
    let maps = server.config_maps();
    for name in ["a", "b", "c", "d", "e"] {
        maps.create(&PostParams::default(), &config_map(name, "1")).await.unwrap();
    }
    let names = |list: &kube::core::ObjectList<ConfigMap>| list.iter().map(ResourceExt::name_any).collect::<Vec<_>>().join("");
    let page = maps.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!((names(&page).as_str(), page.metadata.remaining_item_count), ("ab", Some(3)));
    maps.delete("c", &DeleteParams::default()).await.unwrap();
    let token = page.metadata.continue_.unwrap();
    let page = maps.list(&ListParams::default().limit(2).continue_token(&token)).await.unwrap();
    assert_eq!(names(&page), "cd", "later pages are of the same revision");
    let rest = maps.list(&ListParams::default().limit(2).continue_token(&page.metadata.continue_.unwrap())).await.unwrap();
    assert_eq!((names(&rest).as_str(), rest.metadata.continue_.as_deref()), ("e", None));
    assert_eq!(names(&maps.list(&ListParams::default().labels("app in (a,b)")).await.unwrap()), "ab");
    assert_eq!(names(&maps.list(&ListParams::default().fields("metadata.name!=a")).await.unwrap()), "bde");
    let refused = maps.list(&ListParams::default().fields("spec.x=1")).await.unwrap_err().to_string();
    assert!(refused.contains("field label not supported: spec.x"), "{refused}");
}

#[tokio::test]
async fn watches_see_every_change() {
    let server = server().await;
    let maps = server.config_maps();
    let first = maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    let from = first.resource_version().unwrap();
    let params = WatchParams::default().labels("app=a");
    let mut watch = maps.watch(&params, &from).await.unwrap().boxed();
    maps.create(&PostParams::default(), &config_map("b", "1")).await.unwrap();
    let change = Patch::Merge(json!({"data": {"key": "2"}}));
    maps.patch("a", &PatchParams::default(), &change).await.unwrap();
    let leave = Patch::Merge(json!({"metadata": {"labels": {"app": "z"}}}));
    maps.patch("a", &PatchParams::default(), &leave).await.unwrap();
    let come = Patch::Merge(json!({"metadata": {"labels": {"app": "a"}}}));
    maps.patch("a", &PatchParams::default(), &come).await.unwrap();
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(match watch.try_next().await.unwrap().unwrap() {
            WatchEvent::Added(o) => format!("+{}", o.name_any()),
            WatchEvent::Modified(o) => format!("~{}", o.name_any()),
            WatchEvent::Deleted(o) => format!("-{}", o.name_any()),
            other => format!("{other:?}"),
        });
    }
    assert_eq!(seen, ["~a", "-a", "+a", "-a"]);
}

#[tokio::test]
async fn watches_of_one_object_see_its_changes_alone() {
    let server = server().await;
    let maps = server.config_maps();
    let from = maps.create(&PostParams::default(), &config_map("b", "1")).await.unwrap().resource_version().unwrap();
    let mut watch = maps.watch(&WatchParams::default().fields("metadata.name=a"), &from).await.unwrap().boxed();
    let change = async {
        for name in ["c", "a"] {
            maps.create(&PostParams::default(), &config_map(name, "1")).await.unwrap();
        }
        for name in ["b", "a"] {
            maps.delete(name, &DeleteParams::default()).await.unwrap();
        }
    };
    let see = async {
        let added = watch.try_next().await.unwrap().unwrap();
        let deleted = watch.try_next().await.unwrap().unwrap();
        assert!(matches!((&added, &deleted), (WatchEvent::Added(a), WatchEvent::Deleted(b)) if a.name_any() == "a" && b.name_any() == "a"));
    };
    tokio::join!(see, change);
}

#[tokio::test]
async fn watch_lists_end_with_a_bookmark() {
    let server = server().await;
    let maps = server.config_maps();
    maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    let path = format!("{MAPS}?watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=1");
    tokio::time::pause();
    let (code, _, body) = server.send(Method::GET, &path, "", "").await;
    let lines: Vec<Value> = body.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect();
    assert_eq!((code, lines.len()), (200, 2));
    assert_eq!((lines[0]["type"].as_str(), lines[1]["type"].as_str()), (Some("ADDED"), Some("BOOKMARK")));
    assert_eq!(lines[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
}

#[tokio::test]
async fn pods_go_gracefully() {
    let server = server().await;
    let pods: Api<Pod> = Api::namespaced(server.client.clone(), "default");
    let pod = |name: &str, node: Option<&str>| -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
        }))
        .unwrap()
    };
    pods.create(&PostParams::default(), &pod("unbound", None)).await.unwrap();
    pods.delete("unbound", &DeleteParams::default()).await.unwrap();
    assert!(pods.get_opt("unbound").await.unwrap().is_none(), "a pod without a node goes at once");
    pods.create(&PostParams::default(), &pod("bound", Some("n"))).await.unwrap();
    pods.delete("bound", &DeleteParams::default()).await.unwrap();
    let leaving = pods.get("bound").await.unwrap();
    assert_eq!(leaving.metadata.deletion_grace_period_seconds, Some(30));
    pods.delete("bound", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert!(pods.get_opt("bound").await.unwrap().is_none());
}

#[tokio::test]
async fn finalizers_hold_objects() {
    let server = server().await;
    let maps = server.config_maps();
    let mut held = config_map("a", "1");
    held.metadata.finalizers = Some(vec!["example.com/hold".into()]);
    maps.create(&PostParams::default(), &held).await.unwrap();
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let leaving = maps.get("a").await.unwrap();
    assert!(leaving.metadata.deletion_timestamp.is_some());
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    maps.patch("a", &PatchParams::default(), &free).await.unwrap();
    assert!(maps.get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn namespaces_go_in_two_phases() {
    let server = server().await;
    let spaces: Api<Namespace> = Api::all(server.client.clone());
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        assert!(spaces.get_opt(name).await.unwrap().is_some(), "{name}");
    }
    let (code, made) = server.json(Method::POST, "/api/v1/namespaces", json!({"metadata": {"name": "x"}})).await;
    assert_eq!((code, &made["spec"]["finalizers"], &made["status"]["phase"]), (201, &json!(["kubernetes"]), &json!("Active")));
    let (code, leaving) = server.json(Method::DELETE, "/api/v1/namespaces/x", Value::Null).await;
    assert_eq!((code, &leaving["status"]["phase"]), (200, &json!("Terminating")));
    let (code, refused) = server.json(Method::DELETE, "/api/v1/namespaces/x", Value::Null).await;
    assert_eq!((code, refused["reason"].as_str()), (409, Some("Conflict")));
    let mut free = leaving.clone();
    free["spec"]["finalizers"] = json!([]);
    let (code, _) = server.json(Method::PUT, "/api/v1/namespaces/x/finalize", free).await;
    assert_eq!(code, 200);
    assert!(spaces.get_opt("x").await.unwrap().is_none());
}

#[tokio::test]
async fn dry_runs_change_nothing() {
    let server = server().await;
    let (code, made) = server.json(Method::POST, &format!("{MAPS}?dryRun=All"), json!({"metadata": {"name": "a"}})).await;
    assert_eq!((code, made["metadata"]["name"].as_str()), (201, Some("a")));
    assert_eq!(server.json(Method::GET, &format!("{MAPS}/a"), Value::Null).await.0, 404);
    server.json(Method::POST, MAPS, json!({"metadata": {"name": "a"}})).await;
    assert_eq!(server.json(Method::DELETE, &format!("{MAPS}/a?dryRun=All"), Value::Null).await.0, 200);
    assert_eq!(server.json(Method::GET, &format!("{MAPS}/a"), Value::Null).await.0, 200);
}

#[tokio::test]
async fn collections_are_deleted() {
    let server = server().await;
    let secrets: Api<Secret> = Api::namespaced(server.client.clone(), "default");
    for name in ["a", "b"] {
        let secret = Secret { metadata: config_map(name, "").metadata, ..Secret::default() };
        secrets.create(&PostParams::default(), &secret).await.unwrap();
    }
    secrets.delete_collection(&DeleteParams::default(), &ListParams::default().labels("app=a")).await.unwrap();
    let left = secrets.list(&ListParams::default()).await.unwrap();
    assert_eq!(left.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["b"]);
}

#[tokio::test]
async fn tables_metadata_and_yaml() {
    let server = server().await;
    server.json(Method::POST, MAPS, json!({"metadata": {"name": "a"}})).await;
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let (_, _, body) = server.ask(Method::GET, MAPS, &[("accept", accept)], "").await;
    let table: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&table["kind"], &table["columnDefinitions"][0]["name"]), (&json!("Table"), &json!("Name")));
    assert_eq!((&table["rows"][0]["cells"][0], &table["rows"][0]["object"]["kind"]), (&json!("a"), &json!("PartialObjectMetadata")));
    let accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let (_, _, body) = server.ask(Method::GET, MAPS, &[("accept", accept)], "").await;
    let list: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&list["kind"], &list["items"][0]["metadata"]["name"]), (&json!("PartialObjectMetadataList"), &json!("a")));
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: b\ndata:\n  mode: \"0644\"\n";
    let headers = [("content-type", "application/yaml"), ("accept", "application/yaml")];
    let (code, headers, body) = server.ask(Method::POST, MAPS, &headers, yaml).await;
    assert_eq!((code, headers["content-type"].to_str().unwrap()), (201, "application/yaml"));
    assert!(std::str::from_utf8(&body).unwrap().contains("mode: \"0644\""), "{body:?}");
}

#[tokio::test]
async fn names_are_generated() {
    let server = server().await;
    let (code, made) = server.json(Method::POST, MAPS, json!({"metadata": {"generateName": "a-"}})).await;
    let name = made["metadata"]["name"].as_str().unwrap();
    assert_eq!((code, name.len(), name.starts_with("a-")), (201, 7, true));
}

#[tokio::test]
async fn scale_changes_replicas() {
    let server = server().await;
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let base = "/apis/apps/v1/namespaces/default/deployments";
    let (code, made) = server.json(Method::POST, base, deployment).await;
    assert_eq!((code, &made["spec"]["replicas"], &made["metadata"]["generation"]), (201, &json!(1), &json!(1)), "{made}");
    let (_, mut scale) = server.json(Method::GET, &format!("{base}/d/scale"), Value::Null).await;
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"], &scale["status"]["selector"]), (&json!("Scale"), &json!(1), &json!("a=b")));
    scale["spec"]["replicas"] = json!(3);
    let (code, _) = server.json(Method::PUT, &format!("{base}/d/scale"), scale).await;
    assert_eq!(code, 200);
    let (_, seen) = server.json(Method::GET, &format!("{base}/d"), Value::Null).await;
    assert_eq!((&seen["spec"]["replicas"], &seen["metadata"]["generation"]), (&json!(3), &json!(2)));
}

#[tokio::test]
async fn bindings_give_pods_their_node() {
    let server = server().await;
    let base = "/api/v1/namespaces/default/pods";
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    assert_eq!(server.json(Method::POST, base, pod).await.0, 201);
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    let (code, done) = server.json(Method::POST, &format!("{base}/p/binding"), binding.clone()).await;
    assert_eq!((code, &done["status"]), (201, &json!("Success")), "{done}");
    let (_, seen) = server.json(Method::GET, &format!("{base}?fieldSelector=spec.nodeName%3Dn"), Value::Null).await;
    let meta = &seen["items"][0]["metadata"];
    assert_eq!((&meta["name"], &meta["generation"]), (&json!("p"), &json!(1)), "a binding is no change of what is wanted");
    let (code, refused) = server.json(Method::POST, &format!("{base}/p/binding"), binding).await;
    assert_eq!((code, refused["reason"].as_str()), (409, Some("Conflict")));
}

#[tokio::test]
async fn discovery_and_health() {
    let server = server().await;
    let (_, list) = server.json(Method::GET, "/api/v1", Value::Null).await;
    let names: Vec<&str> = list["resources"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"pods") && names.contains(&"pods/status"), "{names:?}");
    let accept = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];
    let (code, headers, _) = server.ask(Method::GET, "/apis", &accept, "").await;
    let etag = headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(code, 200);
    let again = [accept[0], ("if-none-match", etag.as_str())];
    assert_eq!(server.ask(Method::GET, "/apis", &again, "").await.0, 304);
    for path in ["/healthz", "/livez", "/readyz", "/readyz/ping"] {
        let (code, _, body) = server.send(Method::GET, path, "", "").await;
        assert_eq!((code, body.as_ref()), (200, b"ok".as_ref()), "{path}");
    }
    let (_, version) = server.json(Method::GET, "/version", Value::Null).await;
    assert_eq!(version["gitVersion"], "v1.36.0");
    let (_, _, metrics) = server.send(Method::GET, "/metrics", "", "").await;
    assert!(std::str::from_utf8(&metrics).unwrap().contains("apiserver_request_total"));
}

#[tokio::test]
async fn services_get_addresses_and_keep_them() {
    let server = server().await;
    let base = "/api/v1/namespaces/default/services";
    let (_, own) = server.json(Method::GET, &format!("{base}/kubernetes"), Value::Null).await;
    assert_eq!((&own["spec"]["clusterIP"], &own["spec"]["ports"][0]["port"]), (&json!("10.96.0.1"), &json!(443)), "{own}");
    let wanted =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
    let (code, made) = server.json(Method::POST, base, wanted.clone()).await;
    assert_eq!(code, 201, "{made}");
    let (ip, port) = (&made["spec"]["clusterIP"], &made["spec"]["ports"][0]["nodePort"]);
    assert!(ip.as_str().unwrap().starts_with("10.") && port.as_i64().unwrap() >= 30000, "{made}");
    let (code, same) = server.json(Method::PUT, &format!("{base}/s"), wanted).await;
    assert_eq!((code, &same["spec"]), (200, &made["spec"]), "an update without them keeps them");
    let to_plain = r#"{"spec":{"type":"ClusterIP"}}"#;
    let (code, _, body) = server.send(Method::PATCH, &format!("{base}/s"), "application/merge-patch+json", to_plain).await;
    let plain: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((code, &plain["spec"]["clusterIP"], &plain["spec"]["ports"][0]["nodePort"]), (200, ip, &Value::Null), "{plain}");
}

#[tokio::test]
async fn protobuf_goes_in_and_out() {
    let server = server().await;
    let json = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
    let body = kinds::proto::from_value(&json).unwrap();
    const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
    let request = Request::builder().method(Method::POST).uri(MAPS).header("content-type", PROTOBUF).header("accept", PROTOBUF);
    let response = server.service.clone().oneshot(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap();
    let (code, kind) = (response.status().as_u16(), response.headers()["content-type"].clone());
    let made = kinds::proto::to_value(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!((code, kind.to_str().unwrap(), &made["data"]), (201, PROTOBUF, &json!({"k": "v"})));
    let (_, _, body) = server.ask(Method::GET, MAPS, &[("accept", PROTOBUF)], "").await;
    assert_eq!(kinds::proto::to_value(&body).unwrap()["items"][0]["metadata"]["name"], "a");
}
