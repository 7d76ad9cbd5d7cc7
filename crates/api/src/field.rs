//! Field paths and the errors of validation, in upstream's words (apimachinery/pkg/util/validation/field).

use std::fmt;

/// Where a field is: `spec.containers[0].ports[name]`. Cheap to extend while validating.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    pub fn new(root: &str) -> Self {
        Self(root.to_owned())
    }

    /// The path of a struct field below this one.
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.to_owned()) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// The path of a list element.
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The path of a map entry.
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

/// The kind of a field error; `reason` gives the string that a Status cause carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorKind {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    Internal,
    TypeInvalid,
}

impl FieldErrorKind {
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
            Self::TypeInvalid => "Invalid value",
        }
    }
}

/// One problem with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    pub kind: FieldErrorKind,
    pub path: Path,
    /// The text after the path: `Invalid value: "x": must be ...`.
    pub message: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// All problems that one validation found, in the order found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldErrors(pub Vec<FieldError>);

impl FieldErrors {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn push(&mut self, kind: FieldErrorKind, path: &Path, value: Option<String>, detail: &str) {
        let mut message = kind.words().to_owned();
        if let Some(value) = value {
            message.push_str(": ");
            message.push_str(&value);
        }
        if !detail.is_empty() {
            message.push_str(": ");
            message.push_str(detail);
        }
        self.0.push(FieldError { kind, path: path.clone(), message });
    }

    pub fn required(&mut self, path: &Path, detail: &str) {
        self.push(FieldErrorKind::Required, path, None, detail);
    }

    /// `value` prints as Go prints it: strings quoted, numbers bare, objects as JSON.
    pub fn invalid(&mut self, path: &Path, value: impl Shown, detail: &str) {
        self.push(FieldErrorKind::Invalid, path, Some(value.shown()), detail);
    }

    pub fn type_invalid(&mut self, path: &Path, value: impl Shown, detail: &str) {
        self.push(FieldErrorKind::TypeInvalid, path, Some(value.shown()), detail);
    }

    pub fn not_supported(&mut self, path: &Path, value: impl Shown, supported: &[&str]) {
        let list = supported.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(", ");
        let detail = if supported.is_empty() { String::new() } else { format!("supported values: {list}") };
        self.push(FieldErrorKind::NotSupported, path, Some(value.shown()), &detail);
    }

    pub fn duplicate(&mut self, path: &Path, value: impl Shown) {
        self.push(FieldErrorKind::Duplicate, path, Some(value.shown()), "");
    }

    pub fn not_found(&mut self, path: &Path, value: impl Shown) {
        self.push(FieldErrorKind::NotFound, path, Some(value.shown()), "");
    }

    pub fn forbidden(&mut self, path: &Path, detail: &str) {
        self.push(FieldErrorKind::Forbidden, path, None, detail);
    }

    pub fn too_long(&mut self, path: &Path, max_bytes: usize) {
        self.push(FieldErrorKind::TooLong, path, None, &format!("may not be more than {max_bytes} bytes"));
    }

    pub fn too_many(&mut self, path: &Path, actual: usize, max: usize) {
        self.push(FieldErrorKind::TooMany, path, Some(actual.to_string()), &format!("must have at most {max} items"));
    }

    pub fn internal(&mut self, path: &Path, detail: &str) {
        self.push(FieldErrorKind::Internal, path, None, detail);
    }
}

/// How a bad value is shown in an error.
pub trait Shown {
    fn shown(&self) -> String;
}

impl Shown for &str {
    fn shown(&self) -> String {
        format!("{self:?}")
    }
}

impl Shown for &String {
    fn shown(&self) -> String {
        format!("{self:?}")
    }
}

impl Shown for String {
    fn shown(&self) -> String {
        format!("{self:?}")
    }
}

impl Shown for &serde_json::Value {
    fn shown(&self) -> String {
        self.to_string()
    }
}

macro_rules! shown_plain {
    ($($t:ty),*) => { $(impl Shown for $t { fn shown(&self) -> String { self.to_string() } })* };
}
shown_plain!(i32, i64, u16, u32, u64, usize, bool);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_upstream_prints() {
        let mut errors = FieldErrors::default();
        let containers = Path::new("spec").child("containers");
        errors.required(&containers, "");
        errors.invalid(&containers.index(0).child("name"), "A", "must be lower case");
        errors.not_supported(&Path::new("type"), "X", &["A", "B"]);
        let texts: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "spec.containers: Required value",
                "spec.containers[0].name: Invalid value: \"A\": must be lower case",
                "type: Unsupported value: \"X\": supported values: \"A\", \"B\"",
            ]
        );
    }
}
