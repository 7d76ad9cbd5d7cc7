//! Sets of field paths, kept as the JSON that FieldsV1 is (KEP-555): no decoding, no encoding, keys compare as text.
//! A node with nothing below is a member; one with fields below is a member if it also holds `.`. Must not know schemas.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// Children by path element: `f:NAME`, `k:{"name":"a"}`, `v:"a"`, `i:0`.
pub type Set = Map<String, Value>;

const SELF: &str = ".";

/// Deeper sets than any type nests are refused when they come from users.
const MAX_DEPTH: usize = 128;

pub fn is_member(node: &Set) -> bool {
    node.is_empty() || node.contains_key(SELF)
}

/// Hangs `children` below `key`, and makes the node itself a member or not. Does nothing when neither is to be.
pub fn attach(set: &mut Set, key: impl Into<String>, mut children: Set, member: bool) {
    if children.is_empty() && !member {
        return;
    }
    if member && !children.is_empty() {
        children.insert(SELF.into(), Value::Object(Set::new()));
    }
    set.insert(key.into(), Value::Object(children));
}

/// Sets whether a node is a member, whatever it was. Returns false when nothing is left of it.
fn set_member(node: &mut Set, member: bool) -> bool {
    node.remove(SELF);
    if member && !node.is_empty() {
        node.insert(SELF.into(), Value::Object(Set::new()));
    }
    member || !node.is_empty()
}

fn child<'a>(set: &'a Set, key: &str) -> Option<&'a Set> {
    if key == SELF { None } else { set.get(key).and_then(Value::as_object) }
}

fn children(set: &Set) -> impl Iterator<Item = (&String, &Set)> {
    set.iter().filter(|(key, _)| *key != SELF).filter_map(|(key, node)| node.as_object().map(|node| (key, node)))
}

pub fn union(set: &mut Set, other: &Set) {
    for (key, theirs) in children(other) {
        match set.get_mut(key) {
            Some(Value::Object(ours)) => {
                let member = is_member(ours) || is_member(theirs);
                union(ours, theirs);
                set_member(ours, member);
            }
            _ => _ = set.insert(key.clone(), Value::Object(theirs.clone())),
        }
    }
}

pub fn difference(set: &mut Set, other: &Set) {
    for (key, theirs) in children(other) {
        let Some(Value::Object(ours)) = set.get_mut(key) else { continue };
        let member = is_member(ours) && !is_member(theirs);
        difference(ours, theirs);
        if !set_member(ours, member) {
            set.remove(key);
        }
    }
}

pub fn intersection(set: &Set, other: &Set) -> Set {
    let (small, large) = if set.len() <= other.len() { (set, other) } else { (other, set) };
    let mut common = Set::new();
    for (key, left) in children(small) {
        if let Some(right) = child(large, key) {
            attach(&mut common, key, intersection(left, right), is_member(left) && is_member(right));
        }
    }
    common
}

/// Whether any member is in both; allocates nothing.
pub fn intersects(set: &Set, other: &Set) -> bool {
    let (small, large) = if set.len() <= other.len() { (set, other) } else { (other, set) };
    children(small).any(|(key, left)| child(large, key).is_some_and(|right| is_member(left) && is_member(right) || intersects(left, right)))
}

/// The node at `key` below a set, and whether it is a member.
pub fn get<'a>(set: &'a Set, key: &str) -> Option<(&'a Set, bool)> {
    child(set, key).map(|node| (node, is_member(node)))
}

/// The set in a value that came from a user, its elements written as we write them. None: it is none.
pub fn canonical(value: &Value) -> Option<Set> {
    fn element(key: &str) -> Option<String> {
        match key.split_at_checked(2)? {
            ("f:", _) => Some(key.to_owned()),
            ("i:", index) => index.parse::<i64>().ok().map(|_| key.to_owned()),
            (prefix @ ("k:" | "v:"), json) => Some(format!("{prefix}{}", serde_json::from_str::<Value>(json).ok()?)),
            _ => None,
        }
    }
    fn node(value: &Value, depth: usize) -> Option<Set> {
        let map = value.as_object().filter(|_| depth < MAX_DEPTH)?;
        let mut checked = Set::new();
        for (key, below) in map.iter().filter(|(key, _)| *key != SELF) {
            checked.insert(element(key)?, Value::Object(node(below, depth + 1)?));
        }
        set_member(&mut checked, map.contains_key(SELF));
        Some(checked)
    }
    node(value, 0)
}

/// All members as upstream prints paths: `.spec.template.spec.containers[name="nginx"].image`.
pub fn paths(set: &Set) -> Vec<String> {
    fn walk(set: &Set, prefix: &str, found: &mut Vec<String>) {
        for (key, node) in children(set) {
            let path = format!("{prefix}{}", element_text(key));
            if is_member(node) {
                found.push(path.clone());
            }
            walk(node, &path, found);
        }
    }
    let mut found = Vec::new();
    walk(set, "", &mut found);
    found
}

/// `.name`, `[name="nginx",port=80]`, `[="a"]`, `[0]`.
pub fn element_text(key: &str) -> String {
    match key.split_at_checked(2) {
        Some(("f:", name)) => format!(".{name}"),
        Some(("v:", json)) => format!("[={json}]"),
        Some(("i:", index)) => format!("[{index}]"),
        Some(("k:", json)) => match serde_json::from_str::<Set>(json) {
            Ok(fields) => {
                let mut text = String::from("[");
                for (at, (name, value)) in fields.iter().enumerate() {
                    let comma = if at == 0 { "" } else { "," };
                    let _ = write!(text, "{comma}{name}={value}");
                }
                text + "]"
            }
            Err(_) => format!("[{json}]"),
        },
        _ => key.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(value: Value) -> Set {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn set_algebra() {
        let check = |a: Value, b: Value, expected_union: Value, expected_difference: Value, expected_intersection: Value| {
            let (a, b) = (set(a), set(b));
            let mut united = a.clone();
            union(&mut united, &b);
            assert_eq!(Value::Object(united), expected_union);
            let mut rest = a.clone();
            difference(&mut rest, &b);
            assert_eq!(Value::Object(rest), expected_difference);
            let common = intersection(&a, &b);
            assert_eq!(intersects(&a, &b), !common.is_empty());
            assert_eq!(Value::Object(common), expected_intersection);
        };
        check(json!({"f:a": {}}), json!({"f:b": {}}), json!({"f:a": {}, "f:b": {}}), json!({"f:a": {}}), json!({}));
        check(
            json!({"f:a": {".": {}, "f:x": {}}}),
            json!({"f:a": {}}),
            json!({"f:a": {".": {}, "f:x": {}}}),
            json!({"f:a": {"f:x": {}}}),
            json!({"f:a": {}}),
        );
        check(
            json!({"f:a": {"f:x": {}}}),
            json!({"f:a": {}}),
            json!({"f:a": {".": {}, "f:x": {}}}),
            json!({"f:a": {"f:x": {}}}),
            json!({}),
        );
        check(
            json!({"f:a": {"f:x": {}}}),
            json!({"f:a": {"f:x": {}}}),
            json!({"f:a": {"f:x": {}}}),
            json!({}),
            json!({"f:a": {"f:x": {}}}),
        );
    }

    #[test]
    fn paths_print_as_upstream() {
        let all = set(
            json!({"f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}}}, "f:finalizers": {"v:\"a\"": {}}}}),
        );
        assert_eq!(
            paths(&all),
            [".spec.finalizers[=\"a\"]", ".spec.ports[port=80,protocol=\"TCP\"]", ".spec.ports[port=80,protocol=\"TCP\"].name"]
        );
    }

    #[test]
    fn what_users_send_is_checked() {
        let check = |value: Value, expected: Option<Value>| assert_eq!(canonical(&value).map(Value::Object), expected);
        check(json!({"f:a": {".": {}, "k:{\"b\": 1, \"a\":2}": {}}}), Some(json!({"f:a": {".": {}, "k:{\"a\":2,\"b\":1}": {}}})));
        check(json!({"f:a": {".": {}}}), Some(json!({"f:a": {}})));
        check(json!({"x": {}}), None);
        check(json!({"é": {}}), None);
        check(json!({"f:a": 1}), None);
        check(json!({"i:x": {}}), None);
        check(json!([]), None);
    }
}
