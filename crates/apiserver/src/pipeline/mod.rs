//! The one pipeline: authenticate, authorize, limit, then a function per verb. Must not know single kinds.

mod body;
mod call;
mod convert;
mod create;
mod delete;
mod encode;
mod get;
mod limit;
mod list;
mod ownership;
mod patch;
mod review;
mod route;
mod select;
mod sub;
mod update;
mod watch;
mod write;

use std::sync::Arc;
use std::time::Duration;

use api::{Reason, StatusError};
use futures::FutureExt;
use http::{Method, Request, Response};
use serde_json::Value;
use store::Kv;
use tokio_util::sync::CancellationToken;

pub use call::Call;
pub use limit::Limits;

use crate::admission::Admission;
use crate::auth::{Attributes, Auth, UserInfo};
use crate::cache::{Cache, Objects};
use crate::effects::{Effects, Leases};
use crate::metrics::{DurationLabels, Metrics, RequestLabels};
use crate::options::Options;
use crate::table::{Resource, Table};
use crate::transport::body::{Body, RequestBody};
use crate::transport::negotiate::{Shape, View};
use crate::transport::query::Query;
use crate::transport::response::{self, method_not_allowed, no_such_page};

/// Upstream: --request-timeout.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// All that requests share.
pub struct Core {
    pub options: Options,
    pub kv: Arc<dyn Kv>,
    pub table: Arc<Table>,
    pub cache: Arc<Cache>,
    pub objects: Objects,
    pub auth: Auth,
    pub admission: Admission,
    pub effects: Effects,
    pub leases: Leases,
    pub metrics: Metrics,
    pub limits: Limits,
    pub discovery: crate::discovery::Discovery,
    pub health: crate::discovery::health::Health,
    pub kubelets: crate::proxying::Kubelets,
    /// Streams that outlive their request.
    pub tasks: base::Tasks,
    /// Open connections.
    pub connections: tokio_util::task::TaskTracker,
    /// Cancelled when the server stops: watches end, connections take no more requests.
    pub stop: CancellationToken,
}

/// Answers one request. Never fails: an error is a Status.
pub async fn handle(core: Arc<Core>, request: Request<RequestBody>) -> Response<Body> {
    let started = base::clock::monotonic();
    let mut seen = Seen::default();
    let response = match serve(core.clone(), request, &mut seen).await {
        Ok(response) => response,
        Err(error) => response::status(&error),
    };
    seen.record(&core.metrics, response.status().as_u16(), started.elapsed());
    response
}

async fn serve(core: Arc<Core>, request: Request<RequestBody>, seen: &mut Seen) -> Result<Response<Body>, StatusError> {
    let (mut parts, body) = request.into_parts();
    let user = core.auth.authenticator.authenticate(&parts).await?;
    let Some(path) = route::parse(parts.uri.path()) else {
        return non_resource(core, &user, Request::from_parts(parts, ())).await;
    };
    let query = Query::parse(parts.uri.query());
    let mut verb = route::verb(&parts.method, &path, &query);
    if path.subresource.as_deref().is_some_and(sub::is_connect) && verb == "watch" {
        verb = "get";
    }
    call::authorize(&core, &call::attributes(&path, verb, &user, parts.uri.path(), &query)).await?;
    let Some(resource) = core.table.find(&path.group, &path.version, &path.resource).cloned() else { return Ok(no_such_page()) };
    seen.found(&resource, &path, verb);
    if !fits_scope(&resource, &path, verb) {
        return Ok(no_such_page());
    }
    let connects = path.subresource.as_deref().is_some_and(sub::is_connect);
    let view = match View::negotiate(&parts.headers, &query, |shape| has_protobuf(&resource, shape)) {
        Some(view) => view,
        None if connects => View::JSON,
        None => return Err(response::not_acceptable()),
    };
    let mut call = Call {
        core: core.clone(),
        resource,
        path,
        verb,
        method: parts.method.clone(),
        uri: parts.uri.clone(),
        headers: std::mem::take(&mut parts.headers),
        query,
        user,
        view,
        warnings: Vec::new(),
    };
    if connects {
        seen.is_long = true;
        parts.headers.clone_from(&call.headers);
        return sub::connect(&mut call, Request::from_parts(parts, body)).boxed().await;
    }
    if verb == "watch" {
        seen.is_long = true;
        check_verb(&call)?;
        return watch::watch(&call).boxed().await;
    }
    let _permit = core.limits.enter(&call.user, verb).await?;
    let _count = core.metrics.count_inflight(verb);
    let answered = tokio::time::timeout(REQUEST_TIMEOUT, dispatch(&mut call, body).boxed()).await;
    let mut response = answered.map_err(|_| timed_out(verb))??;
    for text in &call.warnings {
        if let Some(value) = response::warning(text) {
            response.headers_mut().append(http::header::WARNING, value);
        }
    }
    Ok(response)
}

/// A function per verb.
async fn dispatch(call: &mut Call, body: RequestBody) -> Result<Response<Body>, StatusError> {
    let bytes = match call.verb {
        "get" | "list" => bytes::Bytes::new(),
        _ => body::read(body).await?,
    };
    if call.path.subresource.is_some() {
        return sub::serve(call, &bytes).await;
    }
    check_verb(call)?;
    if call.resource.collection.is_none() {
        return review::serve(call, &bytes).await;
    }
    match call.verb {
        "get" => get::get(call).await,
        "list" => list::list(call).await,
        "create" => create::create(call, &bytes).await,
        "update" => update::update(call, &bytes).await,
        "patch" => patch::patch(call, &bytes).await,
        "delete" => delete::delete(call, &bytes).await,
        "deletecollection" => delete::delete_collection(call, &bytes).await,
        _ => Err(method_not_allowed()),
    }
}

fn check_verb(call: &Call) -> Result<(), StatusError> {
    // A create has no name in its path, and an update has one.
    let misplaced = (call.verb == "create" && call.path.name.is_some())
        || (matches!(call.verb, "update" | "patch") && call.path.name.is_none())
        || (matches!(call.verb, "create" | "deletecollection") && call.info().is_namespaced() && call.path.namespace.is_none());
    let reviews = call.resource.collection.is_none() && call.verb == "create";
    if call.info().verbs.contains(&call.verb) && (!misplaced || reviews) { Ok(()) } else { Err(method_not_allowed()) }
}

fn has_protobuf(resource: &Resource, shape: Shape) -> bool {
    match shape {
        Shape::Object => kinds::proto::is_known(&resource.api_version, resource.info().kind),
        Shape::Metadata => kinds::proto::is_known("meta.k8s.io/v1", "PartialObjectMetadata"),
        Shape::Table(_) => false,
    }
}

/// Namespaced kinds are below a namespace, except for lists of all; others never are.
fn fits_scope(resource: &Resource, path: &route::Path, verb: &str) -> bool {
    match (resource.info().is_namespaced(), &path.namespace) {
        (true, None) => path.name.is_none() && matches!(verb, "list" | "watch" | "create" | "deletecollection"),
        (false, Some(_)) => false,
        _ => true,
    }
}

fn timed_out(verb: &str) -> StatusError {
    StatusError::new(Reason::Timeout, format!("Timeout: request did not complete within the allotted timeout: {verb}"))
}

/// Paths that name no resource: discovery, health, metrics, version, keys.
async fn non_resource(core: Arc<Core>, user: &UserInfo, request: Request<()>) -> Result<Response<Body>, StatusError> {
    let path = request.uri().path();
    let verb = request.method().as_str().to_ascii_lowercase();
    let asked = Attributes {
        user,
        verb: &verb,
        is_resource: false,
        group: "",
        version: "",
        resource: "",
        subresource: "",
        namespace: "",
        name: "",
        path,
        field_selector: "",
        label_selector: "",
    };
    call::authorize(&core, &asked).await?;
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(method_not_allowed());
    }
    crate::discovery::serve(core, request).boxed().await
}

/// What the metrics say about a request.
#[derive(Default)]
struct Seen {
    labels: Option<DurationLabels>,
    is_long: bool,
}

impl Seen {
    fn found(&mut self, resource: &Resource, path: &route::Path, verb: &'static str) {
        let info = resource.info();
        let known = path.subresource.as_deref().filter(|name| info.subresources.iter().any(|s| s.name == *name));
        let scope = match (&path.name, &path.namespace) {
            (Some(_), _) => "resource",
            (None, Some(_)) => "namespace",
            (None, None) => "cluster",
        };
        let labels = DurationLabels {
            verb: metric_verb(verb),
            group: info.group,
            version: info.version,
            resource: info.resource,
            subresource: known.unwrap_or_default().to_owned(),
            scope,
            component: "apiserver",
        };
        self.labels = Some(labels);
    }

    fn record(self, metrics: &Metrics, code: u16, took: Duration) {
        let Some(labels) = self.labels else { return };
        if !self.is_long {
            metrics.durations.get_or_create(&labels).observe(took.as_secs_f64());
        }
        let DurationLabels { verb, group, version, resource, subresource, scope, component } = labels;
        metrics.requests.get_or_create(&RequestLabels { verb, group, version, resource, subresource, scope, component, code }).inc();
    }
}

fn metric_verb(verb: &str) -> &'static str {
    match verb {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" => "POST",
        "update" => "PUT",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        _ => "OTHER",
    }
}

/// The text at a pointer of a value; empty where there is none.
fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
