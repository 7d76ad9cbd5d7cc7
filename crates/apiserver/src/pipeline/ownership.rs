//! Which manager set which fields: the one place that asks `kinds` to keep metadata.managedFields.

use api::StatusError;
use kinds::apply::FieldManager;
use kinds::schema::Schema;
use serde_json::Value;

use super::call::Call;

fn field_manager<'a>(call: &'a Call, manager: &'a str) -> Option<FieldManager<'a>> {
    Some(FieldManager {
        manager,
        subresource: call.subresource(),
        api_version: &call.resource.api_version,
        schema: Schema::of(call.info().schema)?,
        now: base::clock::now(),
    })
}

/// Makes `manager` the owner of what differs between `old` and `new`. Kinds without a schema are not tracked.
pub fn track(call: &Call, old: Option<&Value>, new: &mut Value, manager: &str) {
    if let Some(manager) = field_manager(call, manager) {
        manager.track_update(old, new);
    }
}

/// The live object with the configuration applied to it; conflicts with other managers unless `force=true`.
pub fn apply(call: &Call, live: Option<&Value>, config: &Value, manager: &str) -> Result<Value, StatusError> {
    let manager = field_manager(call, manager).ok_or_else(|| StatusError::internal("the kind has no schema to apply by"))?;
    Ok(manager.apply(live, config, call.query.flag("force"))?)
}
