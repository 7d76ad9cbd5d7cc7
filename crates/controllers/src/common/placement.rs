//! Whether a pod may be on a node, for controllers that place pods themselves (component-helpers/scheduling/corev1/nodeaffinity). Pure.

use api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

/// Node selector and required node affinity.
pub fn affinity_allows(spec: &PodSpec, node: &Node) -> bool {
    let label = |key: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    let selected = spec.node_selector.iter().flatten().all(|(key, value)| label(key) == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|required| required.node_selector_terms.iter().any(|term| term_matches(term, node)))
}

/// Terms are alternatives, requirements of a term must all hold; an empty term matches nothing.
fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let label = |key: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    let field = |key: &str| if key == "metadata.name" { node.metadata.name.as_deref() } else { None };
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|requirement| holds(requirement, label(&requirement.key)))
        && fields.iter().all(|requirement| holds(requirement, field(&requirement.key)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = |value: &str| values.iter().any(|known| known == value);
    let numbers = || Some((value?.parse::<i64>().ok()?, values.first()?.parse::<i64>().ok()?));
    match requirement.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(value, bound)| value > bound),
        "Lt" => numbers().is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(spec: Value, expected: bool) {
        let mut whole = spec.clone();
        whole["containers"] = json!([]);
        let spec: PodSpec = serde_json::from_value(whole).expect("a spec");
        let node: Node =
            serde_json::from_value(json!({"metadata": {"name": "n1", "labels": {"disk": "ssd", "cores": "8"}}})).expect("a node");
        assert_eq!(affinity_allows(&spec, &node), expected, "{spec:?}");
    }

    fn term(kind: &str, key: &str, operator: &str, values: &[&str]) -> Value {
        let term = json!({kind: [{"key": key, "operator": operator, "values": values}]});
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}})
    }

    #[test]
    fn selectors_and_terms() {
        check(json!({}), true);
        check(json!({"nodeSelector": {"disk": "ssd"}}), true);
        check(json!({"nodeSelector": {"disk": "hdd"}}), false);
        check(term("matchExpressions", "disk", "In", &["hdd", "ssd"]), true);
        check(term("matchExpressions", "disk", "NotIn", &["ssd"]), false);
        check(term("matchExpressions", "gpu", "DoesNotExist", &[]), true);
        check(term("matchExpressions", "cores", "Gt", &["4"]), true);
        check(term("matchExpressions", "cores", "Lt", &["4"]), false);
        check(term("matchFields", "metadata.name", "In", &["n1"]), true);
        check(term("matchFields", "metadata.name", "In", &["n2"]), false);
        check(
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{}]}}}}),
            false,
        );
    }
}
