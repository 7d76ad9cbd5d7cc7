//! What the server says about itself: groups, versions, resources, health, version, metrics, keys. All documents are made once from the table.

mod documents;
pub mod health;
mod openapi;

use std::sync::Arc;

use api::StatusError;
use bytes::Bytes;
use http::header::{ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use http::{Request, Response};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::pipeline::Core;
use crate::table::Table;
use crate::transport::body::Body;
use crate::transport::negotiate::View;
use crate::transport::query::Query;
use crate::transport::response::{self, no_such_page};

pub const GIT_VERSION: &str = "v1.36.0";
const PLATFORM: &str = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// A document with its ETag.
pub struct Document {
    body: Bytes,
    etag: HeaderValue,
}

impl Document {
    fn new(value: &Value) -> Self {
        let body = Bytes::from(value.to_string());
        let etag = format!("\"{}\"", hex(&Sha256::digest(&body)));
        Self { etag: HeaderValue::from_str(&etag).expect("hex is a header value"), body }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02X}")).collect()
}

pub struct Discovery {
    table: Arc<Table>,
    /// `/api` and `/apis` as one aggregated list each.
    core: Document,
    groups: Document,
    openapi: Arc<openapi::OpenApi>,
}

impl Discovery {
    pub fn new(table: Arc<Table>) -> Self {
        Self {
            core: Document::new(&documents::aggregated(&table, true)),
            groups: Document::new(&documents::aggregated(&table, false)),
            openapi: Arc::default(),
            table,
        }
    }
}

pub async fn serve(core: Arc<Core>, request: Request<()>) -> Result<Response<Body>, StatusError> {
    let (core, request) = (&core, &request);
    let path = request.uri().path();
    let query = Query::parse(request.uri().query());
    let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
    match path {
        "/healthz" | "/livez" | "/readyz" => return Ok(core.health.serve(core, path, None, &query)),
        "/version" => return json(request, &query, &version()),
        "/metrics" => {
            let text = core.metrics.text().map_err(StatusError::internal)?;
            let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
            return Ok(response::respond(200, kind, text));
        }
        "/.well-known/openid-configuration" => return key_document(core.auth.tokens.openid_configuration(), "application/json"),
        "/openid/v1/jwks" => return key_document(core.auth.tokens.jwks(), "application/jwk-set+json"),
        "/" => return json(request, &query, &documents::paths(&core.table)),
        "/api" | "/apis" if wants_aggregated(request) => {
            let document = if path == "/api" { &core.discovery.core } else { &core.discovery.groups };
            return Ok(aggregated(request, document));
        }
        "/api" => return json(request, &query, &documents::core_versions(&core.options)),
        "/apis" => return json(request, &query, &documents::groups(&core.table)),
        _ => {}
    }
    if let Some((root, check)) = path[1..].split_once('/').filter(|(root, _)| matches!(*root, "healthz" | "livez" | "readyz")) {
        return Ok(core.health.serve(core, &format!("/{root}"), Some(check), &query));
    }
    if path.starts_with("/openapi/") {
        return core.discovery.openapi.serve(request, path).await;
    }
    let found = if let Some(version) = path.strip_prefix("/api/") {
        documents::resources(&core.discovery.table, "", version)
    } else if let Some(rest) = path.strip_prefix("/apis/") {
        match rest.split_once('/') {
            Some((group, version)) => documents::resources(&core.discovery.table, group, version),
            None => documents::group(&core.discovery.table, rest),
        }
    } else {
        None
    };
    match found {
        Some(document) => json(request, &query, &document),
        None => Ok(no_such_page()),
    }
}

fn json(request: &Request<()>, query: &Query, value: &Value) -> Result<Response<Body>, StatusError> {
    let view = View::negotiate(request.headers(), query, |_| false).unwrap_or(View::JSON);
    let pretty = if view.pretty { serde_json::to_vec_pretty(value) } else { serde_json::to_vec(value) };
    Ok(response::json(200, pretty.map_err(StatusError::internal)?))
}

fn key_document(document: Option<Bytes>, content_type: &'static str) -> Result<Response<Body>, StatusError> {
    Ok(document.map_or_else(no_such_page, |body| response::respond(200, HeaderValue::from_static(content_type), body)))
}

fn wants_aggregated(request: &Request<()>) -> bool {
    let accept = request.headers().get(http::header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    accept.split(',').any(|clause| {
        let mut parts = clause.split(';').map(str::trim);
        parts.next() == Some("application/json") && {
            let parameters: Vec<&str> = parts.collect();
            ["g=apidiscovery.k8s.io", "v=v2", "as=APIGroupDiscoveryList"].iter().all(|p| parameters.contains(p))
        }
    })
}

fn aggregated(request: &Request<()>, document: &Document) -> Response<Body> {
    let fresh = request.headers().get(IF_NONE_MATCH).is_some_and(|tag| *tag == document.etag);
    let kind = HeaderValue::from_static(AGGREGATED);
    let mut response =
        if fresh { response::respond(304, kind, Body::empty()) } else { response::respond(200, kind, document.body.clone()) };
    response.headers_mut().insert(ETAG, document.etag.clone());
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    response
}

fn version() -> Value {
    serde_json::json!({
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": PLATFORM,
    })
}
