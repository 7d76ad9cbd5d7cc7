//! Event of events.k8s.io: stored as an Event of the core group, under other names of fields.

use api::events::v1::Event;
use api::{FieldErrors, Path};
use serde_json::Value;

use crate::kind::{Column, Kind, KindInfo};

impl Kind for Event {
    const INFO: KindInfo = KindInfo {
        singular: "event",
        short_names: &["ev"],
        stored_as: Some(("", "v1", "events")),
        schema: "io.k8s.api.events.v1.Event",
        create_on_update: true,
        ..KindInfo::of::<Self>()
    };

    fn validate(&self, errors: &mut FieldErrors) {
        if self.event_time.is_none() {
            errors.required(&Path::new("eventTime"), "");
        }
        match as_core(self) {
            Some(core) => core.validate(errors),
            None => errors.internal(&Path::default(), "the event has no form in the core group"),
        }
    }

    fn selectable_fields(&self) -> Vec<(&'static str, String)> {
        let about = self.regarding.clone().unwrap_or_default();
        vec![
            ("reason", self.reason.clone().unwrap_or_default()),
            ("regarding.kind", about.kind.unwrap_or_default()),
            ("regarding.namespace", about.namespace.unwrap_or_default()),
            ("regarding.name", about.name.unwrap_or_default()),
            ("regarding.uid", about.uid.unwrap_or_default()),
            ("regarding.apiVersion", about.api_version.unwrap_or_default()),
            ("regarding.resourceVersion", about.resource_version.unwrap_or_default()),
            ("regarding.fieldPath", about.field_path.unwrap_or_default()),
            ("reportingController", self.reporting_controller.clone().unwrap_or_default()),
            ("type", self.type_.clone().unwrap_or_default()),
        ]
    }

    fn from_stored(stored: Value) -> Value {
        renamed(stored, "events.k8s.io/v1", |(own, core)| (core, own))
    }

    fn to_stored(own: Value) -> Value {
        let mut stored = renamed(own, "v1", |pair| pair);
        // Upstream's core Event always has its object.
        if let Value::Object(fields) = &mut stored {
            fields.entry("involvedObject").or_insert_with(|| Value::Object(serde_json::Map::new()));
        }
        stored
    }

    fn columns() -> &'static [Column] {
        crate::rows::core::event::columns()
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        as_core(self).map(|core| crate::rows::core::event::cells(&core, now)).unwrap_or_default()
    }
}

/// Names here and in the core group (pkg/apis/events/v1/conversion.go).
const NAMES: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

fn renamed(mut event: Value, api_version: &str, direction: fn((&'static str, &'static str)) -> (&'static str, &'static str)) -> Value {
    if let Value::Object(fields) = &mut event {
        for (from, to) in NAMES.iter().copied().map(direction) {
            if let Some(value) = fields.remove(from) {
                fields.insert(to.to_owned(), value);
            }
        }
        fields.insert("apiVersion".into(), api_version.into());
    }
    event
}

fn as_core(event: &Event) -> Option<api::core::v1::Event> {
    let value = serde_json::to_value(event).ok()?;
    serde_json::from_value(Event::to_stored(value)).ok()
}
