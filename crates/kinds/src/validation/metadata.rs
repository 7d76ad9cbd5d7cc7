//! Rules on `metadata`, the same for all kinds (apimachinery/pkg/api/validation/objectmeta.go).

use std::collections::BTreeMap;

use api::meta::v1::{ObjectMeta, OwnerReference};
use api::{FieldErrors, Path, names};

use super::{each, immutable, required, shown};
use crate::kind::{KindInfo, NameRule};

/// All annotations of an object together, keys and values, in bytes.
pub const MAX_ANNOTATIONS_BYTES: usize = 256 * 1024;

/// The complaints about a name of a kind; those of `generateName` ignore its trailing dash.
pub fn name_problems(rule: NameRule, name: &str) -> Vec<String> {
    match rule {
        NameRule::DnsSubdomain => names::dns_subdomain(name),
        NameRule::DnsLabel => names::dns_label(name),
        NameRule::Dns1035Label => names::dns_1035_label(name),
        NameRule::PathSegment => names::path_segment(name),
    }
}

/// Rules on the metadata of an object that is created or updated. Its name is already generated where it had only a prefix.
pub fn object_meta(info: &KindInfo, meta: &ObjectMeta, errors: &mut FieldErrors) {
    let path = Path::new("metadata");
    if let Some(prefix) = meta.generate_name.as_deref().filter(|prefix| !prefix.is_empty()) {
        let masked = match prefix.strip_suffix('-') {
            Some(start) if !start.is_empty() => format!("{start}a"),
            _ => prefix.to_owned(),
        };
        each(errors, &path.child("generateName"), prefix, name_problems(info.name_rule, &masked));
    }
    match meta.name.as_deref().unwrap_or_default() {
        "" => errors.required(&path.child("name"), "name or generateName is required"),
        name => each(errors, &path.child("name"), name, name_problems(info.name_rule, name)),
    }
    namespace(info, meta.namespace.as_deref().unwrap_or_default(), &path.child("namespace"), errors);
    super::not_negative_opt(errors, &path.child("generation"), meta.generation);
    labels(meta.labels.as_ref(), &path.child("labels"), errors);
    annotations(meta.annotations.as_ref(), &path.child("annotations"), errors);
    owner_references(meta.owner_references.as_deref().unwrap_or_default(), &path.child("ownerReferences"), errors);
    finalizers(meta.finalizers.as_deref().unwrap_or_default(), &path.child("finalizers"), errors);
}

fn namespace(info: &KindInfo, namespace: &str, path: &Path, errors: &mut FieldErrors) {
    match (info.is_namespaced(), namespace.is_empty()) {
        (true, true) => errors.required(path, ""),
        (true, false) => each(errors, path, namespace, names::dns_label(namespace)),
        (false, true) => {}
        (false, false) => errors.forbidden(path, "not allowed on this type"),
    }
}

/// Label keys and values, wherever they stand.
pub fn labels(labels: Option<&BTreeMap<String, String>>, path: &Path, errors: &mut FieldErrors) {
    for (key, value) in labels.into_iter().flatten() {
        each(errors, path, key, names::qualified_name(key));
        each(errors, path, value, names::label_value(value));
    }
}

pub fn annotations(annotations: Option<&BTreeMap<String, String>>, path: &Path, errors: &mut FieldErrors) {
    let mut size_bytes = 0;
    for (key, value) in annotations.into_iter().flatten() {
        each(errors, path, key, names::qualified_name(&key.to_lowercase()));
        size_bytes += key.len() + value.len();
    }
    if size_bytes > MAX_ANNOTATIONS_BYTES {
        errors.too_long(path, MAX_ANNOTATIONS_BYTES);
    }
}

fn owner_references(owners: &[OwnerReference], path: &Path, errors: &mut FieldErrors) {
    let mut controller: Option<&str> = None;
    for owner in owners {
        owner_reference(owner, path, errors);
        if owner.controller != Some(true) {
            continue;
        }
        match controller {
            Some(first) => {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {}",
                    owner.name
                );
                errors.invalid(path, &shown(&owners), &detail);
            }
            None => controller = Some(&owner.name),
        }
    }
}

fn owner_reference(owner: &OwnerReference, path: &Path, errors: &mut FieldErrors) {
    let version = owner.api_version.rsplit('/').next().unwrap_or_default();
    if version.is_empty() || owner.api_version.matches('/').count() > 1 {
        errors.invalid(&path.child("apiVersion"), &owner.api_version, "version must not be empty");
    }
    for (field, value) in [("kind", &owner.kind), ("name", &owner.name), ("uid", &owner.uid)] {
        if value.is_empty() {
            errors.invalid(&path.child(field), value, "must not be empty");
        }
    }
    if owner.api_version == "v1" && owner.kind == "Event" {
        errors.invalid(path, &shown(owner), "/v1, Kind=Event is disallowed from being an owner");
    }
}

fn finalizers(finalizers: &[String], path: &Path, errors: &mut FieldErrors) {
    for (index, finalizer) in finalizers.iter().enumerate() {
        each(errors, path, finalizer, names::qualified_name(finalizer));
        finalizer_name(finalizer, &path.index(index), errors);
    }
    let has = |name: &str| finalizers.iter().any(|finalizer| finalizer == name);
    if has("orphan") && has("foregroundDeletion") {
        errors.invalid(path, &shown(&finalizers), "finalizer orphan and foregroundDeletion cannot be both set");
    }
}

/// A finalizer without a domain must be one of the known three.
pub fn finalizer_name(finalizer: &str, path: &Path, errors: &mut FieldErrors) {
    if !finalizer.contains('/') && !["kubernetes", "orphan", "foregroundDeletion"].contains(&finalizer) {
        errors.invalid(path, finalizer, "name is neither a standard finalizer name nor is it fully qualified");
    }
}

/// Rules on the change of metadata. `object_meta` runs as well.
pub fn object_meta_update(new: &ObjectMeta, old: &ObjectMeta, errors: &mut FieldErrors) {
    let path = Path::new("metadata");
    if old.deletion_timestamp.is_some() {
        let known = old.finalizers.as_deref().unwrap_or_default();
        let added: Vec<&String> = new.finalizers.iter().flatten().filter(|finalizer| !known.contains(finalizer)).collect();
        if !added.is_empty() {
            let list = added.iter().map(|finalizer| format!("{finalizer:?}")).collect::<Vec<_>>().join(", ");
            errors.forbidden(
                &path.child("finalizers"),
                &format!("no new finalizers can be added if the object is being deleted, found new finalizers []string{{{list}}}"),
            );
        }
    }
    if new.generation.unwrap_or(0) < old.generation.unwrap_or(0) {
        errors.invalid(&path.child("generation"), new.generation.unwrap_or(0), "must not be decremented");
    }
    immutable(errors, &path.child("name"), &new.name, &old.name);
    immutable(errors, &path.child("namespace"), &new.namespace, &old.namespace);
    immutable(errors, &path.child("uid"), &new.uid, &old.uid);
    immutable(errors, &path.child("creationTimestamp"), &new.creation_timestamp, &old.creation_timestamp);
    immutable(errors, &path.child("deletionTimestamp"), &new.deletion_timestamp, &old.deletion_timestamp);
    immutable(errors, &path.child("deletionGracePeriodSeconds"), &new.deletion_grace_period_seconds, &old.deletion_grace_period_seconds);
}

/// The name of another object that a field refers to.
pub fn reference_name(errors: &mut FieldErrors, path: &Path, name: &str, rule: NameRule) {
    required(errors, path, name, "");
    if !name.is_empty() {
        each(errors, path, name, name_problems(rule, name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: KindInfo = KindInfo::DEFAULT;

    fn check(meta: &serde_json::Value, expected: &[&str]) {
        let mut meta: ObjectMeta = serde_json::from_value(meta.clone()).expect("metadata");
        meta.namespace.get_or_insert_with(|| "default".into());
        let mut errors = FieldErrors::default();
        object_meta(&INFO, &meta, &mut errors);
        let texts: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), expected.len(), "{texts:?}");
        for (text, start) in texts.iter().zip(expected) {
            assert!(text.starts_with(start), "{text} should start with {start}");
        }
    }

    #[test]
    fn metadata_rules() {
        use serde_json::json;
        check(&json!({"name": "a"}), &[]);
        check(&json!({"name": "a-x1", "generateName": "a-"}), &[]);
        check(&json!({}), &["metadata.name: Required value: name or generateName is required"]);
        check(&json!({"name": "A"}), &["metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain must"]);
        check(&json!({"name": "a", "labels": {"x": "-"}}), &["metadata.labels: Invalid value: \"-\": a valid label must"]);
        check(&json!({"name": "a", "finalizers": ["x"]}), &["metadata.finalizers[0]: Invalid value: \"x\": name is neither"]);
        check(
            &json!({"name": "a", "annotations": {"a": "x".repeat(MAX_ANNOTATIONS_BYTES)}}),
            &["metadata.annotations: Too long: may not be more than 262144 bytes"],
        );
        check(
            &json!({"name": "a", "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]}),
            &["metadata.ownerReferences.uid: Invalid value: \"\": must not be empty"],
        );
    }

    #[test]
    fn no_new_finalizers_on_a_dying_object() {
        let old = ObjectMeta { deletion_timestamp: Some(api::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH)), ..ObjectMeta::default() };
        let new = ObjectMeta { finalizers: Some(vec!["a.b/c".into()]), ..old.clone() };
        let mut errors = FieldErrors::default();
        object_meta_update(&new, &old, &mut errors);
        assert_eq!(
            errors.0[0].to_string(),
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, \
             found new finalizers []string{\"a.b/c\"}"
        );
    }
}
