//! A server of scripted answers, for tests of clients: the first request gets the first answer, and so on. Must not be used outside tests.

use std::collections::HashMap;
use std::sync::Arc;

use http::{Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tower::BoxError;

/// Cheap to clone. A request after the last answer waits for ever.
#[derive(Clone)]
pub struct Script {
    shared: Arc<Shared>,
}

struct Shared {
    answers: Vec<String>,
    codes: Mutex<HashMap<usize, u16>>,
    requests: Mutex<Vec<String>>,
    used_up: Notify,
}

impl Script {
    pub fn new(answers: impl IntoIterator<Item = String>) -> Self {
        let shared =
            Shared { answers: answers.into_iter().collect(), codes: Mutex::default(), requests: Mutex::default(), used_up: Notify::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Makes the answer with this index fail with an HTTP code.
    pub fn code(&self, index: usize, code: u16) {
        self.shared.codes.lock().insert(index, code);
    }

    /// The requests so far: method, path and query, body.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().clone()
    }

    /// Resolves when there was a request after the last answer.
    pub async fn used_up(&self) {
        self.shared.used_up.notified().await;
    }

    pub fn client(&self) -> Client {
        let shared = self.shared.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let shared = shared.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let text = format!("{} {} {}", parts.method, parts.uri, String::from_utf8_lossy(&body));
                let index = {
                    let mut requests = shared.requests.lock();
                    requests.push(text.trim_end().to_owned());
                    requests.len() - 1
                };
                let Some(answer) = shared.answers.get(index) else {
                    shared.used_up.notify_one();
                    return std::future::pending().await;
                };
                let code = shared.codes.lock().get(&index).copied().unwrap_or(200);
                Ok::<_, BoxError>(Response::builder().status(code).body(Body::from(answer.clone().into_bytes()))?)
            }
        });
        Client::new(service, "default")
    }
}

/// One line of a watch.
pub fn event(kind: &str, object: Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

pub fn initial_events_end(revision: u64) -> String {
    let meta = json!({"resourceVersion": revision.to_string(), "annotations": {"k8s.io/initial-events-end": "true"}});
    event("BOOKMARK", json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": meta}))
}

pub fn config_map(name: &str, revision: u64) -> Value {
    json!({"kind": "ConfigMap", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "resourceVersion": revision.to_string()}})
}

pub fn status(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": reason, "reason": reason, "code": code})
}
