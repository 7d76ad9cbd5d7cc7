//! What roles and bindings of both scopes share (pkg/apis/rbac).

use api::meta::v1::ObjectMeta;
use api::rbac::v1::{PolicyRule, RoleRef, Subject};
use api::{FieldErrors, Path, names};
use serde_json::{Value, json};

use crate::kind::Column;
use crate::printing::{AGE, NAME, age, column, name, wide};
use crate::validation::{each, required};

const GROUP: &str = "rbac.authorization.k8s.io";

pub fn rules(errors: &mut FieldErrors, path: &Path, rules: &[PolicyRule], cluster: bool) {
    for (index, rule) in rules.iter().enumerate() {
        rule_of(errors, &path.index(index), rule, cluster);
    }
}

fn rule_of(errors: &mut FieldErrors, path: &Path, rule: &PolicyRule, cluster: bool) {
    let empty = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
    if rule.verbs.is_empty() {
        errors.required(&path.child("verbs"), "verbs must contain at least one value");
    }
    if !empty(&rule.non_resource_urls) {
        let urls = crate::validation::shown(&rule.non_resource_urls);
        if !cluster {
            errors.invalid(&path.child("nonResourceURLs"), &urls, "namespaced rules cannot apply to non-resource URLs");
        }
        if !empty(&rule.api_groups) || !empty(&rule.resources) || !empty(&rule.resource_names) {
            let detail = "rules cannot apply to both regular resources and non-resource URLs";
            errors.invalid(&path.child("nonResourceURLs"), &urls, detail);
        }
        return;
    }
    if empty(&rule.api_groups) {
        errors.required(&path.child("apiGroups"), "resource rules must supply at least one api group");
    }
    if empty(&rule.resources) {
        errors.required(&path.child("resources"), "resource rules must supply at least one resource");
    }
}

pub fn default_binding(role: &mut RoleRef, subjects: &mut [Subject]) {
    crate::defaults::set_text(&mut role.api_group, GROUP);
    for subject in subjects {
        if matches!(subject.kind.as_str(), "User" | "Group") {
            crate::defaults::set_text(&mut subject.api_group, GROUP);
        }
    }
}

pub fn binding(errors: &mut FieldErrors, role: &RoleRef, subjects: &[Subject], namespaced: bool) {
    let path = Path::new("roleRef");
    let group = role.api_group.as_deref().unwrap_or_default();
    if group != GROUP {
        errors.not_supported(&path.child("apiGroup"), group, &[GROUP]);
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&role.kind.as_str()) {
        errors.not_supported(&path.child("kind"), &role.kind, kinds);
    }
    required(errors, &path.child("name"), &role.name, "");
    each(errors, &path.child("name"), &role.name, names::path_segment(&role.name));
    for (index, subject) in subjects.iter().enumerate() {
        subject_of(errors, &Path::new("subjects").index(index), subject, namespaced);
    }
}

fn subject_of(errors: &mut FieldErrors, path: &Path, subject: &Subject, namespaced: bool) {
    required(errors, &path.child("name"), &subject.name, "");
    let group = subject.api_group.as_deref().unwrap_or_default();
    match subject.kind.as_str() {
        "ServiceAccount" => {
            if !subject.name.is_empty() {
                each(errors, &path.child("name"), &subject.name, names::dns_subdomain(&subject.name));
            }
            if !group.is_empty() {
                errors.not_supported(&path.child("apiGroup"), group, &[""]);
            }
            if !namespaced && subject.namespace.as_deref().unwrap_or_default().is_empty() {
                errors.required(&path.child("namespace"), "");
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.not_supported(&path.child("apiGroup"), group, &[GROUP]);
            }
        }
        other => errors.not_supported(&path.child("kind"), other, &["ServiceAccount", "User", "Group"]),
    }
}

pub const BINDING_COLUMNS: &[Column] =
    &[NAME, column("Role", "string"), AGE, wide("Users", "string"), wide("Groups", "string"), wide("ServiceAccounts", "string")];

pub fn binding_cells(meta: &ObjectMeta, role: &RoleRef, subjects: &[Subject], now: jiff::Timestamp) -> Vec<Value> {
    let of_kind = |kind: &str| -> Value {
        let names = subjects.iter().filter(|subject| subject.kind == kind).map(|subject| match kind {
            "ServiceAccount" => format!("{}/{}", subject.namespace.as_deref().unwrap_or_default(), subject.name),
            _ => subject.name.clone(),
        });
        json!(names.collect::<Vec<_>>().join(", "))
    };
    vec![
        name(meta),
        json!(format!("{}/{}", role.kind, role.name)),
        age(meta, now),
        of_kind("User"),
        of_kind("Group"),
        of_kind("ServiceAccount"),
    ]
}
