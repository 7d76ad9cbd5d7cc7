//! Walks of values under a schema: the fields that a value has, what differs between two, merging one into the other, removing fields
//! (sigs.k8s.io/structured-merge-diff, typed/). Must not know managers.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::LazyLock;

use hashbrown::{HashMap, HashSet};
use serde_json::{Map, Value};

use super::set::{self, Set};
use crate::facts::{Shape, Special};
use crate::schema::{Merge, Schema};

static EMPTY: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));
static NULL: Value = Value::Null;

/// How a place is walked, once the values there are known.
enum Way<'s> {
    Leaf,
    Object,
    List(Merge<'s>),
}

fn way<'s>(schema: Schema<'s>, values: [Option<&Value>; 2]) -> Way<'s> {
    let mut present = values.into_iter().flatten().filter(|value| !value.is_null()).peekable();
    match schema.merge() {
        Merge::Object | Merge::Deduced if present.peek().is_some() && present.all(Value::is_object) => Way::Object,
        merge @ (Merge::Set | Merge::Keyed(_)) if present.peek().is_some() && present.all(Value::is_array) => Way::List(merge),
        _ => Way::Leaf,
    }
}

fn child<'s>(schema: Schema<'s>, name: &str) -> (Schema<'s>, bool) {
    schema.child(name).unwrap_or((Schema::Untyped, false))
}

/// What Go has where the field is left out, for those that it always writes.
fn implied(schema: Schema<'_>) -> Option<&'static Value> {
    match schema {
        Schema::Built { shape: Shape::List(_), field: Some(field) } if field.is_value => Some(&NULL),
        Schema::Built { field: Some(field), .. } if field.is_value => Some(&EMPTY),
        _ => None,
    }
}

/// The path element of a list's item. None: the item has none of the keys.
fn element(merge: Merge<'_>, item: &Value) -> Option<String> {
    match merge {
        Merge::Keyed(keys) => {
            let mut fields: Vec<(&str, Value)> = keys.values(item).filter_map(|(name, value)| Some((name, value?))).collect();
            if fields.is_empty() {
                return None;
            }
            fields.sort_unstable_by_key(|(name, _)| *name);
            let mut text = String::from("k:{");
            for (at, (name, value)) in fields.iter().enumerate() {
                let comma = if at == 0 { "" } else { "," };
                text.push_str(&format!("{comma}\"{name}\":{value}"));
            }
            Some(text + "}")
        }
        _ => Some(format!("v:{item}")),
    }
}

fn element_at(merge: Merge<'_>, index: usize, item: &Value) -> String {
    element(merge, item).unwrap_or_else(|| format!("i:{index}"))
}

/// What differs from an old value to a new one.
#[derive(Debug, Default, PartialEq)]
pub struct Comparison {
    pub added: Set,
    pub modified: Set,
    pub removed: Set,
}

#[derive(Clone, Copy, PartialEq)]
enum Change {
    None,
    Added,
    Modified,
    Removed,
}

impl Comparison {
    pub fn is_same(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    fn attach(&mut self, key: &str, below: Self, own: Change) {
        set::attach(&mut self.added, key, below.added, own == Change::Added);
        set::attach(&mut self.modified, key, below.modified, own == Change::Modified);
        set::attach(&mut self.removed, key, below.removed, own == Change::Removed);
    }
}

pub fn compare(schema: Schema<'_>, old: &Value, new: &Value) -> Comparison {
    let mut found = Comparison::default();
    compare_at(schema, Some(old), Some(new), &mut found);
    found
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(_) => false,
    }
}

fn compare_at(schema: Schema<'_>, old: Option<&Value>, new: Option<&Value>, found: &mut Comparison) -> Change {
    let way = way(schema, [old, new]);
    // An empty value is told from none, and has nothing below.
    let is_leaf = matches!(way, Way::Leaf) || is_empty(old) && is_empty(new);
    match way {
        _ if is_leaf => {}
        Way::Object => compare_objects(schema, old, new, found),
        Way::List(merge) if old != new => compare_lists(schema, merge, old, new, found),
        _ => {}
    }
    match (old, new) {
        (None, Some(_)) => Change::Added,
        (Some(_), None) => Change::Removed,
        (Some(old), Some(new)) if is_leaf && old != new => Change::Modified,
        _ => Change::None,
    }
}

fn compare_objects(schema: Schema<'_>, old: Option<&Value>, new: Option<&Value>, found: &mut Comparison) {
    let (old, new) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
    let mut compare_field = |name: &str| {
        let (below_schema, _) = child(schema, name);
        let implied = implied(below_schema);
        let in_old = old.and_then(|map| map.get(name).or(implied));
        let in_new = new.and_then(|map| map.get(name).or(implied));
        let mut below = Comparison::default();
        let own = compare_at(below_schema, in_old, in_new, &mut below);
        if own != Change::None || !below.is_same() {
            found.attach(&format!("f:{name}"), below, own);
        }
    };
    for name in old.into_iter().flat_map(Map::keys) {
        compare_field(name);
    }
    for name in new.into_iter().flat_map(Map::keys) {
        if !old.is_some_and(|old| old.contains_key(name)) {
            compare_field(name);
        }
    }
    if let (Some(facts), true) = (schema.facts(), old.is_some() != new.is_some()) {
        let present = old.or(new);
        for field in facts.fields.iter().filter(|field| field.is_value && !present.is_some_and(|map| map.contains_key(field.name))) {
            compare_field(field.name);
        }
    }
}

fn compare_lists(schema: Schema<'_>, merge: Merge<'_>, old: Option<&Value>, new: Option<&Value>, found: &mut Comparison) {
    let mut items: BTreeMap<String, [Vec<&Value>; 2]> = BTreeMap::new();
    for (side, list) in [old, new].into_iter().enumerate() {
        for (index, item) in list.and_then(Value::as_array).into_iter().flatten().enumerate() {
            items.entry(element_at(merge, index, item)).or_default()[side].push(item);
        }
    }
    for (key, [old, new]) in items {
        let mut below = Comparison::default();
        let own = match (old.as_slice(), new.as_slice()) {
            ([_] | [], [_] | []) => compare_at(schema.item(), old.first().copied(), new.first().copied(), &mut below),
            ([], _) => Change::Added,
            (_, []) => Change::Removed,
            // Duplicates are owned as one.
            (old, new) if old == new => Change::None,
            _ => Change::Modified,
        };
        if own != Change::None || !below.is_same() {
            found.attach(&key, below, own);
        }
    }
}

/// A configuration that its schema does not allow, in upstream's words: `.spec.foo: field not declared in schema`.
#[derive(Debug, PartialEq, Eq)]
pub struct Undeclared(pub String);

/// The fields that a configuration has.
pub fn field_set(schema: Schema<'_>, value: &Value) -> Result<Set, Undeclared> {
    let mut walk = FieldSetWalk::default();
    let mut found = Set::new();
    walk.value(schema, value, &mut found);
    match walk.errors.as_slice() {
        [] => Ok(found),
        [error] => Err(Undeclared(error.clone())),
        errors => Err(Undeclared(format!("errors:\n  {}", errors.join("\n  ")))),
    }
}

/// The fields that a stored object has; what its schema does not know is left out.
pub fn field_set_of_stored(schema: Schema<'_>, value: &Value) -> Set {
    let mut found = Set::new();
    FieldSetWalk::default().value(schema, value, &mut found);
    found
}

#[derive(Default)]
struct FieldSetWalk {
    /// `.spec.containers[name="a"]`
    path: String,
    errors: Vec<String>,
}

impl FieldSetWalk {
    fn error(&mut self, text: impl Display) {
        self.errors.push(format!("{}: {text}", self.path));
    }

    /// Fills `found` with what is below; returns whether the value is a leaf.
    fn value(&mut self, schema: Schema<'_>, value: &Value, found: &mut Set) -> bool {
        match (way(schema, [Some(value), None]), value) {
            (Way::Object, Value::Object(map)) => {
                self.object(schema, map, found);
                false
            }
            (Way::List(merge), Value::Array(list)) => {
                self.list(schema, merge, list, found);
                false
            }
            _ => {
                if let Some(expected) = mismatch(schema, value) {
                    self.error(expected);
                }
                true
            }
        }
    }

    fn object(&mut self, schema: Schema<'_>, map: &Map<String, Value>, found: &mut Set) {
        for (name, item) in map {
            let mark = self.path.len();
            self.path.push('.');
            self.path.push_str(name);
            if let Some((below_schema, is_named)) = schema.child(name) {
                let mut below = Set::new();
                let is_leaf = self.value(below_schema, item, &mut below);
                let is_bare = item.is_null() || item.as_object().is_some_and(Map::is_empty);
                set::attach(found, format!("f:{name}"), below, is_leaf || is_bare || !is_named);
            } else {
                self.error("field not declared in schema");
            }
            self.path.truncate(mark);
        }
    }

    fn list(&mut self, schema: Schema<'_>, merge: Merge<'_>, list: &[Value], found: &mut Set) {
        for (index, item) in list.iter().enumerate() {
            let Some(key) = element(merge, item) else {
                self.error(format_args!("element {index}: associative list with keys has an element that omits all key fields"));
                continue;
            };
            if let (Merge::Keyed(_), true) = (merge, found.contains_key(&key)) {
                self.error(format_args!("duplicate entries for key {}", set::element_text(&key)));
                continue;
            }
            let mark = self.path.len();
            self.path.push_str(&set::element_text(&key));
            let mut below = Set::new();
            self.value(schema.item(), item, &mut below);
            self.path.truncate(mark);
            set::attach(found, key, below, true);
        }
    }
}

/// What is wrong with a value that is not walked into. None: nothing.
fn mismatch(schema: Schema<'_>, value: &Value) -> Option<String> {
    let Schema::Built { shape, .. } = schema else { return None };
    let go_type = match value {
        Value::Null => return None,
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    };
    let expected = match shape {
        Shape::Bool if !value.is_boolean() => "boolean",
        Shape::Int32 | Shape::Int64 | Shape::Double if !value.is_number() => {
            return Some(format!("expected numeric (int or float), got {go_type}"));
        }
        Shape::String | Shape::Bytes if !value.is_string() => "string",
        Shape::List(_) if !value.is_array() => "list",
        Shape::Map(_) if !value.is_object() => "map",
        Shape::Type(id) if id.facts().special == Special::None && !value.is_object() => "map",
        _ => return None,
    };
    Some(format!("expected {expected}, got {value}"))
}

/// The set with every named field on the way to a member a member too.
pub fn with_named_fields(schema: Schema<'_>, set: &Set) -> Set {
    let mut filled = Set::new();
    for (key, node) in set {
        let Some(node) = node.as_object().filter(|_| key != ".") else { continue };
        let (below_schema, is_named) = match key.split_at_checked(2) {
            Some(("f:", name)) => child(schema, name),
            _ => (schema.item(), false),
        };
        set::attach(&mut filled, key, with_named_fields(below_schema, node), is_named || set::is_member(node));
    }
    filled
}

/// `live` with all that `config` says.
pub fn merge(schema: Schema<'_>, live: Option<&Value>, config: &Value) -> Value {
    let Some(live) = live else { return config.clone() };
    match (way(schema, [Some(live), Some(config)]), live, config) {
        (Way::Object, Value::Object(live), Value::Object(config)) => {
            let mut merged = live.clone();
            for (name, value) in config {
                let (below, _) = child(schema, name);
                let value = merge(below, live.get(name), value);
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        (Way::List(keys), Value::Array(live), Value::Array(config)) => Value::Array(merge_lists(schema, keys, live, config)),
        _ => config.clone(),
    }
}

/// Keeps the order of the configuration among its items, and items that it does not have where they are between shared ones.
fn merge_lists(schema: Schema<'_>, keys: Merge<'_>, live: &[Value], config: &[Value]) -> Vec<Value> {
    let name = |list: &[Value]| -> Vec<String> { list.iter().enumerate().map(|(at, item)| element_at(keys, at, item)).collect() };
    let (live_names, config_names) = (name(live), name(config));
    let in_config: HashSet<&str> = config_names.iter().map(String::as_str).collect();
    let mut in_live: HashMap<&str, &Value> = HashMap::with_capacity(live.len());
    for (name, item) in live_names.iter().zip(live) {
        in_live.entry(name).or_insert(item);
    }
    let mut shared = config_names.iter().map(String::as_str).filter(|name| in_live.contains_key(name)).peekable();
    let mut merged = Vec::with_capacity(live.len() + config.len());
    let mut done: HashSet<&str> = HashSet::new();
    let (mut l, mut r) = (0, 0);
    while l < live.len() || r < config.len() {
        if l < live.len() {
            let name = live_names[l].as_str();
            if !in_config.contains(name) {
                merged.push(live[l].clone());
                l += 1;
                continue;
            }
            let is_next = r < config.len() && name == config_names[r];
            if !is_next && (done.contains(name) || r >= config.len() || shared.peek().is_some_and(|next| *next != name)) {
                l += 1;
                continue;
            }
        }
        if r < config.len() {
            let name = config_names[r].as_str();
            if done.insert(name) {
                merged.push(merge(schema.item(), in_live.get(name).copied(), &config[r]));
            }
            if shared.peek() == Some(&name) {
                shared.next();
            }
            if l < live.len() && live_names[l] == name {
                l += 1;
            }
            r += 1;
        }
    }
    merged
}

/// The value without the members of the set. None: nothing is left.
pub fn remove(schema: Schema<'_>, value: &Value, unwanted: &Set) -> Option<Value> {
    match (way(schema, [Some(value), None]), value) {
        (Way::Object, Value::Object(map)) => {
            let mut kept = Map::new();
            for (name, item) in map {
                match set::get(unwanted, &format!("f:{name}")) {
                    Some((_, true)) => {}
                    Some((below, false)) => {
                        kept.extend(remove(child(schema, name).0, item, below).map(|item| (name.clone(), item)));
                    }
                    None => _ = kept.insert(name.clone(), item.clone()),
                }
            }
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        (Way::List(keys), Value::Array(list)) => {
            let mut kept = Vec::new();
            for (index, item) in list.iter().enumerate() {
                match set::get(unwanted, &element_at(keys, index, item)) {
                    Some((_, true)) => {}
                    Some((below, false)) => kept.extend(remove(schema.item(), item, below)),
                    None => kept.push(item.clone()),
                }
            }
            (!kept.is_empty()).then_some(Value::Array(kept))
        }
        _ => Some(value.clone()),
    }
}
