//! JSON patch (RFC 6902), merge patch (RFC 7386) and Kubernetes' strategic merge patch, with upstream's errors
//! (apiserver/pkg/endpoints/handlers/patch.go). They only make a value: decoding, defaulting and validating it is the pipeline's.

mod strategic;

use api::status::{Reason, StatusError};
use serde_json::Value;

pub use strategic::strategic_merge;

/// A JSON patch has at most so many operations, as upstream.
const MAX_JSON_PATCH_OPERATIONS: usize = 10_000;

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
    json_patch::patch(&mut document, &patch.0).map_err(|e| PatchError::Unprocessable(e.to_string()))?;
    Ok(document)
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
