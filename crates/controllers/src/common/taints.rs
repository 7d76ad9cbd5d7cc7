//! Taints of nodes and tolerations of pods. Pure.

use api::core::v1::{Node, Pod, Taint, Toleration};

pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
pub const NO_SCHEDULE: &str = "NoSchedule";
pub const NO_EXECUTE: &str = "NoExecute";

pub fn of(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

pub fn no_execute(node: &Node) -> impl Iterator<Item = &Taint> {
    of(node).iter().filter(|taint| taint.effect == NO_EXECUTE)
}

pub fn tolerations(pod: &Pod) -> &[Toleration] {
    pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default()
}

/// `ToleratesTaint` in staging/src/k8s.io/component-helpers/scheduling/corev1.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if !(effect.is_empty() || effect == taint.effect) || !(key.is_empty() || key == taint.key) {
        return false;
    }
    let number = |value: &Option<String>| value.as_deref().and_then(|text| text.parse::<i64>().ok());
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        Some("Lt") => matches!((number(&taint.value), number(&toleration.value)), (Some(taint), Some(limit)) if taint < limit),
        Some("Gt") => matches!((number(&taint.value), number(&toleration.value)), (Some(taint), Some(limit)) if taint > limit),
        None | Some("" | "Equal") => text(&toleration.value) == text(&taint.value),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerations_match() {
        let check = |key: &str, operator: &str, value: &str, effect: &str, expected: bool| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let toleration =
                Toleration { key: some(key), operator: some(operator), value: some(value), effect: some(effect), ..Toleration::default() };
            let taint = Taint { key: "k".into(), value: Some("5".into()), effect: NO_EXECUTE.into(), time_added: None };
            assert_eq!(tolerates(&toleration, &taint), expected, "{toleration:?}");
        };
        check("", "Exists", "", "", true);
        check("k", "Exists", "", NO_EXECUTE, true);
        check("k", "Exists", "", NO_SCHEDULE, false);
        check("other", "Exists", "", "", false);
        check("k", "", "5", "", true);
        check("k", "Equal", "6", "", false);
        check("k", "Gt", "4", "", true);
        check("k", "Lt", "4", "", false);
    }
}
