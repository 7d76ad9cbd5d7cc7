//! The few plain HTTP paths of etcd: health, version, metrics (server/etcdserver/api/etcdhttp). Everything else is gRPC's, the gateway's or 404.

use http::{Method, Request, Response, StatusCode, header};
use store::{KeyRange, Kv, KvError, RangeRequest};
use tonic::body::Body;

use super::alarms;
use super::core::Core;
use super::metrics::{self, Format};
use crate::{ETCD_VERSION, pb};

/// What `/livez` and `/readyz` look at.
#[derive(Clone, Copy)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
}

const LIVEZ: &[Check] = &[Check::SerializableRead];
const READYZ: &[Check] = &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead];

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
        }
    }

    async fn run(self, core: &Core) -> Result<(), String> {
        match self {
            Self::DataCorruption => {
                let alarms = alarms::active(core).await.map_err(|error| error.to_string())?;
                let corrupt = i32::from(pb::AlarmType::Corrupt);
                if alarms.iter().any(|alarm| alarm.alarm == corrupt) { Err("alarm activated: CORRUPT".into()) } else { Ok(()) }
            }
            Self::SerializableRead => read(core, true).await.map_err(|error| format!("range error: {error}")),
            Self::LinearizableRead => read(core, false).await.map_err(|error| format!("range error: {error}")),
        }
    }
}

/// Answers `GET path?query`.
pub async fn serve<B>(core: &Core, request: &Request<B>) -> Response<Body> {
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    let (root, name) = path[1.min(path.len())..].split_once('/').map_or((path, None), |(root, name)| (&path[..=root.len()], Some(name)));
    let checks = match (root, name) {
        ("/livez", _) => LIVEZ,
        ("/readyz", _) => READYZ,
        ("/health" | "/version" | "/metrics", None) => &[],
        _ => return not_found(),
    };
    if request.method() != Method::GET {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
        response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET"));
        return response;
    }
    match root {
        "/health" => health(core, query).await,
        "/version" => {
            let cluster = ETCD_VERSION.rsplit_once('.').map_or(ETCD_VERSION, |(minor, _)| minor);
            let body = format!("{{\"etcdserver\":\"{ETCD_VERSION}\",\"etcdcluster\":\"{cluster}.0\"}}");
            answer(StatusCode::OK, "application/json", body)
        }
        "/metrics" => {
            let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
            let format = Format::accepted(accept);
            match metrics::page(core, format).await {
                Ok(body) => answer(StatusCode::OK, format.content_type(), body),
                Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
            }
        }
        _ => {
            let excluded = |check: &&Check| !values(query, "exclude").any(|name| name == check.name());
            let checks: Vec<_> = match name {
                None => checks.iter().filter(excluded).collect(),
                Some(name) => checks.iter().filter(|check| check.name() == name).collect(),
            };
            if name.is_some() && checks.is_empty() {
                return not_found();
            }
            run(core, &checks, query).await
        }
    }
}

/// Runs checks; a failed one or `?verbose` shows them all.
async fn run(core: &Core, checks: &[&Check], query: &str) -> Response<Body> {
    let (mut report, mut failed) = (String::new(), false);
    for check in checks {
        match check.run(core).await {
            Ok(()) => report += &format!("[+]{} ok\n", check.name()),
            Err(reason) => {
                failed = true;
                report += &format!("[-]{} failed: {reason}\n", check.name());
            }
        }
    }
    if failed {
        tracing::warn!(report, "a health check failed");
        return text(StatusCode::SERVICE_UNAVAILABLE, report + "\n");
    }
    if values(query, "verbose").next().is_none() {
        report.clear();
    }
    text(StatusCode::OK, report + "ok\n")
}

/// An alarm, no leader, or a read that fails makes it false.
async fn health(core: &Core, query: &str) -> Response<Body> {
    let serializable = values(query, "serializable").next() == Some("true");
    let reason = match ill(core, query, serializable).await {
        Ok(reason) => reason,
        Err(error) => format!("RANGE ERROR:{error}"),
    };
    let healthy = reason.is_empty();
    if healthy {
        core.metrics.healthy.inc();
    } else {
        core.metrics.unhealthy.inc();
        tracing::warn!(reason, "/health says no");
    }
    let body = format!("{{\"health\":\"{healthy}\",\"reason\":{}}}", serde_json::Value::from(reason));
    if healthy { answer(StatusCode::OK, "application/json", body) } else { text(StatusCode::SERVICE_UNAVAILABLE, body + "\n") }
}

/// Why a member is not healthy; empty where it is.
async fn ill(core: &Core, query: &str, serializable: bool) -> Result<String, KvError> {
    for alarm in alarms::active(core).await? {
        let name = pb::AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |kind| kind.as_str_name());
        if !values(query, "exclude").any(|excluded| excluded == name) {
            return Ok(format!("ALARM {name}"));
        }
    }
    if !serializable && core.engine.raft_status().is_some_and(|raft| raft.leader == 0) {
        return Ok("RAFT NO LEADER".to_owned());
    }
    read(core, serializable).await?;
    Ok(String::new())
}

async fn read(core: &Core, serializable: bool) -> Result<(), KvError> {
    // Whoever asks for health need not be a user.
    let engine = core.own_engine();
    let request = RangeRequest { limit: 1, keys_only: true, serializable, ..RangeRequest::new(KeyRange::one("health")) };
    engine.range(request).await.map(|_| ())
}

/// The values of a parameter; one without `=` has an empty one.
fn values<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    query.split('&').filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

fn not_found() -> Response<Body> {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
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
