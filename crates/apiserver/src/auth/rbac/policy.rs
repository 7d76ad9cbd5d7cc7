//! A short notation for the default roles and bindings.

use std::collections::BTreeMap;

use api::meta::v1::{LabelSelector, ObjectMeta};
use api::rbac::v1::{AggregationRule, ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};

pub const GROUP: &str = "rbac.authorization.k8s.io";
pub const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

pub const READ: &str = "get list watch";
pub const WRITE: &str = "create delete deletecollection patch update";
pub const READ_WRITE: &str = "create delete deletecollection get list patch update watch";
pub const READ_UPDATE: &str = "get list patch update watch";

/// Lists are separated by spaces; the group `core` is the empty one.
#[derive(Clone, Copy)]
pub struct Rule {
    verbs: &'static str,
    groups: &'static str,
    resources: &'static str,
    names: &'static str,
    urls: &'static str,
}

pub const fn on(verbs: &'static str, groups: &'static str, resources: &'static str) -> Rule {
    Rule { verbs, groups, resources, names: "", urls: "" }
}

pub const fn named(verbs: &'static str, groups: &'static str, resources: &'static str, names: &'static str) -> Rule {
    Rule { verbs, groups, resources, names, urls: "" }
}

pub const fn urls(verbs: &'static str, urls: &'static str) -> Rule {
    Rule { verbs, groups: "", resources: "", names: "", urls }
}

/// What every component that records events needs.
pub const EVENTS: Rule = on("create patch update", "core events.k8s.io", "events");

fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = text.split(' ').filter(|w| !w.is_empty()).map(|w| if w == "core" { "" } else { w }.to_owned()).collect();
    words.sort();
    words
}

fn some(text: &str) -> Option<Vec<String>> {
    (!text.is_empty()).then(|| words(text))
}

impl Rule {
    pub fn to_rule(self) -> PolicyRule {
        PolicyRule {
            verbs: words(self.verbs),
            api_groups: some(self.groups),
            resources: some(self.resources),
            resource_names: some(self.names),
            non_resource_urls: some(self.urls),
        }
    }
}

pub fn rules(list: &[Rule]) -> Vec<PolicyRule> {
    list.iter().map(|rule| rule.to_rule()).collect()
}

fn meta(name: &str, namespace: Option<&str>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespace.map(str::to_owned),
        labels: Some([("kubernetes.io/bootstrapping".to_owned(), "rbac-defaults".to_owned())].into()),
        annotations: Some([(AUTO_UPDATE.to_owned(), "true".to_owned())].into()),
        ..ObjectMeta::default()
    }
}

/// A default role: name, the roles that it is aggregated to, rules.
pub fn cluster_role(name: &str, aggregate_to: &[&str], list: &[Rule]) -> ClusterRole {
    let mut metadata = meta(name, None);
    label(&mut metadata, aggregate_to);
    ClusterRole { metadata, rules: Some(rules(list)), aggregation_rule: None }
}

/// A default role made of those labelled for it.
pub fn aggregating_role(name: &str, aggregate_to: &[&str]) -> ClusterRole {
    let mut metadata = meta(name, None);
    label(&mut metadata, aggregate_to);
    let labels: BTreeMap<String, String> = [(format!("{GROUP}/aggregate-to-{name}"), "true".to_owned())].into();
    let selector = LabelSelector { match_labels: Some(labels), match_expressions: None };
    ClusterRole { metadata, rules: None, aggregation_rule: Some(AggregationRule { cluster_role_selectors: Some(vec![selector]) }) }
}

fn label(metadata: &mut ObjectMeta, aggregate_to: &[&str]) {
    let labels = metadata.labels.get_or_insert_default();
    for target in aggregate_to {
        labels.insert(format!("{GROUP}/aggregate-to-{target}"), "true".into());
    }
}

pub fn role(namespace: &str, name: &str, list: &[Rule]) -> Role {
    Role { metadata: meta(name, Some(namespace)), rules: Some(rules(list)) }
}

pub fn user(name: &str) -> Subject {
    Subject { kind: "User".into(), name: name.into(), api_group: Some(GROUP.into()), namespace: None }
}

pub fn group(name: &str) -> Subject {
    Subject { kind: "Group".into(), name: name.into(), api_group: Some(GROUP.into()), namespace: None }
}

pub fn account(namespace: &str, name: &str) -> Subject {
    Subject { kind: "ServiceAccount".into(), name: name.into(), api_group: None, namespace: Some(namespace.into()) }
}

fn reference(kind: &str, name: &str) -> RoleRef {
    RoleRef { api_group: Some(GROUP.into()), kind: kind.into(), name: name.into() }
}

/// Binds the ClusterRole of the same name.
pub fn cluster_binding(name: &str, subjects: Vec<Subject>) -> ClusterRoleBinding {
    let subjects = (!subjects.is_empty()).then_some(subjects);
    ClusterRoleBinding { metadata: meta(name, None), role_ref: reference("ClusterRole", name), subjects }
}

/// Binds a Role of the same namespace.
pub fn binding(namespace: &str, name: &str, role: &str, subjects: Vec<Subject>) -> RoleBinding {
    RoleBinding { metadata: meta(name, Some(namespace)), role_ref: reference("Role", role), subjects: Some(subjects) }
}
