//! Bodies of writes: size, media type, field validation, decoding into the row's type.

use api::{FieldErrors, Path, Reason, StatusError};
use bytes::Bytes;
use http_body_util::BodyExt;
use kinds::Object;
use kinds::check::{FieldCheck, refusal};
use kinds::schema::Schema;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::call::Call;
use crate::transport::body::RequestBody;
use crate::transport::negotiate::content_type;

/// Upstream: MaxRequestBodyBytes in apiserver/pkg/server/config.go.
const MAX_BODY: usize = 3 * 1024 * 1024;

/// The whole body, if it is not too large.
pub async fn read(mut body: RequestBody) -> Result<Bytes, StatusError> {
    let mut whole: Vec<u8> = Vec::new();
    let mut first = Bytes::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| StatusError::bad_request(format!("the request's body cannot be read: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + first.len() + data.len() > MAX_BODY {
            let message = format!("Request entity too large: limit is {MAX_BODY}");
            return Err(StatusError::new(Reason::RequestEntityTooLarge, message));
        }
        // Nearly all bodies are one frame: that one is not copied.
        if whole.is_empty() && first.is_empty() {
            first = data;
        } else {
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&data);
        }
    }
    Ok(if whole.is_empty() { first } else { whole.into() })
}

/// The body as JSON, whatever it came as.
pub fn json(call: &Call, bytes: &Bytes) -> Result<Bytes, StatusError> {
    match content_type(&call.headers).as_str() {
        "application/json" | "text/json" | "*/*" | "" => Ok(bytes.clone()),
        "application/yaml" => super::convert::from_yaml(bytes),
        "application/vnd.kubernetes.protobuf" => super::convert::from_protobuf(bytes),
        other => {
            let message = format!(
                "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf (got {other:?})"
            );
            Err(StatusError::new(Reason::UnsupportedMediaType, message))
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TypeMeta {
    #[serde(default)]
    api_version: Option<String>,
    #[serde(default)]
    kind: Option<String>,
}

/// The body of a create or update as an object of the call's row.
pub fn object(call: &mut Call, bytes: &Bytes) -> Result<Box<dyn Object>, StatusError> {
    let json = json(call, bytes)?;
    let info = call.info();
    check_type(&json, &call.resource.api_version, info.kind)?;
    check_fields(call, &json)?;
    call.resource.row.decode(&json).map_err(|error| unfit(call, &error.to_string()))
}

/// The object without what upstream would not write, as stored ones are: to be compared with them.
pub fn normal(call: &Call, object: &dyn Object) -> Result<Box<dyn Object>, StatusError> {
    let mut value = object.to_value();
    kinds::omit::empties(&mut value, Schema::of(call.info().schema));
    call.resource.row.from_value(value).map_err(StatusError::internal)
}

/// The body of a subresource with a kind of its own.
pub fn typed<T: DeserializeOwned>(call: &Call, bytes: &Bytes, api_version: &str, kind: &str) -> Result<T, StatusError> {
    let json = json(call, bytes)?;
    check_type(&json, api_version, kind)?;
    serde_json::from_slice(&json).map_err(|error| StatusError::bad_request(refusal(version_of(api_version), kind, &error.to_string())))
}

/// `v1` of `apps/v1`: messages name the version alone.
fn version_of(api_version: &str) -> &str {
    api_version.rsplit('/').next().unwrap_or(api_version)
}

fn check_type(json: &[u8], api_version: &str, kind: &str) -> Result<(), StatusError> {
    let seen: TypeMeta = serde_json::from_slice(json).map_err(|error| {
        StatusError::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {error}"
        ))
    })?;
    if let Some(version) = seen.api_version.filter(|v| !v.is_empty() && v != api_version) {
        let message = format!("the API version in the data ({version}) does not match the expected API version ({api_version})");
        return Err(StatusError::bad_request(message));
    }
    if let Some(other) = seen.kind.filter(|k| !k.is_empty() && k != kind) {
        return Err(StatusError::bad_request(format!(
            "{other} in version {:?} cannot be handled as a {kind}: the kind of the body does not match the resource",
            version_of(api_version)
        )));
    }
    Ok(())
}

/// Upstream: transformDecodeError in endpoints/handlers/rest.go.
pub fn unfit(call: &Call, why: &str) -> StatusError {
    StatusError::bad_request(refusal(call.info().version, call.info().kind, why))
}

/// `fieldValidation`: Strict refuses unknown and duplicate fields, Warn (the default) warns. Wrong types are refused always.
pub fn check_fields(call: &mut Call, json: &[u8]) -> Result<(), StatusError> {
    check_fields_or(call, json, unfit)
}

/// As `check_fields`, with an error of the caller's from the cause.
pub fn check_fields_or(call: &mut Call, json: &[u8], refuse: impl Fn(&Call, &str) -> StatusError) -> Result<(), StatusError> {
    let Some(schema) = Schema::of(call.info().schema) else { return Ok(()) };
    let found: FieldCheck = kinds::check::check(json, schema);
    if let Some(error) = &found.type_error {
        return Err(refuse(call, error));
    }
    match call.query.text("fieldValidation") {
        Some("Ignore") => {}
        None | Some("Warn") => call.warnings.extend(found.warnings()),
        Some("Strict") => {
            if let Some(error) = found.strict_error() {
                return Err(refuse(call, &error));
            }
        }
        Some(other) => {
            let mut errors = FieldErrors::default();
            errors.not_supported(&Path::new("fieldValidation"), other, &["", "Ignore", "Strict", "Warn"]);
            let kind = if call.verb == "create" { "CreateOptions" } else { "UpdateOptions" };
            return Err(StatusError::invalid("meta.k8s.io", kind, "", &errors));
        }
    }
    Ok(())
}
