//! JSON patch (RFC 6902), merge patch (RFC 7386) and Kubernetes' strategic merge patch, with upstream's errors
//! (apiserver/pkg/endpoints/handlers/patch.go). They only make a value: decoding, defaulting and validating it is the pipeline's.

mod strategic;

use api::status::{Reason, StatusError};
use json_patch::PatchOperation;
use serde_json::Value;

pub use strategic::strategic_merge;

/// A JSON patch has at most so many operations, as upstream.
const MAX_JSON_PATCH_OPERATIONS: usize = 10_000;

/// As deep as a JSON parser goes.
const MAX_DEPTH: usize = 128;

/// The `copy` operations of one JSON patch may add so much, ten request bodies, as upstream: each may double the object.
const MAX_COPIED_BYTES: usize = 30 * 1024 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is malformed.
    #[error("{0}")]
    BadRequest(String),
    #[error("The allowed maximum operations in a JSON patch is {MAX_JSON_PATCH_OPERATIONS}, got {0}")]
    TooLarge(usize),
    /// The patch does not fit the object.
    #[error("{0}")]
    Unprocessable(String),
}

impl From<PatchError> for StatusError {
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::BadRequest(text) => Self::bad_request(text),
            PatchError::TooLarge(_) => Self::new(Reason::RequestEntityTooLarge, error.to_string()),
            // Upstream keeps the cause from the caller here.
            PatchError::Unprocessable(_) => Self::new(Reason::Invalid, "the server rejected our request due to an error in our request"),
        }
    }
}

/// Applies operations of RFC 6902.
pub fn json_patch(current: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let patch: json_patch::Patch =
        serde_json::from_slice(patch).map_err(|e| PatchError::BadRequest(format!("error decoding patch: {e}")))?;
    if patch.0.len() > MAX_JSON_PATCH_OPERATIONS {
        return Err(PatchError::TooLarge(patch.0.len()));
    }
    let mut document = current.clone();
    let mut copied = 0;
    for operation in &patch.0 {
        match operation {
            // Upstream's library holds what is not there equal to null.
            PatchOperation::Test(test) if test.value.is_null() && document.pointer(test.path.as_str()).is_none() => continue,
            PatchOperation::Add(add) => check_depth(add.path.as_str(), Some(&add.value))?,
            PatchOperation::Replace(replace) => check_depth(replace.path.as_str(), Some(&replace.value))?,
            PatchOperation::Move(moved) => check_depth(moved.path.as_str(), document.pointer(moved.from.as_str()))?,
            PatchOperation::Copy(copy) => {
                let value = document.pointer(copy.from.as_str());
                check_depth(copy.path.as_str(), value)?;
                copied += value.map_or(0, |value| value.to_string().len());
                check_copied(copied)?;
            }
            _ => {}
        }
        json_patch::patch(&mut document, std::slice::from_ref(operation)).map_err(|e| PatchError::Unprocessable(e.to_string()))?;
    }
    Ok(document)
}

fn check_copied(bytes: usize) -> Result<(), PatchError> {
    if bytes <= MAX_COPIED_BYTES {
        return Ok(());
    }
    Err(PatchError::Unprocessable(format!(
        "Unable to complete the copy, the accumulated size increase of copy is {bytes}, exceeding the limit {MAX_COPIED_BYTES}"
    )))
}

/// A patch may put values into each other until no stack holds them: what a parser would refuse is refused here as well.
fn check_depth(path: &str, value: Option<&Value>) -> Result<(), PatchError> {
    let mut levels = path.matches('/').count();
    let mut level: Vec<&Value> = value.into_iter().collect();
    while !level.is_empty() && levels <= MAX_DEPTH {
        levels += 1;
        level = level
            .iter()
            .flat_map(|value| -> Box<dyn Iterator<Item = &Value>> {
                match value {
                    Value::Array(list) => Box::new(list.iter()),
                    Value::Object(map) => Box::new(map.values()),
                    _ => Box::new(std::iter::empty()),
                }
            })
            .collect();
    }
    if levels <= MAX_DEPTH { Ok(()) } else { Err(PatchError::Unprocessable("the patched object nests too deeply".into())) }
}

/// Applies a merge patch of RFC 7386.
pub fn json_merge(current: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let patch: Value = serde_json::from_slice(patch).map_err(|e| PatchError::BadRequest(format!("error decoding patch: {e}")))?;
    if !patch.is_object() {
        return Err(PatchError::BadRequest("error decoding patch: a merge patch of an object must be an object".into()));
    }
    let mut document = current.clone();
    merge(&mut document, patch);
    Ok(document)
}

fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(&key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merge_patch_is_rfc_7386() {
        let check = |current: Value, patch: Value, expected: Value| {
            assert_eq!(json_merge(&current, patch.to_string().as_bytes()).unwrap(), expected);
        };
        check(json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"}));
        check(json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"}));
        check(json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"}));
        check(json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}}));
        check(json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}}));
        assert!(matches!(json_merge(&json!({}), b"[]"), Err(PatchError::BadRequest(_))));
        assert!(matches!(json_merge(&json!({}), b"{"), Err(PatchError::BadRequest(_))));
    }

    #[test]
    fn json_patch_is_rfc_6902() {
        let check = |current: Value, patch: Value| json_patch(&current, patch.to_string().as_bytes());
        let pod = json!({"spec": {"containers": [{"name": "a"}]}});
        assert_eq!(
            check(pod.clone(), json!([{"op": "add", "path": "/spec/containers/-", "value": {"name": "b"}}])),
            Ok(json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}))
        );
        assert_eq!(check(pod.clone(), json!([{"op": "test", "path": "/spec/containers/0/name", "value": "a"}])), Ok(pod.clone()));
        assert!(matches!(check(pod.clone(), json!([{"op": "test", "path": "/spec/x", "value": "a"}])), Err(PatchError::Unprocessable(_))));
        assert!(matches!(check(pod.clone(), json!([{"op": "remove", "path": "/none"}])), Err(PatchError::Unprocessable(_))));
        assert!(matches!(check(pod.clone(), json!({"op": "remove"})), Err(PatchError::BadRequest(_))));
        assert_eq!(check(pod.clone(), json!([{"op": "test", "path": "/metadata", "value": null}])), Ok(pod.clone()));
        let doubling = vec![json!({"op": "copy", "from": "/spec", "path": "/spec/containers/0/x"}); 100];
        let error = check(json!({"spec": {"containers": [{"x": "a".repeat(1 << 20)}]}}), Value::Array(doubling)).unwrap_err();
        assert!(error.to_string().starts_with("Unable to complete the copy"), "{error}");
        let nesting = vec![json!({"op": "copy", "from": "/spec", "path": "/spec/x"}); 500];
        assert_eq!(check(pod.clone(), Value::Array(nesting)), Err(PatchError::Unprocessable("the patched object nests too deeply".into())));
        let many = vec![json!({"op": "remove", "path": "/none"}); MAX_JSON_PATCH_OPERATIONS + 1];
        assert_eq!(check(pod, Value::Array(many)), Err(PatchError::TooLarge(MAX_JSON_PATCH_OPERATIONS + 1)));
    }

    #[test]
    fn what_does_not_fit_is_upstreams_422() {
        let status = StatusError::from(PatchError::Unprocessable("testing value /a failed".into()));
        assert_eq!(status.code(), 422);
        assert_eq!(status.message(), "the server rejected our request due to an error in our request");
    }
}
