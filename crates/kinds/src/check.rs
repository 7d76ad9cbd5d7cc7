//! Field validation: unknown and duplicate fields of a body with their paths, and Go's words for values of a wrong type.
//! One pass over the bytes; must not build the value (sigs.k8s.io/json in strict mode is the model).

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use hashbrown::HashSet;
use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::facts::{Shape, Special};
use crate::schema::Schema;

/// Upstream stops collecting here.
const MAX_PROBLEMS: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    Unknown,
    Duplicate,
}

/// What a strict decoder would complain about.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FieldCheck {
    /// With the path (`spec.containers[0].foo`), in the order of the body, each once.
    pub problems: Vec<(Problem, String)>,
    /// `json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32`: the first wrong type.
    pub type_error: Option<String>,
}

impl FieldCheck {
    /// `unknown field "spec.foo"`, `duplicate field "spec.replicas"`: one `Warning` header each.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        self.problems.iter().map(|(problem, path)| match problem {
            Problem::Unknown => format!("unknown field {path:?}"),
            Problem::Duplicate => format!("duplicate field {path:?}"),
        })
    }

    /// The cause of the 400 under `fieldValidation=Strict` (see `refusal`):
    /// `strict decoding error: unknown field "spec.foo", duplicate field "spec.replicas"`. None: nothing to complain about.
    pub fn strict_error(&self) -> Option<String> {
        if self.problems.is_empty() {
            return None;
        }
        Some(format!("strict decoding error: {}", self.warnings().collect::<Vec<_>>().join(", ")))
    }
}

/// The message of a 400 for a body that cannot be decoded: `Pod in version "v1" cannot be handled as a Pod: CAUSE`.
pub fn refusal(version: &str, kind: &str, cause: &str) -> String {
    format!("{kind} in version {version:?} cannot be handled as a {kind}: {cause}")
}

/// Checks a body against the schema of its kind. What is not JSON at all is left to the decoder's own error: problems up to there are told.
pub fn check(json: &[u8], schema: Schema<'_>) -> FieldCheck {
    run(&mut serde_json::Deserializer::from_slice(json), schema)
}

/// Checks an object that a patch made. Duplicates are gone by then.
pub fn check_value(object: &Value, schema: Schema<'_>) -> FieldCheck {
    run(object, schema)
}

fn run<'de>(deserializer: impl Deserializer<'de>, schema: Schema<'_>) -> FieldCheck {
    let mut state = State { found: FieldCheck::default(), path: String::new(), go_path: String::new() };
    let at = At { schema: Some(schema), owner: "" };
    // An error here is one of syntax or depth, and the decoder meets it as well.
    let _ = Walk { state: &mut state, at }.deserialize(deserializer);
    state.found
}

struct State {
    found: FieldCheck,
    /// `spec.containers[0]`
    path: String,
    /// `spec.containers`: Go's errors leave the indexes out.
    go_path: String,
}

impl State {
    fn report(&mut self, problem: Problem, name: &str) {
        let dot = if self.path.is_empty() { "" } else { "." };
        let entry = (problem, format!("{}{dot}{name}", self.path));
        if self.found.problems.len() < MAX_PROBLEMS && !self.found.problems.contains(&entry) {
            self.found.problems.push(entry);
        }
    }

    fn enter(&mut self, name: &str, is_field: bool) -> (usize, usize) {
        let marks = (self.path.len(), self.go_path.len());
        for (path, is_written) in [(&mut self.path, true), (&mut self.go_path, is_field)] {
            if is_written {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
            }
        }
        marks
    }

    fn leave(&mut self, (path, go_path): (usize, usize)) {
        self.path.truncate(path);
        self.go_path.truncate(go_path);
    }
}

/// The schema of a value (None: below an unknown field, nothing is checked) and the struct that its field is of.
#[derive(Clone, Copy)]
struct At<'s> {
    schema: Option<Schema<'s>>,
    owner: &'s str,
}

struct Walk<'a, 's> {
    state: &'a mut State,
    at: At<'s>,
}

impl Walk<'_, '_> {
    /// Notes a value of a wrong type. `got` is Go's word: `string`, `number`, `bool`, `object`, `array`.
    fn mismatch(&mut self, got: &str) {
        if self.state.found.type_error.is_some() {
            return;
        }
        let Some(Schema::Built { shape, .. }) = self.at.schema else { return };
        let expected = go_type(shape);
        let place = if self.at.owner.is_empty() {
            "Go value".to_owned()
        } else {
            format!("Go struct field {}.{}", self.at.owner, self.state.go_path)
        };
        self.state.found.type_error = Some(format!("json: cannot unmarshal {got} into {place} of type {expected}"));
    }

    fn shape(&self) -> Option<Shape> {
        match self.at.schema {
            Some(Schema::Built { shape, .. }) => Some(shape),
            _ => None,
        }
    }

    fn special(&self) -> Option<Special> {
        self.shape()?.facts().map(|facts| facts.special)
    }

    fn check_scalar(&mut self, got: &str, fits: impl Fn(Shape) -> bool, fits_special: impl Fn(Special) -> bool) {
        let Some(shape) = self.shape() else { return };
        let is_fine = match self.special() {
            Some(special) => fits_special(special) || is_free(special),
            None => shape == Shape::Any || fits(shape),
        };
        if !is_fine {
            self.mismatch(got);
        }
    }
}

fn is_free(special: Special) -> bool {
    use Special::{FieldsV1, Json, JsonSchemaPropsOrArray, JsonSchemaPropsOrBool, JsonSchemaPropsOrStringArray, RawExtension};
    matches!(special, RawExtension | FieldsV1 | Json | JsonSchemaPropsOrArray | JsonSchemaPropsOrBool | JsonSchemaPropsOrStringArray)
}

/// `core.v1.PodSpec` is `v1.PodSpec` to Go.
fn go_type(shape: Shape) -> String {
    match shape {
        Shape::String => "string".into(),
        Shape::Bytes => "[]uint8".into(),
        Shape::Bool => "bool".into(),
        Shape::Int32 => "int32".into(),
        Shape::Int64 => "int64".into(),
        Shape::Double => "float64".into(),
        Shape::Any => "interface {}".into(),
        Shape::List(item) => format!("[]{}", go_type(*item)),
        Shape::Map(value) => format!("map[string]{}", go_type(*value)),
        Shape::Type(id) => {
            let name = id.facts().name;
            let mut parts = name.rsplitn(3, '.');
            match (parts.next(), parts.next()) {
                (Some(kind), Some(version)) => format!("{version}.{kind}"),
                _ => name.to_owned(),
            }
        }
    }
}

fn short_name(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    /// Go takes null for anything.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(mut self, _: bool) -> Result<(), E> {
        self.check_scalar("bool", |shape| shape == Shape::Bool, |_| false);
        Ok(())
    }

    fn visit_i64<E>(mut self, value: i64) -> Result<(), E> {
        let in_range = |shape: Shape| match shape {
            Shape::Int32 => i32::try_from(value).is_ok(),
            other => matches!(other, Shape::Int64 | Shape::Double),
        };
        let is_integer = matches!(self.shape(), Some(Shape::Int32));
        let got = if is_integer { format!("number {value}") } else { "number".into() };
        self.check_scalar(&got, in_range, |special| matches!(special, Special::Quantity | Special::IntOrString));
        Ok(())
    }

    fn visit_u64<E: serde::de::Error>(mut self, value: u64) -> Result<(), E> {
        if let Ok(value) = i64::try_from(value) {
            return self.visit_i64(value);
        }
        self.check_scalar(&format!("number {value}"), |shape| shape == Shape::Double, |special| special == Special::Quantity);
        Ok(())
    }

    fn visit_f64<E>(mut self, value: f64) -> Result<(), E> {
        let is_integer = matches!(self.shape(), Some(Shape::Int32 | Shape::Int64));
        let got = if is_integer { format!("number {value}") } else { "number".into() };
        self.check_scalar(&got, |shape| shape == Shape::Double, |special| special == Special::Quantity);
        Ok(())
    }

    fn visit_str<E>(mut self, _: &str) -> Result<(), E> {
        use Special::{IntOrString, MicroTime, Quantity, Time};
        let fits = |shape| matches!(shape, Shape::String | Shape::Bytes);
        self.check_scalar("string", fits, |special| matches!(special, Quantity | IntOrString | Time | MicroTime));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        let is_list = matches!(self.shape(), None | Some(Shape::List(_) | Shape::Any)) || self.special().is_some_and(is_free);
        if !is_list {
            self.mismatch("array");
        }
        let item = self.at.schema.filter(|_| is_list).map(Schema::item);
        let mark = self.state.path.len();
        let mut index = 0_usize;
        loop {
            let _ = write!(self.state.path, "[{index}]");
            let next = items.next_element_seed(Walk { state: self.state, at: At { schema: item, owner: self.at.owner } })?;
            self.state.path.truncate(mark);
            if next.is_none() {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        let is_struct = self.special() == Some(Special::None);
        let is_object = is_struct || matches!(self.shape(), None | Some(Shape::Map(_) | Shape::Any)) || self.special().is_some_and(is_free);
        if !is_object {
            self.mismatch("object");
        }
        let schema = self.at.schema.filter(|_| is_object);
        let owner = if is_struct { schema.and_then(Schema::facts).map_or("", |facts| short_name(facts.name)) } else { self.at.owner };
        let mut seen = Seen::default();
        while let Some(key) = entries.next_key_seed(Key)? {
            let child = schema.map(|schema| schema.child(&key));
            match child {
                Some(None) => self.state.report(Problem::Unknown, &key),
                Some(Some(_)) if !seen.insert(&key) => self.state.report(Problem::Duplicate, &key),
                _ => {}
            }
            let (schema, is_field) = child.flatten().map_or((None, false), |(schema, is_field)| (Some(schema), is_field));
            let marks = self.state.enter(&key, is_field);
            entries.next_value_seed(Walk { state: self.state, at: At { schema, owner } })?;
            self.state.leave(marks);
        }
        Ok(())
    }
}

/// Keys of one object; few as a rule.
#[derive(Default)]
struct Seen {
    few: Vec<String>,
    many: HashSet<String>,
}

impl Seen {
    fn insert(&mut self, key: &str) -> bool {
        if self.few.iter().any(|seen| seen == key) {
            return false;
        }
        if self.few.len() < 16 {
            self.few.push(key.to_owned());
            return true;
        }
        self.many.insert(key.to_owned())
    }
}

struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(json: &str) -> FieldCheck {
        check(json.as_bytes(), Schema::of("io.k8s.api.apps.v1.Deployment").unwrap())
    }

    #[test]
    fn unknown_and_duplicate_fields_have_upstreams_paths() {
        let check = |json: &str, expected: &[&str]| assert_eq!(deployment(json).warnings().collect::<Vec<_>>(), expected, "{json}");
        check(r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a","labels":{"x":"y"}}}"#, &[]);
        check(r#"{"spec":{"foo":1}}"#, &[r#"unknown field "spec.foo""#]);
        check(r#"{"bogus":{"deep":1}}"#, &[r#"unknown field "bogus""#]);
        check(
            r#"{"spec":{"template":{"spec":{"containers":[{"name":"a"},{"nme":"b","image":"i","image":"j"}]}}}}"#,
            &[r#"unknown field "spec.template.spec.containers[1].nme""#, r#"duplicate field "spec.template.spec.containers[1].image""#],
        );
        check(r#"{"metadata":{"labels":{"a":"1","a":"2"}}}"#, &[r#"duplicate field "metadata.labels.a""#]);
        check(r#"{"metadata":{"managedFields":[{"fieldsV1":{"f:spec":{"any":{}}}}]}}"#, &[]);
        assert_eq!(
            deployment(r#"{"spec":{"foo":1,"replicas":1,"replicas":2}}"#).strict_error().unwrap(),
            r#"strict decoding error: unknown field "spec.foo", duplicate field "spec.replicas""#
        );
        assert_eq!(deployment("{}").strict_error(), None);
        let patched = check_value(&serde_json::json!({"spec": {"foo": 1}}), Schema::of("io.k8s.api.apps.v1.Deployment").unwrap());
        assert_eq!(
            refusal("v1", "Deployment", &patched.strict_error().unwrap()),
            r#"Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field "spec.foo""#
        );
    }

    #[test]
    fn wrong_types_are_told_in_gos_words() {
        let check = |json: &str, expected: Option<&str>| assert_eq!(deployment(json).type_error.as_deref(), expected, "{json}");
        check(r#"{"spec":{"replicas":3,"selector":null}}"#, None);
        check(
            r#"{"spec":{"replicas":"three"}}"#,
            Some("json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"),
        );
        check(
            r#"{"spec":{"replicas":1.5}}"#,
            Some("json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32"),
        );
        check(
            r#"{"spec":{"template":{"spec":{"containers":{"name":"a"}}}}}"#,
            Some("json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container"),
        );
        check(
            r#"{"spec":{"template":{"spec":{"containers":[{"env":[{"name":"A","value":1}]}]}}}}"#,
            Some("json: cannot unmarshal number into Go struct field EnvVar.spec.template.spec.containers.env.value of type string"),
        );
        check(
            r#"{"metadata":{"labels":{"a":true}}}"#,
            Some("json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type string"),
        );
        check(r#"{"spec":{"template":{"spec":{"containers":[{"resources":{"limits":{"cpu":1,"memory":"1Gi"}}}]}}}}"#, None);
        check(r#"{"spec":{"strategy":{"rollingUpdate":{"maxSurge":1,"maxUnavailable":"25%"}}}}"#, None);
    }

    #[test]
    fn hostile_bodies_end_without_a_panic() {
        let deep = "[".repeat(100_000);
        assert_eq!(deployment(&deep).problems, []);
        let nested = format!("{}1{}", r#"{"spec":"#.repeat(500), "}".repeat(500));
        assert!(deployment(&nested).problems.len() <= 1);
        let many: String = (0..500).map(|n| format!("\"x{n}\":1,")).collect();
        assert_eq!(deployment(&format!("{{{many}\"kind\":\"a\"}}")).problems.len(), MAX_PROBLEMS);
        assert_eq!(deployment("\u{1F}").problems, []);
    }
}
