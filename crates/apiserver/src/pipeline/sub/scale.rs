//! `scale`: the replica count of a workload as an autoscaling/v1 Scale.

use api::StatusError;
use api::autoscaling::v1::{Scale, ScaleSpec, ScaleStatus};
use api::meta::v1::ObjectMeta;
use api::selector::Selector;
use bytes::Bytes;
use http::Response;
use kinds::Object;
use serde_json::Value;

use super::super::call::Call;
use super::super::patch::Patch;
use super::super::update::{Current, Updated, conflict, update_with};
use super::super::write::Ownership;
use super::super::{body, convert, get};
use super::reply;
use crate::transport::body::Body;

pub async fn serve(call: &mut Call, bytes: &Bytes) -> Result<Response<Body>, StatusError> {
    if call.verb == "get" {
        let name = call.name();
        let entry = get::read(call, name).await?.ok_or_else(|| call.not_found(name))?;
        return reply(call, 200, &scale_of(convert::decode(&call.resource, &entry)?.as_ref()));
    }
    let ownership = Ownership::Update(call.field_manager());
    let updated = if call.verb == "patch" {
        let patch = Patch::read(call, bytes)?;
        let make = &mut move |call: &mut Call, current: &Current| {
            let now = serde_json::to_value(scale_of(current.object.as_ref())).map_err(StatusError::internal)?;
            let wanted = match &patch {
                Patch::Apply(config) => kinds::patch::json_merge(&now, config.to_string().as_bytes())?,
                plain => plain.to(&now, "io.k8s.api.autoscaling.v1.Scale")?,
            };
            let wanted: Scale = serde_json::from_value(wanted).map_err(|e| StatusError::bad_request(e.to_string()))?;
            scaled(call, current, &wanted)
        };
        update_with(call, make, ownership).await?
    } else {
        let wanted: Scale = body::typed(call, bytes, "autoscaling/v1", "Scale")?;
        update_with(call, &mut |call, current| scaled(call, current, &wanted), ownership).await?
    };
    let (Updated::Stored(entry) | Updated::Removed(entry)) = updated;
    reply(call, 200, &scale_of(convert::decode(&call.resource, &entry)?.as_ref()))
}

/// The current object with the wanted count.
fn scaled(call: &mut Call, current: &Current, wanted: &Scale) -> Result<Box<dyn Object>, StatusError> {
    let replicas = wanted.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0);
    if replicas < 0 {
        let mut errors = api::FieldErrors::default();
        errors.invalid(&api::Path::new("spec").child("replicas"), replicas, "must be greater than or equal to 0");
        return Err(StatusError::invalid("autoscaling", "Scale", call.name(), &errors));
    }
    let meta = current.object.meta();
    if wanted.metadata.uid.as_ref().is_some_and(|uid| !uid.is_empty() && Some(uid) != meta.uid.as_ref()) {
        return Err(conflict(call, call.name(), "Precondition failed: the UID of the scale is not that of the object"));
    }
    let mut value = current.object.to_value();
    value["spec"]["replicas"] = Value::from(replicas);
    match wanted.metadata.resource_version.as_deref().filter(|v| !v.is_empty()) {
        Some(version) => value["metadata"]["resourceVersion"] = Value::from(version),
        None => {
            if let Some(meta) = value["metadata"].as_object_mut() {
                meta.remove("resourceVersion");
            }
        }
    }
    call.resource.row.from_value(value).map_err(StatusError::internal)
}

fn scale_of(object: &dyn Object) -> Scale {
    let value = object.to_value();
    let meta = object.meta();
    let count = |pointer: &str| value.pointer(pointer).and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok());
    Scale {
        metadata: ObjectMeta {
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            creation_timestamp: meta.creation_timestamp.clone(),
            ..ObjectMeta::default()
        },
        spec: Some(ScaleSpec { replicas: count("/spec/replicas") }),
        status: Some(ScaleStatus { replicas: count("/status/replicas").unwrap_or(0), selector: selector(&value) }),
    }
}

/// The selector as text; a replication controller's is a plain map.
fn selector(value: &Value) -> Option<String> {
    let selector = value.pointer("/spec/selector")?;
    if selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some() {
        let selector = serde_json::from_value(selector.clone()).ok()?;
        return Selector::from_label_selector(&selector).ok().map(|s| s.to_string());
    }
    let map = serde_json::from_value(selector.clone()).ok()?;
    Some(Selector::from_map(&map).to_string())
}
