//! Rules on what steers a pod to a node: affinity, tolerations, spreading, gates.

use api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, Toleration, TopologySpreadConstraint,
    WeightedPodAffinityTerm,
};
use api::{FieldErrors, Path, names};

use super::{POSITIVE, each, not_supported_sorted, required, required_text, selectors, shown};

pub fn affinity(errors: &mut FieldErrors, path: &Path, affinity: Option<&Affinity>) {
    let Some(affinity) = affinity else { return };
    if let Some(node) = &affinity.node_affinity {
        node_affinity(errors, &path.child("nodeAffinity"), node);
    }
    if let Some(pod) = &affinity.pod_affinity {
        let path = path.child("podAffinity");
        pod_terms(errors, &path, pod.required_during_scheduling_ignored_during_execution.as_deref());
        weighted_pod_terms(errors, &path, pod.preferred_during_scheduling_ignored_during_execution.as_deref());
    }
    if let Some(pod) = &affinity.pod_anti_affinity {
        let path = path.child("podAntiAffinity");
        pod_terms(errors, &path, pod.required_during_scheduling_ignored_during_execution.as_deref());
        weighted_pod_terms(errors, &path, pod.preferred_during_scheduling_ignored_during_execution.as_deref());
    }
}

fn node_affinity(errors: &mut FieldErrors, path: &Path, affinity: &NodeAffinity) {
    if let Some(selector) = &affinity.required_during_scheduling_ignored_during_execution {
        node_selector(errors, &path.child("requiredDuringSchedulingIgnoredDuringExecution"), selector);
    }
    let path = path.child("preferredDuringSchedulingIgnoredDuringExecution");
    for (index, term) in affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten().enumerate() {
        let path = path.index(index);
        weight(errors, &path, term.weight);
        node_selector_term(errors, &path.child("preference"), &term.preference);
    }
}

fn weight(errors: &mut FieldErrors, path: &Path, weight: i32) {
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

pub fn node_selector(errors: &mut FieldErrors, path: &Path, selector: &NodeSelector) {
    let path = path.child("nodeSelectorTerms");
    if selector.node_selector_terms.is_empty() {
        errors.required(&path, "must have at least one node selector term");
    }
    for (index, term) in selector.node_selector_terms.iter().enumerate() {
        node_selector_term(errors, &path.index(index), term);
    }
}

fn node_selector_term(errors: &mut FieldErrors, path: &Path, term: &NodeSelectorTerm) {
    for (index, requirement) in term.match_expressions.iter().flatten().enumerate() {
        node_requirement(errors, &path.child("matchExpressions").index(index), requirement);
    }
    for (index, requirement) in term.match_fields.iter().flatten().enumerate() {
        field_requirement(errors, &path.child("matchFields").index(index), requirement);
    }
}

fn node_requirement(errors: &mut FieldErrors, path: &Path, requirement: &NodeSelectorRequirement) {
    let values = requirement.values.as_deref().unwrap_or_default();
    let values_path = path.child("values");
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(&values_path, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "In" | "NotIn" => {}
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            errors.forbidden(&values_path, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }
        "Exists" | "DoesNotExist" => {}
        "Gt" | "Lt" if values.len() != 1 => {
            errors.required(&values_path, "must be specified single value when `operator` is 'Lt' or 'Gt'");
        }
        "Gt" | "Lt" => {}
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    each(errors, &path.child("key"), &requirement.key, names::qualified_name(&requirement.key));
    for (index, value) in values.iter().enumerate() {
        each(errors, &values_path.index(index), value, names::label_value(value));
    }
}

fn field_requirement(errors: &mut FieldErrors, path: &Path, requirement: &NodeSelectorRequirement) {
    let count = requirement.values.as_ref().map_or(0, Vec::len);
    match requirement.operator.as_str() {
        "In" | "NotIn" if count != 1 => {
            let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.required(&path.child("values"), detail);
        }
        "In" | "NotIn" => {}
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    if requirement.key != "metadata.name" {
        errors.invalid(&path.child("key"), &requirement.key, "not a valid field selector key");
    }
}

fn pod_terms(errors: &mut FieldErrors, path: &Path, terms: Option<&[PodAffinityTerm]>) {
    let path = path.child("requiredDuringSchedulingIgnoredDuringExecution");
    for (index, term) in terms.into_iter().flatten().enumerate() {
        pod_term(errors, &path.index(index), term);
    }
}

fn weighted_pod_terms(errors: &mut FieldErrors, path: &Path, terms: Option<&[WeightedPodAffinityTerm]>) {
    let path = path.child("preferredDuringSchedulingIgnoredDuringExecution");
    for (index, term) in terms.into_iter().flatten().enumerate() {
        let path = path.index(index);
        weight(errors, &path, term.weight);
        pod_term(errors, &path.child("podAffinityTerm"), &term.pod_affinity_term);
    }
}

fn pod_term(errors: &mut FieldErrors, path: &Path, term: &PodAffinityTerm) {
    selectors::label_selector(errors, &path.child("labelSelector"), term.label_selector.as_ref());
    selectors::label_selector(errors, &path.child("namespaceSelector"), term.namespace_selector.as_ref());
    for name in term.namespaces.iter().flatten() {
        each(errors, &path.child("namespace"), name, names::dns_label(name));
    }
    topology_key(errors, &path.child("topologyKey"), &term.topology_key);
}

fn topology_key(errors: &mut FieldErrors, path: &Path, key: &str) {
    required(errors, path, key, "can not be empty");
    each(errors, path, key, names::qualified_name(key));
}

pub fn tolerations(errors: &mut FieldErrors, path: &Path, tolerations: &[Toleration]) {
    for (index, toleration) in tolerations.iter().enumerate() {
        self::toleration(errors, &path.index(index), toleration);
    }
}

fn toleration(errors: &mut FieldErrors, path: &Path, toleration: &Toleration) {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (key, operator, effect) = (text(&toleration.key), text(&toleration.operator), text(&toleration.effect));
    let operator_path = path.child("operator");
    if !key.is_empty() {
        each(errors, &path.child("key"), &key, names::qualified_name(&key));
    } else if operator != "Exists" {
        let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errors.invalid(&operator_path, &operator, detail);
    }
    if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
        errors.invalid(&path.child("effect"), &effect, "effect must be 'NoExecute' when `tolerationSeconds` is set");
    }
    let value = toleration.value.as_deref().unwrap_or_default();
    match operator.as_str() {
        "Equal" | "" => each(errors, &operator_path, value, names::label_value(value)),
        "Exists" if !value.is_empty() => {
            errors.invalid(&operator_path, &shown(toleration), "value must be empty when `operator` is 'Exists'");
        }
        "Exists" => {}
        other => errors.not_supported(&operator_path, other, &["Equal", "Exists"]),
    }
    taint_effect(errors, &path.child("effect"), &effect, true);
}

/// The effect of a taint or toleration.
pub fn taint_effect(errors: &mut FieldErrors, path: &Path, effect: &str, may_be_empty: bool) {
    match effect {
        "" if may_be_empty => {}
        "" => errors.required(path, ""),
        "NoSchedule" | "PreferNoSchedule" | "NoExecute" => {}
        other => errors.not_supported(path, other, &["NoSchedule", "PreferNoSchedule", "NoExecute"]),
    }
}

pub fn topology_spread(errors: &mut FieldErrors, path: &Path, constraints: &[TopologySpreadConstraint]) {
    for (index, constraint) in constraints.iter().enumerate() {
        let path = path.index(index);
        if constraint.max_skew <= 0 {
            errors.invalid(&path.child("maxSkew"), constraint.max_skew, POSITIVE);
        }
        topology_key(errors, &path.child("topologyKey"), &constraint.topology_key);
        let when = constraint.when_unsatisfiable.as_str();
        if !matches!(when, "DoNotSchedule" | "ScheduleAnyway") {
            not_supported_sorted(errors, &path.child("whenUnsatisfiable"), when, &["DoNotSchedule", "ScheduleAnyway"]);
        }
        let same = |other: &&TopologySpreadConstraint| {
            other.topology_key == constraint.topology_key && other.when_unsatisfiable == constraint.when_unsatisfiable
        };
        if constraints.iter().take(index).any(|other| same(&other)) {
            let pair = format!("{{{}, {when}}}", constraint.topology_key);
            errors.duplicate(&path.child("{topologyKey, whenUnsatisfiable}"), pair);
        }
        if let Some(domains) = constraint.min_domains {
            min_domains(errors, &path.child("minDomains"), domains, when);
        }
        for (name, policy) in
            [("nodeAffinityPolicy", &constraint.node_affinity_policy), ("nodeTaintsPolicy", &constraint.node_taints_policy)]
        {
            super::one_of_present(errors, &path.child(name), policy.as_deref(), &["Honor", "Ignore"]);
        }
        selectors::label_selector(errors, &path.child("labelSelector"), constraint.label_selector.as_ref());
    }
}

fn min_domains(errors: &mut FieldErrors, path: &Path, domains: i32, when: &str) {
    if domains <= 0 {
        errors.invalid(path, domains, POSITIVE);
    }
    if when != "DoNotSchedule" {
        let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}");
        errors.invalid(path, domains, &detail);
    }
}

/// Names of gates and readiness gates: qualified, no two the same.
pub fn gate_names<'a>(errors: &mut FieldErrors, path: &Path, field: &str, gates: impl Iterator<Item = &'a str>) {
    let mut seen: Vec<&str> = Vec::new();
    for (index, name) in gates.enumerate() {
        let path = path.index(index);
        required_text(errors, &path.child(field), name, names::qualified_name);
        if seen.contains(&name) {
            errors.duplicate(&path.child(field), name);
        }
        seen.push(name);
    }
}
