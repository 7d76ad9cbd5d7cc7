//! Node selectors and node affinity, made ready for matching once per pod (component-helpers/scheduling/corev1/nodeaffinity).

use std::collections::BTreeMap;

use api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

/// A requirement on one label or field of a node.
#[derive(Clone, Debug)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    Greater(i64),
    Less(i64),
    /// An operator or value that cannot be read matches nothing.
    Never,
}

impl Requirement {
    fn new(raw: &NodeSelectorRequirement) -> Self {
        let values = raw.values.clone().unwrap_or_default();
        let number = || values.first().and_then(|value| value.parse::<i64>().ok());
        let test = match raw.operator.as_str() {
            "In" => Test::In(values),
            "NotIn" => Test::NotIn(values),
            "Exists" => Test::Exists,
            "DoesNotExist" => Test::DoesNotExist,
            "Gt" => number().map_or(Test::Never, Test::Greater),
            "Lt" => number().map_or(Test::Never, Test::Less),
            _ => Test::Never,
        };
        Self { key: raw.key.clone(), test }
    }

    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.iter().any(|known| known == value)),
            Test::NotIn(values) => value.is_none_or(|value| values.iter().all(|known| known != value)),
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
            Test::Greater(limit) => number().is_some_and(|number| number > *limit),
            Test::Less(limit) => number().is_some_and(|number| number < *limit),
            Test::Never => false,
        }
    }
}

/// All requirements of a term must hold. A term without any matches nothing.
#[derive(Clone, Debug)]
struct Term {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

impl Term {
    fn new(raw: &NodeSelectorTerm) -> Self {
        let all = |list: &Option<Vec<NodeSelectorRequirement>>| list.iter().flatten().map(Requirement::new).collect();
        Self { labels: all(&raw.match_expressions), fields: all(&raw.match_fields) }
    }

    fn holds(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        !(self.labels.is_empty() && self.fields.is_empty())
            && self.labels.iter().all(|r| r.holds(labels.get(&r.key).map(String::as_str)))
            && self.fields.iter().all(|r| r.key == "metadata.name" && r.holds(Some(name)))
    }

    /// The node names that the term's fields leave, where they name some.
    fn names(&self) -> Option<&[String]> {
        self.fields.iter().find_map(|r| match &r.test {
            Test::In(values) if r.key == "metadata.name" => Some(values.as_slice()),
            _ => None,
        })
    }
}

/// What a pod says about its node.
#[derive(Clone, Debug, Default)]
pub struct NodeAffinity {
    selector: Vec<(String, String)>,
    /// One of these must hold, where there are any.
    required: Option<Vec<Term>>,
    preferred: Vec<(i64, Term)>,
}

impl NodeAffinity {
    pub fn new(spec: &PodSpec) -> Self {
        let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
        let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        let preferred = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
        Self {
            selector: spec.node_selector.iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect(),
            required: required.map(|selector| selector.node_selector_terms.iter().map(Term::new).collect()),
            preferred: preferred.into_iter().flatten().map(|p| (i64::from(p.weight), Term::new(&p.preference))).collect(),
        }
    }

    pub fn is_required(&self) -> bool {
        !self.selector.is_empty() || self.required.is_some()
    }

    pub fn is_preferred(&self) -> bool {
        !self.preferred.is_empty()
    }

    pub fn required_holds(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.required.as_ref().is_none_or(|terms| terms.iter().any(|term| term.holds(name, labels)))
    }

    /// The sum of the weights of the preferred terms that hold.
    pub fn preferred_weight(&self, name: &str, labels: &BTreeMap<String, String>) -> i64 {
        self.preferred.iter().filter(|(_, term)| term.holds(name, labels)).map(|(weight, _)| weight).sum()
    }

    /// The only nodes that can match, where every required term names its nodes (as a DaemonSet's pods do).
    pub fn named_nodes(&self) -> Option<Vec<&str>> {
        let mut names = Vec::new();
        for term in self.required.as_ref()? {
            names.extend(term.names()?.iter().map(String::as_str));
        }
        names.sort_unstable();
        names.dedup();
        Some(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(expression: serde_json::Value, wanted: bool) {
        let spec = json!({ "containers": [], "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{ "matchExpressions": [expression] }] } } } });
        let affinity = NodeAffinity::new(&serde_json::from_value(spec).unwrap());
        let labels = BTreeMap::from([("zone".to_owned(), "a".to_owned()), ("size".to_owned(), "7".to_owned())]);
        assert_eq!(affinity.required_holds("n1", &labels), wanted, "{affinity:?}");
    }

    #[test]
    fn operators() {
        check(json!({ "key": "zone", "operator": "In", "values": ["a", "b"] }), true);
        check(json!({ "key": "zone", "operator": "NotIn", "values": ["a"] }), false);
        check(json!({ "key": "none", "operator": "NotIn", "values": ["a"] }), true);
        check(json!({ "key": "none", "operator": "Exists" }), false);
        check(json!({ "key": "none", "operator": "DoesNotExist" }), true);
        check(json!({ "key": "size", "operator": "Gt", "values": ["6"] }), true);
        check(json!({ "key": "size", "operator": "Lt", "values": ["7"] }), false);
        check(json!({ "key": "zone", "operator": "Gt", "values": ["6"] }), false);
    }

    #[test]
    fn an_empty_term_matches_nothing_and_names_are_found() {
        let empty = json!({ "containers": [], "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [{}] } } } });
        let affinity = NodeAffinity::new(&serde_json::from_value(empty).unwrap());
        assert!(!affinity.required_holds("n1", &BTreeMap::new()));
        let named = json!({ "containers": [], "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
            { "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["n2"] }] }] } } } });
        let affinity = NodeAffinity::new(&serde_json::from_value(named).unwrap());
        assert_eq!(affinity.named_nodes(), Some(vec!["n2"]));
        assert!(affinity.required_holds("n2", &BTreeMap::new()) && !affinity.required_holds("n1", &BTreeMap::new()));
    }
}
