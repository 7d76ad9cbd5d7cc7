//! Kinds that are answered and never stored: reviews of tokens and access, and `bindings` as a resource of its own.

use api::StatusError;
use bytes::Bytes;
use http::Response;

use super::call::Call;
use super::{body, sub};
use crate::transport::body::Body;
use crate::transport::response::method_not_allowed;

pub async fn serve(call: &mut Call, bytes: &Bytes) -> Result<Response<Body>, StatusError> {
    match (call.info().resource, call.verb) {
        ("componentstatuses", "list") => {
            let list = serde_json::json!({"kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {}, "items": []});
            sub::reply(call, 200, &list)
        }
        ("componentstatuses", "get") => Err(call.not_found(call.name())),
        ("bindings", "create") => bind(call, bytes).await,
        (_, "create") => {
            let mut object = body::object(call, bytes)?;
            let row = call.resource.row;
            row.default_fields(object.as_mut());
            let mut errors = api::FieldErrors::default();
            row.validate(object.as_ref(), &mut errors);
            super::write::invalid(call, "", &errors)?;
            let namespace = call.namespace().unwrap_or_default().to_owned();
            call.core.auth.reviews.review(&call.user, &namespace, object.as_mut()).await?;
            sub::reply(call, 201, &object.to_value())
        }
        _ => Err(method_not_allowed()),
    }
}

/// POST of a Binding to `bindings`: the same as to its pod's `binding`.
async fn bind(call: &mut Call, bytes: &Bytes) -> Result<Response<Body>, StatusError> {
    let binding: api::core::v1::Binding = body::typed(call, bytes, "v1", "Binding")?;
    let Some(pods) = call.core.table.find("", "v1", "pods").cloned() else { return Err(method_not_allowed()) };
    let mut inner = call.shallow();
    inner.resource = pods;
    inner.path.resource = "pods".into();
    inner.path.name = binding.metadata.name.clone();
    inner.path.subresource = Some("binding".into());
    sub::serve(&mut inner, bytes).await
}
