//! Event of the core group: it owns the bytes that events.k8s.io shows too.

use api::core::v1::Event;
use api::{FieldErrors, Path};
use serde_json::{Value, json};

use crate::kind::{Column, Kind, KindInfo};
use crate::printing::{NAME, UNKNOWN, ago, column, since, wide};

impl Kind for Event {
    const INFO: KindInfo = KindInfo {
        singular: "event",
        short_names: &["ev"],
        schema: "io.k8s.api.core.v1.Event",
        create_on_update: true,
        ..KindInfo::of::<Self>()
    };

    fn validate(&self, errors: &mut FieldErrors) {
        namespaces(self, errors);
        if self.event_time.is_some() {
            new_style(self, errors);
        }
    }

    fn selectable_fields(&self) -> Vec<(&'static str, String)> {
        let about = &self.involved_object;
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let source = self.source.as_ref().and_then(|source| source.component.clone()).filter(|text| !text.is_empty());
        vec![
            ("involvedObject.kind", text(&about.kind)),
            ("involvedObject.namespace", text(&about.namespace)),
            ("involvedObject.name", text(&about.name)),
            ("involvedObject.uid", text(&about.uid)),
            ("involvedObject.apiVersion", text(&about.api_version)),
            ("involvedObject.resourceVersion", text(&about.resource_version)),
            ("involvedObject.fieldPath", text(&about.field_path)),
            ("reason", text(&self.reason)),
            ("reportingComponent", text(&self.reporting_component)),
            ("source", source.unwrap_or_else(|| text(&self.reporting_component))),
            ("type", text(&self.type_)),
        ]
    }

    fn columns() -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        cells(self, now)
    }
}

const NAMESPACE_DETAIL: &str = "does not match event.namespace";

/// An event stands in the namespace of its object; that of a cluster's object in `default` (pkg/apis/core/validation/events.go).
fn namespaces(event: &Event, errors: &mut FieldErrors) {
    let about = event.involved_object.namespace.as_deref().unwrap_or_default();
    let own = event.metadata.namespace.as_deref().unwrap_or_default();
    let fits = match about {
        "" => matches!(own, "default" | "kube-system"),
        about => about == own,
    };
    if !fits {
        errors.invalid(&Path::new("involvedObject").child("namespace"), about, NAMESPACE_DETAIL);
    }
}

fn new_style(event: &Event, errors: &mut FieldErrors) {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let controller = text(&event.reporting_component);
    if controller.is_empty() {
        errors.required(&Path::new("reportingController"), "");
    }
    crate::validation::each(errors, &Path::new("reportingController"), &controller, api::names::qualified_name(&controller));
    for (field, value) in
        [("reportingInstance", text(&event.reporting_instance)), ("action", text(&event.action)), ("reason", text(&event.reason))]
    {
        if value.is_empty() {
            errors.required(&Path::new(field), "");
        } else if value.len() > 128 {
            errors.invalid(&Path::new(field), "", "can have at most 128 characters");
        }
    }
    if text(&event.message).len() > 1024 {
        errors.invalid(&Path::new("message"), "", "can have at most 1024 characters");
    }
}

const COLUMNS: &[Column] = &[
    column("Last Seen", "string"),
    column("Type", "string"),
    column("Reason", "string"),
    column("Object", "string"),
    wide("Subobject", "string"),
    wide("Source", "string"),
    column("Message", "string"),
    wide("First Seen", "string"),
    wide("Count", "string"),
    Column { priority: 1, ..NAME },
];

/// Columns and cells are the same in both groups.
pub fn columns() -> &'static [Column] {
    COLUMNS
}

pub fn cells(event: &Event, now: jiff::Timestamp) -> Vec<Value> {
    let event_time = event.event_time.as_ref().map_or_else(|| UNKNOWN.to_owned(), |time| ago(time.0, now));
    let first = if event.first_timestamp.is_some() { since(event.first_timestamp.as_ref(), now) } else { event_time };
    let mut last = if event.last_timestamp.is_some() { since(event.last_timestamp.as_ref(), now) } else { first.clone() };
    let mut count = event.count.filter(|count| *count != 0).unwrap_or(1);
    if let Some(series) = &event.series {
        last = series.last_observed_time.as_ref().map_or(last, |time| ago(time.0, now));
        count = series.count.unwrap_or(0);
    }
    let about = &event.involved_object;
    let kind = about.kind.as_deref().unwrap_or_default().to_lowercase();
    let target = match about.name.as_deref() {
        Some(name) if !name.is_empty() => format!("{kind}/{name}"),
        _ => kind,
    };
    vec![
        json!(last),
        json!(event.type_.as_deref().unwrap_or_default()),
        json!(event.reason.as_deref().unwrap_or_default()),
        json!(target),
        json!(about.field_path.as_deref().unwrap_or_default()),
        json!(source(event)),
        json!(event.message.as_deref().unwrap_or_default().trim()),
        json!(first),
        json!(count),
        crate::printing::name(&event.metadata),
    ]
}

fn source(event: &Event) -> String {
    let pick = |a: Option<&String>, b: Option<&String>| a.filter(|text| !text.is_empty()).or(b).cloned().unwrap_or_default();
    let source = event.source.as_ref();
    let component = pick(source.and_then(|source| source.component.as_ref()), event.reporting_component.as_ref());
    let host = pick(source.and_then(|source| source.host.as_ref()), event.reporting_instance.as_ref());
    if host.is_empty() { component } else { format!("{component}, {host}") }
}
