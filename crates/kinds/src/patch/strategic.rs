//! Strategic merge patch: lists merge by key or as sets where the type says so, and directives (`$patch`, `$retainKeys`, `$setElementOrder/`,
//! `$deleteFromPrimitiveList/`) say what a merge cannot (apimachinery/pkg/util/strategicpatch/patch.go).

use hashbrown::HashMap;
use serde_json::{Map, Value};

use super::PatchError;
use crate::facts::{self, Field, Shape, Special, Strategy};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_ITEMS: &str = "$deleteFromPrimitiveList/";

/// Deeper patches than any type nests are refused, so that no patch exhausts the stack.
const MAX_DEPTH: usize = 128;

type Object = Map<String, Value>;
type Result<T> = std::result::Result<T, PatchError>;

/// Applies `patch` to `current`, an object of the built-in type `schema` (`io.k8s.api.core.v1.Pod`).
pub fn strategic_merge(current: &Value, patch: &Value, schema: &str) -> Result<Value> {
    let id = facts::id_of(schema).ok_or_else(|| bad("strategic merge patch is not supported for this kind"))?;
    match (current, patch) {
        (Value::Object(current), Value::Object(patch)) => {
            Ok(Value::Object(merge_map(current.clone(), patch.clone(), Place::root(Shape::Type(id)))?))
        }
        _ => Err(bad("invalid JSON document")),
    }
}

fn bad(text: impl Into<String>) -> PatchError {
    PatchError::BadRequest(text.into())
}

fn mismatched_list() -> PatchError {
    bad("invalid patch format of primitive list")
}

/// Where a merge is: the type there, the strategy and merge key of its field.
#[derive(Clone, Copy)]
struct Place {
    shape: Option<Shape>,
    strategy: Strategy,
    merge_key: Option<&'static str>,
    depth: usize,
}

impl Place {
    fn root(shape: Shape) -> Self {
        Self { shape: Some(shape), strategy: Strategy::default(), merge_key: None, depth: 0 }
    }

    fn below(self, shape: Option<Shape>, field: Option<&'static Field>) -> Self {
        Self {
            shape,
            strategy: field.map(|f| f.strategy).unwrap_or_default(),
            merge_key: field.and_then(|f| f.merge_key),
            depth: self.depth + 1,
        }
    }

    fn child(self, name: &str) -> Self {
        match self.shape {
            Some(Shape::Map(value)) => self.below(Some(*value), None),
            Some(Shape::Type(id)) if id.facts().special == Special::None => {
                let field = id.facts().field(name);
                self.below(field.map(|f| f.shape), field)
            }
            _ => self.below(None, None),
        }
    }

    fn item(self) -> Self {
        let shape = match self.shape {
            Some(Shape::List(item)) => Some(*item),
            _ => None,
        };
        self.below(shape, None)
    }
}

fn merge_map(mut original: Object, mut patch: Object, place: Place) -> Result<Object> {
    if place.depth > MAX_DEPTH {
        return Err(bad("the patch nests too deeply"));
    }
    if let Some(directive) = patch.remove(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Object::new()),
            _ => Err(unknown_directive(&directive, patch)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    apply_orders(&mut original, &mut patch, place)?;
    for (key, value) in patch {
        match key.strip_prefix(DELETE_ITEMS) {
            Some(list) => delete_items(&mut original, list, value, place)?,
            None => merge_field(&mut original, key, value, place)?,
        }
    }
    Ok(original)
}

fn unknown_directive(directive: &Value, mut map: Object) -> PatchError {
    map.insert(DIRECTIVE.into(), directive.clone());
    bad(format!("unknown patch type: {} in map: {}", go_text(directive), go_text(&Value::Object(map))))
}

fn merge_field(original: &mut Object, key: String, patch: Value, place: Place) -> Result<()> {
    if patch.is_null() {
        original.remove(&key);
        return Ok(());
    }
    let below = place.child(&key);
    let merged = match (original.remove(&key), patch) {
        (Some(Value::Object(_)), Value::Object(new)) if below.strategy.replace => Value::Object(new),
        (Some(Value::Object(old)), Value::Object(new)) => Value::Object(merge_map(old, new, below)?),
        (Some(Value::Array(old)), Value::Array(new)) if below.strategy.merge => Value::Array(merge_list(old, new, below)?),
        (Some(Value::Array(_)), new @ Value::Array(_)) => new,
        (_, mut new) => {
            drop_directives(&mut new, below.depth)?;
            new
        }
    };
    original.insert(key, merged);
    Ok(())
}

/// Keeps only the named fields of the original: for structs of which one field excludes the others.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<()> {
    let Some(retained) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(retained) = retained else { return Err(bad("invalid patch format of retainKeys")) };
    let is_retained = |key: &str| retained.iter().any(|r| r.as_str() == Some(key));
    for key in patch.keys() {
        if !key.starts_with(DELETE_ITEMS) && !key.starts_with(SET_ORDER) && !is_retained(key) {
            return Err(bad("patch content doesn't match retainKeys list"));
        }
    }
    original.retain(|key, _| is_retained(key));
    Ok(())
}

fn delete_items(original: &mut Object, list: &str, items: Value, place: Place) -> Result<()> {
    let Some(current) = original.get_mut(list) else { return Ok(()) };
    let (Value::Array(current), Value::Array(items)) = (current, items) else { return Err(mismatched_list()) };
    if place.child(list).strategy.merge {
        current.retain(|item| !items.contains(item));
    } else {
        *current = items;
    }
    Ok(())
}

/// `$setElementOrder/x` together with the patch of `x`; both are taken out of the patch.
fn apply_orders(original: &mut Object, patch: &mut Object, place: Place) -> Result<()> {
    let names: Vec<String> = patch.keys().filter(|key| key.starts_with(SET_ORDER)).cloned().collect();
    for directive in names {
        let Some(Value::Array(order)) = patch.remove(&directive) else {
            return Err(bad("invalid patch format of setElementOrder list"));
        };
        let name = &directive[SET_ORDER.len()..];
        let below = place.child(name);
        let server = list_of(original.get(name))?;
        let patched = list_of(patch.get(name))?;
        if let Some(patched) = &patched {
            check_order(patched, &order, below.merge_key)?;
        }
        patch.remove(name);
        let merged = match (&server, patched) {
            (Some(server), None) => server.clone(),
            (None, Some(patched)) => {
                let mut added = Value::Array(patched);
                drop_directives(&mut added, below.depth)?;
                list_of(Some(&added))?.unwrap_or_default()
            }
            (Some(server), Some(patched)) if below.strategy.merge => merge_list(server.clone(), patched, below)?,
            (Some(_), Some(patched)) => patched,
            (None, None) => continue,
        };
        let sorted = in_order(merged, &order, server.as_deref().unwrap_or_default(), below.merge_key)?;
        original.insert(name.to_owned(), Value::Array(sorted));
    }
    Ok(())
}

fn list_of(value: Option<&Value>) -> Result<Option<Vec<Value>>> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(list)) => Ok(Some(list.clone())),
        Some(_) => Err(mismatched_list()),
    }
}

/// The patch's items must be in the order list, in that order. Items that delete need not be there.
fn check_order(patched: &[Value], order: &[Value], merge_key: Option<&str>) -> Result<()> {
    let mut rest = order.iter();
    for item in patched {
        if item.get(DIRECTIVE).is_some() {
            continue;
        }
        let identity = identity(item, merge_key)?;
        let mut found = false;
        for candidate in rest.by_ref() {
            if self::identity(candidate, merge_key)? == identity {
                found = true;
                break;
            }
        }
        if !found {
            let patched = go_text(&Value::Array(patched.to_vec()));
            let order = go_text(&Value::Array(order.to_vec()));
            return Err(bad(format!("The order in patch list:\n{patched}\n doesn't match $setElementOrder list:\n{order}\n")));
        }
    }
    Ok(())
}

/// What tells items of a list apart: the merge key's value, or a scalar itself.
fn identity(item: &Value, merge_key: Option<&str>) -> Result<String> {
    match (item, merge_key) {
        (Value::Object(map), Some(key)) => match map.get(key) {
            Some(value) => Ok(go_text(value)),
            None => Err(no_merge_key(map, key)),
        },
        _ => Ok(go_text(item)),
    }
}

fn no_merge_key(map: &Object, key: &str) -> PatchError {
    bad(format!("map: {} does not contain declared merge key: {key}", go_text(&Value::Object(map.clone()))))
}

fn merge_list(original: Vec<Value>, patch: Vec<Value>, place: Place) -> Result<Vec<Value>> {
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    if !has_maps(&original, &patch)? {
        let mut merged = original.clone();
        for item in &patch {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        return in_order(merged, &patch, &original, None);
    }
    let key = place.merge_key.ok_or_else(|| bad("cannot merge lists without merge key"))?;
    let server = original.clone();
    let (mut merged, patch) = apply_item_directives(original, patch, key)?;
    let mut at: HashMap<String, usize> = HashMap::new();
    for (index, item) in merged.iter().enumerate() {
        at.entry(identity(item, Some(key))?).or_insert(index);
    }
    let mut order = Vec::with_capacity(patch.len());
    for item in patch {
        let Value::Object(item) = item else { continue };
        let Some(value) = item.get(key) else { return Err(no_merge_key(&item, key)) };
        order.push(Value::Object(Object::from_iter([(key.to_owned(), value.clone())])));
        let name = go_text(value);
        match at.get(&name) {
            Some(&index) => {
                let Value::Object(old) = merged[index].take() else { continue };
                merged[index] = Value::Object(merge_map(old, item, place.item())?);
            }
            None => {
                at.insert(name, merged.len());
                let mut item = Value::Object(item);
                drop_directives(&mut item, place.depth)?;
                merged.push(item);
            }
        }
    }
    in_order(merged, &order, &server, Some(key))
}

/// Whether the items are maps; they must all be of one type, and no lists.
fn has_maps(original: &[Value], patch: &[Value]) -> Result<bool> {
    let kind = |value: &Value| match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    };
    let mut kinds = original.iter().chain(patch).map(kind);
    let first = kinds.next().unwrap_or(0);
    if first == 4 {
        return Err(PatchError::Unprocessable("lists of lists are not supported".into()));
    }
    if kinds.any(|other| other != first) {
        return Err(bad("list element types are not identical"));
    }
    Ok(first == 5)
}

/// Carries out items with `$patch`, and returns the original after that and the patch without them.
fn apply_item_directives(mut original: Vec<Value>, patch: Vec<Value>, key: &str) -> Result<(Vec<Value>, Vec<Value>)> {
    let mut plain = Vec::with_capacity(patch.len());
    let mut replaces = false;
    for item in patch {
        let Some(directive) = item.get(DIRECTIVE) else {
            plain.push(item);
            continue;
        };
        match (directive.as_str(), &item) {
            (Some("delete"), Value::Object(map)) => {
                let value = map.get(key).ok_or_else(|| no_merge_key(map, key))?;
                original.retain(|item| item.get(key) != Some(value));
            }
            (Some("replace"), _) => replaces = true,
            (Some("merge"), _) => return Err(bad("merging lists cannot yet be specified in the patch")),
            (_, Value::Object(map)) => {
                let mut map = map.clone();
                let directive = map.remove(DIRECTIVE).unwrap_or_default();
                return Err(unknown_directive(&directive, map));
            }
            _ => return Err(mismatched_list()),
        }
    }
    if replaces {
        original.clear();
    }
    Ok((original, plain))
}

/// Sorts a merged list: items named in `order` in that order, the server's others where they were relative to those.
fn in_order(merged: Vec<Value>, order: &[Value], server: &[Value], key: Option<&str>) -> Result<Vec<Value>> {
    let ranks = |list: &[Value]| -> Result<HashMap<String, usize>> {
        let mut ranks = HashMap::with_capacity(list.len());
        for (rank, item) in list.iter().enumerate() {
            if item.get(DIRECTIVE).is_none() {
                ranks.entry(identity(item, key)?).or_insert(rank);
            }
        }
        Ok(ranks)
    };
    let (ordered, served) = (ranks(order)?, ranks(server)?);
    let mut patched = Vec::new();
    let mut kept = Vec::new();
    for item in merged {
        let name = identity(&item, key)?;
        let server_rank = served.get(&name).copied();
        match ordered.get(&name) {
            Some(&rank) => patched.push((rank, server_rank, item)),
            None => kept.push((server_rank.unwrap_or(usize::MAX), server_rank, item)),
        }
    }
    patched.sort_by_key(|(rank, ..)| *rank);
    kept.sort_by_key(|(rank, ..)| *rank);
    let mut sorted = Vec::with_capacity(patched.len() + kept.len());
    let (mut kept, mut patched) = (kept.into_iter().peekable(), patched.into_iter().peekable());
    while let (Some(left), Some(right)) = (kept.peek(), patched.peek()) {
        let is_before = matches!((left.1, right.1), (Some(left), Some(right)) if left < right);
        sorted.extend(if is_before { kept.next() } else { patched.next() }.map(|(.., item)| item));
    }
    sorted.extend(kept.chain(patched).map(|(.., item)| item));
    Ok(sorted)
}

/// Makes a patch's part a plain value: without directives, nulls, and items that delete.
fn drop_directives(value: &mut Value, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(bad("the patch nests too deeply"));
    }
    match value {
        Value::Object(map) => {
            map.retain(|key, value| {
                !value.is_null() && key != DIRECTIVE && key != RETAIN_KEYS && !key.starts_with(SET_ORDER) && !key.starts_with(DELETE_ITEMS)
            });
            map.values_mut().try_for_each(|value| drop_directives(value, depth + 1))
        }
        Value::Array(list) => {
            list.retain(|item| item.get(DIRECTIVE).is_none());
            list.iter_mut().try_for_each(|value| drop_directives(value, depth + 1))
        }
        _ => Ok(()),
    }
}

/// A value as Go's `%v` prints it, in upstream's messages.
fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(go_text).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let fields: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{}", go_text(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests;
