//! A stand-in for the API server, in memory: enough of get, list, watch, create, update, patch and delete for a kubelet. No defaults, no validation.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use client::{Client, InProcessUser};
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::broadcast;

#[derive(Default)]
struct Store {
    objects: BTreeMap<String, Value>,
    revision: u64,
}

/// The objects by path, such as `/api/v1/namespaces/default/pods/web`.
#[derive(Clone)]
pub struct FakeApi {
    store: Arc<Mutex<Store>>,
    /// Held from a read to the write that builds on it.
    writing: Arc<Mutex<()>>,
    events: broadcast::Sender<(String, Value)>,
}

type Body = BoxBody<Bytes, Infallible>;

impl FakeApi {
    pub fn new() -> Self {
        Self { store: Arc::default(), writing: Arc::default(), events: broadcast::channel(4096).0 }
    }

    pub fn client(&self) -> Client {
        let this = self.clone();
        let service = tower::service_fn(move |request| {
            let this = this.clone();
            async move { Ok::<_, Infallible>(this.answer(request).await) }
        });
        client::in_process(service, InProcessUser::new("system:node:test", &["system:nodes"]))
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        self.store.lock().objects.get(path).cloned()
    }

    /// Every object whose path contains `part`.
    pub fn find(&self, part: &str) -> Vec<Value> {
        self.store.lock().objects.iter().filter(|(path, _)| path.contains(part)).map(|(_, object)| object.clone()).collect()
    }

    /// Creates or replaces an object as a user would.
    pub fn put(&self, path: &str, mut object: Value) {
        let kind = {
            let mut store = self.store.lock();
            store.revision += 1;
            let revision = store.revision;
            let old = store.objects.get(path).cloned();
            let name = path.rsplit('/').next().unwrap_or_default().to_owned();
            let meta = &mut object["metadata"];
            meta["name"] = json!(name);
            meta["resourceVersion"] = json!(revision.to_string());
            if let Some(namespace) = path.split("/namespaces/").nth(1).and_then(|rest| rest.split_once('/')) {
                meta["namespace"] = json!(namespace.0);
            }
            if meta["uid"].is_null() {
                let old_uid = old.as_ref().map(|old| old["metadata"]["uid"].clone());
                meta["uid"] = old_uid.unwrap_or_else(|| json!(uuid::Uuid::new_v4().to_string()));
            }
            store.objects.insert(path.to_owned(), object.clone());
            if old.is_some() { "MODIFIED" } else { "ADDED" }
        };
        self.tell(path, kind, object);
    }

    /// What `kubectl delete` does to a pod: with a grace period it only marks it.
    pub fn delete(&self, path: &str, grace: i64) {
        let _writing = self.writing.lock();
        let Some(mut object) = self.get(path) else { return };
        if grace > 0 {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            object["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
            return self.put(path, object);
        }
        self.store.lock().objects.remove(path);
        self.tell(path, "DELETED", object);
    }

    fn tell(&self, path: &str, kind: &str, object: Value) {
        drop(self.events.send((path.to_owned(), json!({"type": kind, "object": object}))));
    }

    async fn answer(&self, request: Request<kube::client::Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().trim_end_matches('/').to_owned();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let sent: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        match parts.method {
            Method::GET if query.contains("watch=true") => self.watch(&path, &query),
            Method::GET => match self.get(&path) {
                Some(object) => reply(StatusCode::OK, &object),
                None if is_collection(&path) => self.list(&path, &query),
                None => not_found(&path),
            },
            Method::POST if path.ends_with("/token") => {
                let status = json!({"token": "t0ken", "expirationTimestamp": "2099-01-01T00:00:00Z"});
                reply(
                    StatusCode::CREATED,
                    &json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": sent["spec"], "status": status}),
                )
            }
            Method::POST => {
                let full = format!("{path}/{}", sent["metadata"]["name"].as_str().unwrap_or("generated"));
                if self.get(&full).is_some() {
                    return status(StatusCode::CONFLICT, "AlreadyExists");
                }
                self.put(&full, sent);
                reply(StatusCode::CREATED, &self.get(&full).unwrap_or_default())
            }
            Method::PUT => {
                self.put(&path, sent);
                reply(StatusCode::OK, &self.get(&path).unwrap_or_default())
            }
            Method::PATCH => {
                let path = path.trim_end_matches("/status");
                let _writing = self.writing.lock();
                let Some(mut object) = self.get(path) else { return not_found(path) };
                if !sent["metadata"]["uid"].is_null() && sent["metadata"]["uid"] != object["metadata"]["uid"] {
                    return status(StatusCode::CONFLICT, "Conflict");
                }
                merge(&mut object, sent);
                self.put(path, object);
                reply(StatusCode::OK, &self.get(path).unwrap_or_default())
            }
            Method::DELETE => {
                let object = self.get(&path);
                self.delete(&path, sent["gracePeriodSeconds"].as_i64().unwrap_or(30));
                object.map_or_else(|| not_found(&path), |object| reply(StatusCode::OK, &object))
            }
            _ => status(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        }
    }

    fn selected(&self, collection: &str, query: &str) -> Vec<Value> {
        let store = self.store.lock();
        let all = store.objects.iter().filter(|(path, _)| belongs(path, collection));
        all.map(|(_, object)| object.clone()).filter(|object| wanted(object, query)).collect()
    }

    fn list(&self, path: &str, query: &str) -> Response<Body> {
        let items = self.selected(path, query);
        let revision = self.store.lock().revision.max(1).to_string();
        reply(StatusCode::OK, &json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": revision}, "items": items}))
    }

    fn watch(&self, path: &str, query: &str) -> Response<Body> {
        if query.contains("sendInitialEvents=true") {
            // As a server without streaming lists: clients fall back to list and watch.
            return status(StatusCode::UNPROCESSABLE_ENTITY, "Invalid");
        }
        let since: u64 = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion=")?.parse().ok()).unwrap_or(0);
        let receiver = self.events.subscribe();
        // What changed between the list and this watch.
        let missed: Vec<Value> = self
            .selected(path, query)
            .into_iter()
            .filter(|object| object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) > since)
            .map(|object| json!({"type": "MODIFIED", "object": object}))
            .collect();
        let (path, query) = (path.to_owned(), query.to_owned());
        let live =
            futures::stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.ok().map(|event| (event, receiver)) })
                .filter_map(move |(object_path, event)| {
                    let hit = belongs(&object_path, &path) && wanted(&event["object"], &query);
                    async move { hit.then_some(event) }
                });
        let frames = futures::stream::iter(missed).chain(live).map(|event| Ok(Frame::data(Bytes::from(format!("{event}\n")))));
        Response::new(BodyExt::boxed(StreamBody::new(frames)))
    }
}

fn belongs(path: &str, collection: &str) -> bool {
    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    if parent == collection {
        return true;
    }
    let (Some((root, resource)), Some((before, rest))) = (collection.rsplit_once('/'), parent.split_once("/namespaces/")) else {
        return false;
    };
    before == root && rest.split_once('/').is_some_and(|(_, kind)| kind == resource)
}

fn is_collection(path: &str) -> bool {
    ["pods", "nodes", "services", "configmaps", "secrets", "leases"].iter().any(|name| path.ends_with(name))
}

fn wanted(object: &Value, query: &str) -> bool {
    let selector = query.split('&').find_map(|pair| pair.strip_prefix("fieldSelector=")).unwrap_or_default().replace("%3D", "=");
    match selector.split_once('=') {
        Some(("spec.nodeName", node)) => object["spec"]["nodeName"] == node,
        Some(("metadata.name", name)) => object["metadata"]["name"] == name,
        _ => true,
    }
}

/// A rough strategic merge: maps deeply, conditions by type, other lists replaced.
fn merge(into: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else { return *into = patch };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in patch {
        match value {
            Value::Null => drop(into.as_object_mut().map(|map| map.remove(&key))),
            Value::Array(list) if key == "conditions" => {
                let mut all: Vec<Value> = into[&key].as_array().cloned().unwrap_or_default();
                for condition in list {
                    all.retain(|old| old["type"] != condition["type"]);
                    all.push(condition);
                }
                into[&key] = Value::Array(all);
            }
            Value::Array(list) => into[&key] = list.into_iter().filter(|entry| entry["$patch"].is_null()).collect(),
            value => merge(&mut into[&key], value),
        }
    }
}

fn reply(code: StatusCode, value: &Value) -> Response<Body> {
    let body = http_body_util::Full::new(Bytes::from(value.to_string())).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}

fn status(code: StatusCode, reason: &str) -> Response<Body> {
    reply(
        code,
        &json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": reason, "message": reason, "code": code.as_u16()}),
    )
}

fn not_found(path: &str) -> Response<Body> {
    reply(
        StatusCode::NOT_FOUND,
        &json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "NotFound", "message": format!("{path} not found"), "code": 404}),
    )
}
