//! Rules on label selectors inside objects (apimachinery/pkg/apis/meta/v1/validation).

use api::meta::v1::LabelSelector;
use api::{FieldErrors, Path, names};

use super::{each, metadata};

/// A selector that may be absent.
pub fn label_selector(errors: &mut FieldErrors, path: &Path, selector: Option<&LabelSelector>) {
    let Some(selector) = selector else { return };
    metadata::labels(selector.match_labels.as_ref(), &path.child("matchLabels"), errors);
    for (index, term) in selector.match_expressions.iter().flatten().enumerate() {
        let path = path.child("matchExpressions").index(index);
        let values = term.values.as_deref().unwrap_or_default();
        match term.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.forbidden(&path.child("values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
            "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        each(errors, &path.child("key"), &term.key, names::qualified_name(&term.key));
        for (index, value) in values.iter().enumerate() {
            each(errors, &path.child("values").index(index), value, names::label_value(value));
        }
    }
}

/// Whether it selects everything.
pub fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(std::collections::BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}
