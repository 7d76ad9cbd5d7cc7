//! The conditions of a namespace that is being deleted (pkg/controller/namespace/deletion/status_condition_utils.go). Pure.

use std::collections::BTreeMap;

use api::core::v1::{Namespace, NamespaceCondition};
use api::meta::v1::Time;
use jiff::Timestamp;

/// What one round of deletion found.
#[derive(Debug, Default)]
pub struct Round {
    pub discovery_errors: Vec<String>,
    pub delete_errors: Vec<String>,
    /// Objects still there, by resource.
    pub remaining: BTreeMap<String, usize>,
    /// Objects that wait for a finalizer.
    pub finalizers: BTreeMap<String, usize>,
    /// Seconds until the last pod's grace period ends.
    pub grace_seconds: i64,
}

impl Round {
    pub fn is_empty(&self) -> bool {
        self.discovery_errors.is_empty() && self.delete_errors.is_empty() && self.remaining.is_empty()
    }
}

/// The namespace's conditions after the round, if they differ from what it has.
pub fn conditions(namespace: &Namespace, round: &Round, now: Timestamp) -> Option<Vec<NamespaceCondition>> {
    let old = namespace.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let mut new = old.clone();
    let mut put = |kind: &str, problem: Option<(&str, String)>, fine: (&str, &str)| {
        let (status, reason, message) = match problem {
            Some((reason, message)) => ("True", reason, message),
            None => ("False", fine.0, fine.1.to_owned()),
        };
        let known = new.iter_mut().find(|condition| condition.type_ == kind);
        let since = known.as_ref().filter(|known| known.status == status).and_then(|known| known.last_transition_time.clone());
        let condition = NamespaceCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_transition_time: Some(since.unwrap_or(Time(now))),
        };
        match known {
            Some(known) => *known = condition,
            None => new.push(condition),
        }
    };
    let failed = |errors: &[String]| (!errors.is_empty()).then(|| errors.join("; "));
    let listing = failed(&round.discovery_errors)
        .map(|cause| ("DiscoveryFailed", format!("Discovery failed for some groups, {} failing: {cause}", round.discovery_errors.len())));
    put("NamespaceDeletionDiscoveryFailure", listing, ("ResourcesDiscovered", "All resources successfully discovered"));
    put("NamespaceDeletionGroupVersionParsingFailure", None, ("ParsedGroupVersions", "All legacy kube types successfully parsed"));
    let deleting = failed(&round.delete_errors).map(|cause| {
        ("ContentDeletionFailed", format!("Failed to delete all resource types, {} remaining: {cause}", round.delete_errors.len()))
    });
    put(
        "NamespaceDeletionContentFailure",
        deleting,
        ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
    );
    let list = |counts: &BTreeMap<String, usize>, word: &str| {
        counts.iter().map(|(name, count)| format!("{name} {word} {count} resource instances")).collect::<Vec<_>>().join(", ")
    };
    let remaining = (!round.remaining.is_empty())
        .then(|| ("SomeResourcesRemain", format!("Some resources are remaining: {}", list(&round.remaining, "has"))));
    put("NamespaceContentRemaining", remaining, ("ContentRemoved", "All content successfully removed"));
    let waiting = (!round.finalizers.is_empty()).then(|| {
        ("SomeFinalizersRemain", format!("Some content in the namespace has finalizers remaining: {}", list(&round.finalizers, "in")))
    });
    put("NamespaceFinalizersRemaining", waiting, ("ContentHasNoFinalizers", "All content-preserving finalizers finished"));
    (new != old).then_some(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_say_what_remains() {
        let now = Timestamp::from_second(1_000_000).expect("in range");
        let mut namespace = Namespace::default();
        let mut round = Round::default();
        round.remaining.insert("pods.".into(), 2);
        round.finalizers.insert("kubernetes".into(), 1);
        let found = conditions(&namespace, &round, now).expect("new conditions");
        let text: Vec<String> =
            found.iter().map(|it| format!("{} {} {}", it.type_, it.status, it.message.as_deref().unwrap_or_default())).collect();
        assert!(
            text.contains(&"NamespaceContentRemaining True Some resources are remaining: pods. has 2 resource instances".to_owned()),
            "{text:?}"
        );
        assert!(text.contains(&"NamespaceFinalizersRemaining True Some content in the namespace has finalizers remaining: kubernetes in 1 resource instances".to_owned()));
        assert!(text.contains(&"NamespaceDeletionDiscoveryFailure False All resources successfully discovered".to_owned()));
        namespace.status.get_or_insert_default().conditions = Some(found);
        assert_eq!(conditions(&namespace, &round, now), None);
    }
}
