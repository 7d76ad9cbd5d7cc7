//! Subresources: rows with a rule for what of the object they may change, or small calls of their own.

mod binding;
mod eviction;
mod scale;
mod token;

use api::StatusError;
use api::certificates::v1::CertificateSigningRequest;
use api::core::v1::{Namespace, Pod};
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

/// Keeps what the request may not change: the row's rule for the object itself and for status, these for the other parts.
pub fn prepare(call: &Call, new: &mut dyn Object, old: &dyn Object) {
    let row = call.resource.row;
    match call.subresource() {
        "" => row.prepare_update(new, old),
        "status" => row.prepare_status_update(new, old),
        "finalize" => with(new, old, |new: &mut Namespace, kept: &mut Namespace| std::mem::swap(&mut new.spec, &mut kept.spec)),
        "ephemeralcontainers" => with(new, old, |new: &mut Pod, kept: &mut Pod| {
            if let (Some(new), Some(kept)) = (&mut new.spec, &mut kept.spec) {
                std::mem::swap(&mut new.ephemeral_containers, &mut kept.ephemeral_containers);
            }
        }),
        "resize" => with(new, old, |new: &mut Pod, kept: &mut Pod| {
            let (Some(new), Some(kept)) = (&mut new.spec, &mut kept.spec) else { return };
            for container in &mut kept.containers {
                if let Some(wanted) = new.containers.iter_mut().find(|c| c.name == container.name) {
                    container.resources = wanted.resources.take();
                    container.resize_policy = wanted.resize_policy.take();
                }
            }
        }),
        "approval" => with(new, old, |new: &mut CertificateSigningRequest, kept: &mut CertificateSigningRequest| {
            let wanted = new.status.take().and_then(|s| s.conditions);
            kept.status.get_or_insert_default().conditions = wanted;
        }),
        _ => {}
    }
}

/// Replaces `new` by `old` with the parts that `take` moves over from it.
fn with<T: std::any::Any + Clone>(new: &mut dyn Object, old: &dyn Object, take: impl FnOnce(&mut T, &mut T)) {
    let (Some(wanted), Some(kept)) = (new.get_mut::<T>(), old.get::<T>()) else { return };
    let mut kept = kept.clone();
    take(wanted, &mut kept);
    *wanted = kept;
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
