//! Which objects a list, watch or delete-collection is about, and from when.

use api::selector::{FieldSelector, Selector};
use api::{FieldErrors, Path, Reason, StatusError};

use super::call::Call;
use crate::cache::{Collection, Entry, WAKE_FIELDS};

/// Label selector, field selector and place, compiled.
#[derive(Clone)]
pub struct Selection {
    labels: Selector,
    fields: FieldSelector,
    /// Keys begin so: `ns/` or empty.
    pub prefix: String,
}

impl Selection {
    pub fn of(call: &Call) -> Result<Self, StatusError> {
        let invalid = |error: &dyn std::fmt::Display| StatusError::bad_request(error.to_string());
        let labels = call
            .query
            .text("labelSelector")
            .map_or(Ok(Selector::everything()), Selector::parse)
            .map_err(|e| StatusError::bad_request(format!("unable to parse requirement: {e}")))?;
        let mut fields =
            call.query.text("fieldSelector").map_or(Ok(FieldSelector::default()), FieldSelector::parse).map_err(|e| invalid(&e))?;
        let collection = collection(call)?;
        for term in &fields.requirements {
            let known = matches!(term.field.as_str(), "metadata.name" | "metadata.namespace")
                || collection.field_names.contains(&term.field.as_str());
            if !known {
                return Err(invalid(&format!("field label not supported: {}", term.field)));
            }
        }
        if let Some(name) = &call.path.name {
            // `/watch/.../NAME`.
            let only = FieldSelector::parse(&format!("metadata.name={name}")).map_err(|e| invalid(&e))?;
            fields.requirements.extend(only.requirements);
        }
        let prefix = call.namespace().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        Ok(Self { labels, fields, prefix })
    }

    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_empty()
    }

    /// The field and value that every selected entry has and by which changes can be told apart.
    pub fn narrowed(&self) -> Option<(&'static str, &str)> {
        WAKE_FIELDS.iter().find_map(|field| self.fields.exact(field).map(|value| (*field, value)))
    }

    /// Whether the entry is selected; its place is checked too.
    pub fn matches(&self, entry: &Entry) -> bool {
        entry.key.starts_with(&self.prefix) && self.labels.matches(&entry.labels) && self.fields.matches(|field| entry.field(field))
    }
}

pub fn collection(call: &Call) -> Result<&std::sync::Arc<Collection>, StatusError> {
    call.resource.collection.as_ref().ok_or_else(crate::transport::response::method_not_allowed)
}

/// `resourceVersion` of a query: `None` where it is not set.
pub fn revision(text: Option<&str>) -> Result<Option<i64>, StatusError> {
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(None) };
    match text.parse::<u64>().ok().and_then(|r| i64::try_from(r).ok()) {
        Some(revision) => Ok(Some(revision)),
        None => Err(StatusError::bad_request(format!(
            "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
        ))),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    Unset,
    NotOlderThan,
    Exact,
}

/// `resourceVersionMatch` of a list, checked against what it may go with (apimachinery/pkg/apis/meta/internalversion/validation).
pub fn version_match(call: &Call, continued: bool) -> Result<Match, StatusError> {
    let version = call.query.text("resourceVersion");
    if call.query.has("sendInitialEvents") {
        return Err(bad_option("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    let found = named_match(call)?;
    let why = match found {
        Match::Unset => return Ok(found),
        _ if continued => "resourceVersionMatch is forbidden when continue is provided",
        _ if version.is_none() => "resourceVersionMatch is forbidden unless resourceVersion is provided",
        Match::Exact if version == Some("0") => "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        _ => return Ok(found),
    };
    Err(bad_option("resourceVersionMatch", why))
}

pub fn named_match(call: &Call) -> Result<Match, StatusError> {
    match call.query.text("resourceVersionMatch") {
        None => Ok(Match::Unset),
        Some("Exact") => Ok(Match::Exact),
        Some("NotOlderThan") => Ok(Match::NotOlderThan),
        Some(other) => {
            let mut errors = FieldErrors::default();
            errors.not_supported(&Path::new("resourceVersionMatch"), other, &["Exact", "NotOlderThan", ""]);
            Err(StatusError::invalid("meta.k8s.io", "ListOptions", "", &errors))
        }
    }
}

/// 422 about one of the query's options.
pub fn bad_option(field: &str, why: &str) -> StatusError {
    let mut errors = FieldErrors::default();
    errors.forbidden(&Path::new(field), why);
    StatusError::invalid("meta.k8s.io", "ListOptions", "", &errors)
}

/// A continue token: the revision of the list and the key to go on from (apimachinery/pkg/.../storage/continue.go).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Continue {
    v: String,
    rv: i64,
    start: String,
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";

impl Continue {
    /// `last`: the last key that was sent, below the list's prefix.
    pub fn encode(revision: i64, last: &str) -> String {
        use base64::Engine;
        let token = Self { v: TOKEN_VERSION.into(), rv: revision, start: format!("{last}\0") };
        let json = serde_json::to_vec(&token).expect("strings and numbers serialize");
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json)
    }

    /// The revision (-1: whatever is newest) and the first key, below the list's prefix.
    pub fn decode(token: &str) -> Result<(i64, String), StatusError> {
        use base64::Engine;
        let bad = |why: String| StatusError::bad_request(format!("continue key is not valid: {why}"));
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).map_err(|e| bad(e.to_string()))?;
        let parsed: Self = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
        if parsed.v != TOKEN_VERSION {
            return Err(bad(format!("server does not recognize this encoded version {:?}", parsed.v)));
        }
        if parsed.rv == 0 || parsed.start.is_empty() || parsed.start.starts_with('/') || parsed.start.contains("/../") {
            return Err(bad("incorrect encoded start resourceVersion or key".into()));
        }
        Ok((parsed.rv, parsed.start))
    }
}

/// 410 with a token that goes on at the newest revision (storage/etcd3/errors.go).
pub fn expired(start: &str) -> StatusError {
    let message = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";
    let mut error = StatusError::new(Reason::Expired, message);
    error.0.metadata.continue_ = Some(Continue::encode(-1, start.strip_suffix('\0').unwrap_or(start)));
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip() {
        assert_eq!(Continue::decode(&Continue::encode(5, "a/b")).unwrap(), (5, "a/b\0".to_owned()));
        for bad in ["", "x", "e30", "%%%"] {
            assert!(Continue::decode(bad).is_err(), "{bad}");
        }
    }
}
