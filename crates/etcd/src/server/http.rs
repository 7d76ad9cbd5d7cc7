//! The few plain HTTP paths of etcd: health, version, metrics. Everything else is gRPC's or 404.

use http::{Method, Request, Response, StatusCode, header};
use store::{KeyRange, Kv, RangeRequest};
use tonic::body::Body;

use super::core::Core;
use super::metrics::Observed;
use crate::ETCD_VERSION;

/// Answers `GET path?query`.
pub async fn serve<B>(core: &Core, request: &Request<B>) -> Response<Body> {
    let (method, path, query) = (request.method(), request.uri().path(), request.uri().query().unwrap_or_default());
    let known = matches!(path, "/health" | "/livez" | "/readyz" | "/version" | "/metrics");
    if known && method != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    }
    match path {
        "/health" => health(core, query).await,
        "/livez" => check(core, true).await,
        "/readyz" => check(core, false).await,
        "/version" => {
            let cluster = ETCD_VERSION.rsplit_once('.').map_or(ETCD_VERSION, |(minor, _)| minor);
            json(StatusCode::OK, &serde_json::json!({ "etcdserver": ETCD_VERSION, "etcdcluster": format!("{cluster}.0") }))
        }
        "/metrics" => metrics(core).await,
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

/// server/etcdserver/api/etcdhttp/health.go: an alarm or a read that fails makes it false.
async fn health(core: &Core, query: &str) -> Response<Body> {
    let excluded = query.split('&').any(|pair| pair == "exclude=NOSPACE");
    let reason = match core.is_full().await {
        Ok(true) if !excluded => "ALARM NOSPACE".to_owned(),
        Ok(_) => match read(core).await {
            Ok(()) => String::new(),
            Err(error) => format!("RANGE ERROR:{error}"),
        },
        Err(error) => format!("ALARM ERROR:{error}"),
    };
    let healthy = reason.is_empty();
    let code = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(code, &serde_json::json!({ "health": healthy.to_string(), "reason": reason }))
}

async fn check(core: &Core, serializable: bool) -> Response<Body> {
    match read(core).await {
        Ok(()) => text(StatusCode::OK, "ok\n"),
        Err(error) => {
            let name = if serializable { "serializable_read" } else { "linearizable_read" };
            text(StatusCode::SERVICE_UNAVAILABLE, format!("[-]{name} failed: {error}\n"))
        }
    }
}

async fn read(core: &Core) -> Result<(), store::KvError> {
    core.engine.range(RangeRequest { limit: 1, keys_only: true, ..RangeRequest::new(KeyRange::one("health")) }).await.map(|_| ())
}

async fn metrics(core: &Core) -> Response<Body> {
    let (status, leases) = match (core.engine.status().await, core.engine.leases().await) {
        (Ok(status), Ok(leases)) => (status, leases.len()),
        (Err(error), _) | (_, Err(error)) => return text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    };
    let observed = Observed {
        db_size: status.db_size,
        db_size_in_use: status.db_size_in_use,
        quota_bytes: core.quota_bytes,
        revision: status.revision,
        compact_revision: status.compact_revision,
        applied: core.engine.applied_index(),
        leases,
    };
    match core.metrics.encode(&observed) {
        Ok(body) => answer(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn json(code: StatusCode, value: &serde_json::Value) -> Response<Body> {
    answer(code, "application/json", value.to_string())
}

pub fn text(code: StatusCode, body: impl Into<String>) -> Response<Body> {
    answer(code, "text/plain; charset=utf-8", body.into())
}

pub fn answer(code: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::new(http_body_util::Full::new(bytes::Bytes::from(body))));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}
