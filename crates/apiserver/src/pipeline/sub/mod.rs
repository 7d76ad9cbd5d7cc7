//! Subresources: rows with a rule for what of the object they may change, or small calls of their own.

mod binding;
mod eviction;
mod scale;
mod token;

use api::StatusError;
use bytes::Bytes;
use http::{HeaderValue, Response};
use kinds::Object;
use serde::Serialize;

use super::call::Call;
use super::{get, patch, update};
use crate::transport::body::{Body, RequestBody};
use crate::transport::negotiate::{Shape, View};
use crate::transport::response::{method_not_allowed, no_such_page, respond};

/// Subresources that stream: the request's body goes on to a kubelet, pod, node or service.
pub fn is_connect(name: &str) -> bool {
    matches!(name, "log" | "exec" | "attach" | "portforward" | "proxy")
}

/// Keeps what the request may not change, by the row's rule for the part.
pub fn prepare(call: &Call, new: &mut dyn Object, old: &dyn Object) {
    let row = call.resource.row;
    match call.subresource() {
        "" => row.prepare_update(new, old),
        "status" => row.prepare_status_update(new, old),
        part => row.prepare_part(new, part, old),
    }
}

/// Everything below an object but `connect`.
pub async fn serve(call: &mut Call, bytes: &Bytes) -> Result<Response<Body>, StatusError> {
    let name = call.subresource().to_owned();
    let Some(known) = call.info().subresources.iter().find(|s| s.name == name) else { return Ok(no_such_page()) };
    if !known.verbs.contains(&call.verb) {
        return Err(method_not_allowed());
    }
    match (name.as_str(), call.verb) {
        ("scale", _) => scale::serve(call, bytes).await,
        ("binding", _) => binding::create(call, bytes).await,
        ("eviction", _) => eviction::create(call, bytes).await,
        ("token", _) => token::create(call, bytes).await,
        (_, "get") => get::get(call).await,
        (_, "update") => update::update(call, bytes).await,
        (_, "patch") => patch::patch(call, bytes).await,
        _ => Err(method_not_allowed()),
    }
}

/// Streams.
pub async fn connect(call: &mut Call, request: http::Request<RequestBody>) -> Result<Response<Body>, StatusError> {
    if !call.info().subresources.iter().any(|s| s.name == call.subresource()) {
        return Ok(no_such_page());
    }
    crate::proxying::connect(call, request).await
}

/// A body that is no stored object: Scale, TokenRequest, Status.
pub fn reply(call: &Call, code: u16, body: &impl Serialize) -> Result<Response<Body>, StatusError> {
    let json = serde_json::to_vec(body).map_err(StatusError::internal)?;
    let view = View { shape: Shape::Object, ..call.view };
    Ok(respond(code, HeaderValue::from_static(view.media.content_type()), super::encode::media(json.into(), view)?))
}

/// The Status that says that all is well.
pub fn success(call: &Call, code: u16) -> Result<Response<Body>, StatusError> {
    let status = api::meta::v1::Status { status: Some("Success".into()), code: Some(i32::from(code)), ..Default::default() };
    reply(call, code, &status)
}
