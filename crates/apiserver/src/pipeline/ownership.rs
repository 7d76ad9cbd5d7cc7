//! Which manager set which fields: the one place that asks `kinds` to keep metadata.managedFields.

use serde_json::Value;

use super::call::Call;

/// Makes `manager` the owner of what differs between `old` and `new`.
pub fn track(_call: &Call, _old: Option<&Value>, _new: &mut Value, _manager: &str) {}

/// The live object with the configuration applied to it; conflicts with other managers unless `force=true`.
pub fn apply(_call: &Call, _live: Option<&Value>, _config: &Value, _manager: &str) -> Result<Value, api::StatusError> {
    Err(api::StatusError::new(api::Reason::UnsupportedMediaType, "server-side apply is not served yet"))
}
