//! PATCH: makes an object out of the stored one, then it is an update.

use api::{Reason, StatusError};
use bytes::Bytes;
use http::Response;
use kinds::Object;
use kinds::schema::Schema;
use serde_json::Value;

use super::call::Call;
use super::update::{Current, update_with};
use super::write::Ownership;
use super::{body, convert, create, get};
use crate::transport::body::Body;
use crate::transport::negotiate::content_type;

#[derive(Debug)]
pub enum Patch {
    Json(Bytes),
    Merge(Bytes),
    Strategic(Value),
    Apply(Value),
}

impl Patch {
    pub fn read(call: &Call, bytes: &Bytes) -> Result<Self, StatusError> {
        let parse = |bytes: &[u8]| -> Result<Value, StatusError> {
            let value: Value = serde_json::from_slice(bytes).map_err(|e| StatusError::bad_request(format!("error decoding patch: {e}")))?;
            if value.is_object() { Ok(value) } else { Err(StatusError::bad_request("error decoding patch: it must be an object")) }
        };
        match content_type(&call.headers).as_str() {
            "application/json-patch+json" => Ok(Self::Json(bytes.clone())),
            "application/merge-patch+json" => Ok(Self::Merge(bytes.clone())),
            "application/strategic-merge-patch+json" => parse(bytes).map(Self::Strategic),
            "application/apply-patch+yaml" => parse(&convert::from_yaml(bytes)?).map(Self::Apply),
            _ => {
                let message = "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml";
                Err(StatusError::new(Reason::UnsupportedMediaType, message))
            }
        }
    }

    /// The patched value; apply is not done here.
    pub fn to(&self, current: &Value, schema: &str) -> Result<Value, StatusError> {
        Ok(match self {
            Self::Json(patch) => kinds::patch::json_patch(current, patch)?,
            Self::Merge(patch) => kinds::patch::json_merge(current, patch)?,
            Self::Strategic(patch) => kinds::patch::strategic_merge(current, patch, schema)?,
            Self::Apply(_) => return Err(StatusError::internal("apply is no plain patch")),
        })
    }
}

pub async fn patch(call: &mut Call, bytes: &Bytes) -> Result<Response<Body>, StatusError> {
    let patch = Patch::read(call, bytes)?;
    if let Patch::Apply(config) = patch {
        return apply(call, config).await;
    }
    let schema = call.info().schema;
    let make = &mut move |call: &mut Call, current: &Current| {
        let patched = patch.to(&current.object.to_value(), schema)?;
        decode(call, patched)
    };
    let ownership = Ownership::Update(call.field_manager());
    let updated = update_with(call, make, ownership).await?;
    get::reply(call, 200, updated.entry())
}

fn decode(call: &mut Call, mut value: Value) -> Result<Box<dyn Object>, StatusError> {
    // Before it is compared with what is stored: what is not written is no change.
    kinds::omit::empties(&mut value, Schema::of(call.info().schema));
    let json = serde_json::to_vec(&value).map_err(StatusError::internal)?;
    body::check_fields_or(call, &json, |_, why| does_not_fit(&json, why))?;
    let mut object = call.resource.row.decode(&json).map_err(|error| does_not_fit(&json, &error.to_string()))?;
    let given = object.meta().name.clone().unwrap_or_default();
    if given != call.name() {
        return Err(StatusError::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({})",
            call.name()
        )));
    }
    create::check_namespace(call, &mut object.meta_mut().namespace)?;
    Ok(object)
}

/// The patched object is none of the kind. Upstream: jsonPatcher.applyPatchToCurrentObject in endpoints/handlers/patch.go.
fn does_not_fit(json: &[u8], why: &str) -> StatusError {
    let mut errors = api::FieldErrors::default();
    errors.invalid(&api::Path::new("patch"), &*String::from_utf8_lossy(json), why);
    StatusError::invalid("", "", "", &errors)
}

/// Server-side apply (KEP-555): creates what is not there.
async fn apply(call: &mut Call, mut config: Value) -> Result<Response<Body>, StatusError> {
    let Some(manager) = call.query.text("fieldManager").map(str::to_owned) else {
        let mut errors = api::FieldErrors::default();
        errors.required(&api::Path::new("fieldManager"), "is required for apply patch");
        return Err(StatusError::invalid("meta.k8s.io", "PatchOptions", "", &errors));
    };
    check_config(call, &mut config)?;
    let name = call.name().to_owned();
    if call.subresource().is_empty() && get::read(call, &name).await?.is_none() {
        if !super::text(&config, "/metadata/uid").is_empty() {
            return Err(super::update::conflict(
                call,
                &name,
                "uid mismatch: the provided object specified a uid, and no existing object was found",
            ));
        }
        call.authorize_also("create").await?;
        let value = super::ownership::apply(call, None, &config, &manager)?;
        let object = decode(call, value)?;
        match create::create_object(call, object, Ownership::Applied).await {
            // Somebody else created it meanwhile: then it is an update.
            Err(error) if error.is(Reason::AlreadyExists) => {}
            done => return get::reply(call, 201, &done?),
        }
    }
    let make = &mut move |call: &mut Call, current: &Current| {
        let value = super::ownership::apply(call, Some(&current.object.to_value()), &config, &manager)?;
        decode(call, value)
    };
    let updated = update_with(call, make, Ownership::Applied).await?;
    get::reply(call, 200, updated.entry())
}

/// The applied configuration must name the object of the URL and may not bring managedFields.
fn check_config(call: &Call, config: &mut Value) -> Result<(), StatusError> {
    let (api_version, kind) = (super::text(config, "/apiVersion"), super::text(config, "/kind"));
    if api_version != call.resource.api_version || kind != call.info().kind {
        let message =
            format!("the API version in the data ({api_version}) does not match the expected API version ({})", call.resource.api_version);
        return Err(StatusError::bad_request(message));
    }
    if config.pointer("/metadata/managedFields").is_some_and(|m| m.as_array().is_none_or(|list| !list.is_empty())) {
        return Err(StatusError::bad_request("metadata.managedFields must be nil"));
    }
    let name = call.name().to_owned();
    let meta = config.as_object_mut().map(|o| o.entry("metadata").or_insert_with(|| serde_json::json!({})));
    if let Some(meta) = meta.and_then(Value::as_object_mut) {
        meta.entry("name").or_insert_with(|| Value::from(name));
    }
    Ok(())
}
