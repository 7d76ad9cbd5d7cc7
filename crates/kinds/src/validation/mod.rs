//! Rules that several kinds share (pkg/apis/core/validation, apimachinery/pkg/api/validation). Each adds to the errors what is wrong;
//! must never change the object.

pub mod containers;
pub mod env;
pub mod metadata;
pub mod pod_spec;
pub mod pod_template;
pub mod probes;
pub mod resources;
pub mod scheduling;
pub mod security;
pub mod selectors;
pub mod volumes;

use api::{FieldErrors, IntOrString, Path, names};
use serde::Serialize;
use serde_json::Value;

pub use metadata::{object_meta, object_meta_update};

/// What an immutable field answers.
pub const IMMUTABLE: &str = "field is immutable";
pub const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
pub const POSITIVE: &str = "must be greater than 0";

/// An `invalid` per complaint.
pub fn each(errors: &mut FieldErrors, path: &Path, value: &str, problems: Vec<String>) {
    for problem in problems {
        errors.invalid(path, value, &problem);
    }
}

/// As `each`, for a number.
pub fn each_int(errors: &mut FieldErrors, path: &Path, value: i64, problems: Vec<String>) {
    for problem in problems {
        errors.invalid(path, value, &problem);
    }
}

/// A text that must be there and follow a rule.
pub fn required_text(errors: &mut FieldErrors, path: &Path, value: &str, rule: impl Fn(&str) -> Vec<String>) {
    if value.is_empty() {
        errors.required(path, "");
    } else {
        each(errors, path, value, rule(value));
    }
}

/// A text that must be there.
pub fn required(errors: &mut FieldErrors, path: &Path, value: &str, detail: &str) {
    if value.is_empty() {
        errors.required(path, detail);
    }
}

/// A text that follows a rule where it is there and not empty.
pub fn optional_text(errors: &mut FieldErrors, path: &Path, value: Option<&str>, rule: impl Fn(&str) -> Vec<String>) {
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        each(errors, path, value, rule(value));
    }
}

/// One of a list; absent and empty count as missing.
pub fn one_of(errors: &mut FieldErrors, path: &Path, value: Option<&str>, supported: &[&str]) {
    match value.unwrap_or_default() {
        "" => errors.required(path, ""),
        value => one_of_present(errors, path, Some(value), supported),
    }
}

/// One of a list where it is there.
pub fn one_of_present(errors: &mut FieldErrors, path: &Path, value: Option<&str>, supported: &[&str]) {
    if let Some(value) = value.filter(|value| !supported.contains(value)) {
        errors.not_supported(path, value, supported);
    }
}

pub fn not_negative(errors: &mut FieldErrors, path: &Path, value: impl Into<i64>) {
    let value = value.into();
    if value < 0 {
        errors.invalid(path, value, NOT_NEGATIVE);
    }
}

/// As `not_negative`, for a number that may be absent.
pub fn not_negative_opt(errors: &mut FieldErrors, path: &Path, value: Option<impl Into<i64>>) {
    if let Some(value) = value {
        not_negative(errors, path, value);
    }
}

/// A value as the API shows it, for errors about whole objects.
pub fn shown(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// `field is immutable` where the two differ.
pub fn immutable<T: PartialEq + Serialize>(errors: &mut FieldErrors, path: &Path, new: &T, old: &T) {
    if new != old {
        errors.invalid(path, &shown(new), IMMUTABLE);
    }
}

/// A port by number or by name.
pub fn port(errors: &mut FieldErrors, path: &Path, port: &IntOrString) {
    match port {
        IntOrString::Int(number) => each_int(errors, path, i64::from(*number), names::port_number(*number)),
        IntOrString::String(name) => each(errors, path, name, names::port_name(name)),
    }
}

/// A count or a percentage, not negative.
pub fn int_or_percent(errors: &mut FieldErrors, path: &Path, value: &IntOrString) {
    match value {
        IntOrString::Int(number) => not_negative(errors, path, *number),
        IntOrString::String(text) => each(errors, path, text, names::percent(text)),
    }
}

/// The number before the `%`, if it is a percentage.
pub fn percent_of(value: &IntOrString) -> Option<i64> {
    match value {
        IntOrString::String(text) => text.strip_suffix('%').and_then(|digits| digits.parse().ok()),
        IntOrString::Int(_) => None,
    }
}

/// Percentages above 100 make no sense for a share of pods.
pub fn at_most_hundred_percent(errors: &mut FieldErrors, path: &Path, value: &IntOrString) {
    if percent_of(value).is_some_and(|percent| percent > 100) {
        errors.invalid(path, &shown(value), "must not be greater than 100%");
    }
}

/// Whether it is the number 0 or `0%`.
pub fn is_zero(value: &IntOrString) -> bool {
    match value {
        IntOrString::Int(number) => *number == 0,
        IntOrString::String(_) => percent_of(value) == Some(0),
    }
}

/// `not_supported` for lists that upstream prints from a set.
pub fn not_supported_sorted(errors: &mut FieldErrors, path: &Path, value: &str, supported: &[&str]) {
    let mut sorted = supported.to_vec();
    sorted.sort_unstable();
    errors.not_supported(path, value, &sorted);
}
