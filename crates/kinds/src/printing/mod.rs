//! Texts of table cells that several kinds share (pkg/printers/internalversion/printers.go). Must not know a clock: `now` is passed in.

pub mod duration;

use std::collections::BTreeMap;

use api::core::v1::Container;
use api::meta::v1::{LabelSelector, ObjectMeta, Time};
use serde_json::{Value, json};

use crate::kind::Column;

pub use duration::human_duration;

/// A column that is always shown.
pub const fn column(name: &'static str, kind: &'static str) -> Column {
    Column { name, kind, format: "", priority: 0, description: "" }
}

/// A column that only `-o wide` shows.
pub const fn wide(name: &'static str, kind: &'static str) -> Column {
    Column { priority: 1, ..column(name, kind) }
}

pub const AGE: Column = crate::kind::AGE_COLUMN;
pub const NAME: Column = crate::kind::NAME_COLUMN;

pub const NONE: &str = "<none>";
pub const UNSET: &str = "<unset>";
pub const UNKNOWN: &str = "<unknown>";

/// How long ago the object was made.
pub fn age(meta: &ObjectMeta, now: jiff::Timestamp) -> Value {
    Value::String(since(meta.creation_timestamp.as_ref(), now))
}

/// How long ago a time was: `5m12s`, `<unknown>` for none.
pub fn since(time: Option<&Time>, now: jiff::Timestamp) -> String {
    time.map_or_else(|| UNKNOWN.to_owned(), |time| ago(time.0, now))
}

pub fn ago(time: jiff::Timestamp, now: jiff::Timestamp) -> String {
    human_duration(now.as_second() - time.as_second())
}

pub fn name(meta: &ObjectMeta) -> Value {
    crate::row::name_cell(meta)
}

/// The text, or `<none>` for none and the empty one.
pub fn or_none(text: Option<&str>) -> &str {
    text.filter(|text| !text.is_empty()).unwrap_or(NONE)
}

/// `a=b,c=d`.
pub fn labels(labels: Option<&BTreeMap<String, String>>) -> String {
    let pairs: Vec<String> = labels.into_iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
    if pairs.is_empty() { NONE.to_owned() } else { pairs.join(",") }
}

/// A selector as kubectl takes it; `<none>` where it selects everything.
pub fn selector(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else { return NONE.to_owned() };
    match api::selector::Selector::from_label_selector(selector) {
        Ok(parsed) if parsed.is_everything() => NONE.to_owned(),
        Ok(parsed) => parsed.to_string(),
        Err(_) => "<error>".to_owned(),
    }
}

/// Two cells: the containers' names, their images.
pub fn containers(containers: &[Container]) -> [Value; 2] {
    let names: Vec<&str> = containers.iter().map(|container| container.name.as_str()).collect();
    let images: Vec<&str> = containers.iter().map(|container| container.image.as_deref().unwrap_or_default()).collect();
    [json!(names.join(",")), json!(images.join(","))]
}

/// Up to `max` entries, then how many more there are.
pub fn first_few(list: &[String], max: usize) -> String {
    if list.is_empty() {
        return NONE.to_owned();
    }
    let shown = list.iter().take(max).map(String::as_str).collect::<Vec<_>>().join(",");
    if list.len() > max { format!("{shown} + {} more...", list.len() - max) } else { shown }
}

/// Go's `%v` of a boolean that may be absent.
pub fn bool_or(value: Option<bool>, absent: &str) -> String {
    value.map_or_else(|| absent.to_owned(), |value| if value { "True" } else { "False" }.to_owned())
}

/// An address with its port; IPv6 in brackets.
pub fn host_port(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A number or a text as written.
pub fn int_or_string(value: &api::IntOrString) -> String {
    match value {
        api::IntOrString::Int(number) => number.to_string(),
        api::IntOrString::String(text) => text.clone(),
    }
}
