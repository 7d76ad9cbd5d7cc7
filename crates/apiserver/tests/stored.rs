//! A store that upstream's API server filled: its keys, its protobuf, its versions; and under `make spec` its objects of every kind.

#![allow(clippy::unwrap_used)] // All of this file is tests.

use std::path::PathBuf;
use std::sync::Arc;

use apiserver::{ApiServer, Options, Service};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use serde_json::{Value, json};
use store::{Engine, EngineOptions, Kv, PutRequest};
use tower::ServiceExt;

/// A server over a store that held these keys before it started.
async fn server(objects: Vec<(String, Vec<u8>)>, tasks: &base::Tasks) -> (Service, Engine) {
    let engine = Engine::in_memory(EngineOptions::default(), tasks);
    for (key, value) in objects {
        engine.put(PutRequest::new(key, value)).await.unwrap();
    }
    let server = ApiServer::for_tests(Options::default(), Arc::new(engine.clone())).unwrap();
    server.start(tasks).await.unwrap();
    (server.service(), engine)
}

async fn get(service: &Service, path: &str) -> (u16, Value) {
    let request = Request::builder().uri(path).header("accept", "application/json").body(Empty::<Bytes>::new()).unwrap();
    let response = service.clone().oneshot(request).await.unwrap();
    let code = response.status().as_u16();
    (code, serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap())
}

#[tokio::test]
async fn protobuf_is_listed_read_and_watched() {
    let tasks = base::Tasks::new();
    let map = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "n", "uid": "u", "labels": {"a": "b"}}, "data": {"k": "v"}});
    let pb = |name: &str| (format!("/registry/configmaps/n/{name}"), kinds::proto::from_value(&map(name)).unwrap());
    let (service, engine) = server(vec![pb("a"), pb("b")], &tasks).await;
    let (code, list) = get(&service, "/api/v1/namespaces/n/configmaps?labelSelector=a%3Db").await;
    assert_eq!((code, list["items"].as_array().unwrap().len(), &list["items"][1]["data"]["k"]), (200, 2, &json!("v")), "{list}");
    let (code, one) = get(&service, "/api/v1/namespaces/n/configmaps/a").await;
    assert_eq!((code, &one["metadata"]["resourceVersion"], &one["data"]["k"]), (200, &json!("2"), &json!("v")));
    let (_, past) = get(&service, "/api/v1/namespaces/n/configmaps?resourceVersion=2&resourceVersionMatch=Exact").await;
    assert_eq!(past["items"].as_array().unwrap().len(), 1, "{past}");
    let (key, value) = pb("c");
    let revision = engine.put(PutRequest::new(key, value)).await.unwrap();
    let (_, seen) = get(&service, &format!("/api/v1/namespaces/n/configmaps/c?resourceVersion={revision}")).await;
    assert_eq!(seen["data"]["k"], "v", "it came through the watch");
    tasks.stop();
}

/// What is not at rest here, and what a server fills in for the asker.
fn at_rest(mut object: Value) -> Value {
    for name in ["resourceVersion", "selfLink"] {
        object["metadata"].as_object_mut().unwrap().remove(name);
    }
    object
}

#[tokio::test]
#[ignore = "needs OXIKUBE_SPEC"]
async fn spec_objects_of_every_kind_are_served() {
    let folder = PathBuf::from(std::env::var_os("OXIKUBE_SPEC").expect("OXIKUBE_SPEC names the folder with upstream's data"));
    let folder = if folder.join("v1.36").is_dir() { folder.join("v1.36") } else { folder };
    let tasks = base::Tasks::new();
    let (mut objects, mut expected, mut paths) = (Vec::new(), Vec::new(), Vec::new());
    for row in kinds::rows() {
        let info = row.info();
        // The other versions of what is stored are converted: not what upstream stores.
        if info.storage_prefix.is_empty()
            || info.stored_as.is_some()
            || ["apiregistration.k8s.io", "apiextensions.k8s.io"].contains(&info.group)
        {
            continue;
        }
        let group = if info.group.is_empty() { "core" } else { info.group };
        let sample = folder.join(format!("objects/{group}.{}.{}.pb", info.version, info.kind));
        let value = std::fs::read(&sample).unwrap_or_else(|error| panic!("{}: {error}", sample.display()));
        let object: Value = serde_json::from_slice(&std::fs::read(sample.with_extension("json")).unwrap()).unwrap();
        let name = format!("{}-{}", info.group, info.version);
        let place = if info.is_namespaced() { "namespaceValue/" } else { "" };
        objects.push((format!("/registry/{}/{place}{name}", info.storage_prefix), value));
        let root = if info.group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{}/{}", info.group, info.version) };
        let scope = if info.is_namespaced() { "/namespaces/namespaceValue" } else { "" };
        paths.push(format!("{root}{scope}/{}/{name}?resourceVersion=0", info.resource));
        expected.push(at_rest(object));
    }
    let (service, _engine) = server(objects, &tasks).await;
    let mut wrong = Vec::new();
    for (path, expected) in paths.iter().zip(expected) {
        let (code, found) = get(&service, path).await;
        if code != 200 {
            wrong.push(format!("{path}: {code} {}", found["message"]));
        } else if at_rest(found.clone()) != expected {
            wrong.push(format!("{path}:\n{}\ninstead of\n{expected}", at_rest(found)));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), paths.len(), wrong.join("\n"));
    tasks.stop();
}
