//! What a node's conditions mean: which become Unknown without heartbeats, which taints follow, how fast nodes of a zone may be emptied
//! (pkg/controller/nodelifecycle/node_lifecycle_controller.go). Pure.

use api::core::v1::{Node, NodeCondition, Taint};
use api::meta::v1::Time;
use jiff::Timestamp;

use crate::common::taints::{NO_EXECUTE, NO_SCHEDULE, NOT_READY, UNREACHABLE, UNSCHEDULABLE};

/// Conditions that become Unknown with the node.
const HEALTH: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

pub fn ready(node: &Node) -> Option<&NodeCondition> {
    conditions(node).iter().find(|condition| condition.type_ == "Ready")
}

pub fn is_ready(node: &Node) -> bool {
    ready(node).is_some_and(|ready| ready.status == "True")
}

fn conditions(node: &Node) -> &[NodeCondition] {
    node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

/// The conditions of a node that stopped posting. `None` when they are Unknown already.
pub fn unknown_conditions(node: &Node, now: Timestamp) -> Option<Vec<NodeCondition>> {
    let mut new = conditions(node).to_vec();
    for kind in HEALTH {
        match new.iter_mut().find(|condition| condition.type_ == kind) {
            None => new.push(NodeCondition {
                type_: kind.into(),
                status: "Unknown".into(),
                reason: Some("NodeStatusNeverUpdated".into()),
                message: Some("Kubelet never posted node status.".into()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(Time(now)),
            }),
            Some(condition) if condition.status != "Unknown" => {
                condition.status = "Unknown".into();
                condition.reason = Some("NodeStatusUnknown".into());
                condition.message = Some("Kubelet stopped posting node status.".into());
                condition.last_transition_time = Some(Time(now));
            }
            Some(_) => {}
        }
    }
    (new != conditions(node)).then_some(new)
}

/// The taints with effect NoSchedule that the conditions ask for.
fn wanted_no_schedule(node: &Node) -> Vec<&'static str> {
    let mut wanted = Vec::new();
    for condition in conditions(node) {
        match (condition.type_.as_str(), condition.status.as_str()) {
            ("Ready", "False") => wanted.push(NOT_READY),
            ("Ready", "Unknown") => wanted.push(UNREACHABLE),
            ("MemoryPressure", "True") => wanted.push("node.kubernetes.io/memory-pressure"),
            ("DiskPressure", "True") => wanted.push("node.kubernetes.io/disk-pressure"),
            ("PIDPressure", "True") => wanted.push("node.kubernetes.io/pid-pressure"),
            ("NetworkUnavailable", "True") => wanted.push("node.kubernetes.io/network-unavailable"),
            _ => {}
        }
    }
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push(UNSCHEDULABLE);
    }
    wanted
}

/// The NoSchedule taints that this controller owns.
const OWNED: [&str; 7] = [
    NOT_READY,
    UNREACHABLE,
    UNSCHEDULABLE,
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/network-unavailable",
];

/// The NoExecute taint that readiness asks for.
pub fn wanted_no_execute(node: &Node) -> Option<&'static str> {
    match ready(node).map(|ready| ready.status.as_str()) {
        Some("False") => Some(NOT_READY),
        Some("Unknown") => Some(UNREACHABLE),
        _ => None,
    }
}

/// The node's taints as they should be, if they are not. A NoExecute taint is only added with `may_evict`, but removed or exchanged at once.
pub fn taints(node: &Node, may_evict: bool, now: Timestamp) -> Option<Vec<Taint>> {
    let old = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let schedule = wanted_no_schedule(node);
    let execute = wanted_no_execute(node);
    let had_execute = old.iter().any(|taint| taint.effect == NO_EXECUTE && (taint.key == NOT_READY || taint.key == UNREACHABLE));
    let keep = |taint: &&Taint| match taint.effect.as_str() {
        NO_SCHEDULE => !OWNED.contains(&taint.key.as_str()) || schedule.contains(&taint.key.as_str()),
        NO_EXECUTE if taint.key == NOT_READY || taint.key == UNREACHABLE => execute == Some(taint.key.as_str()),
        _ => true,
    };
    let mut new: Vec<Taint> = old.iter().filter(keep).cloned().collect();
    let mut add = |key: &str, effect: &str| {
        if !new.iter().any(|taint| taint.key == key && taint.effect == effect) {
            new.push(Taint { key: key.into(), effect: effect.into(), time_added: Some(Time(now)), value: None });
        }
    };
    schedule.into_iter().for_each(|key| add(key, NO_SCHEDULE));
    if let Some(key) = execute.filter(|_| may_evict || had_execute) {
        add(key, NO_EXECUTE);
    }
    (new != old).then_some(new)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZoneState {
    Normal,
    /// More nodes are down than single failures explain.
    Partial,
    /// No node is ready: more likely the control plane is cut off.
    Full,
}

/// `ComputeZoneState`.
pub fn zone_state(ready: usize, not_ready: usize, unhealthy_threshold: f32) -> ZoneState {
    if ready == 0 && not_ready > 0 {
        ZoneState::Full
    } else if not_ready > 2 && not_ready as f32 / (not_ready + ready) as f32 >= unhealthy_threshold {
        ZoneState::Partial
    } else {
        ZoneState::Normal
    }
}

/// How many nodes a second of a zone may be emptied (`setLimiterInZone` and `handleDisruption`).
pub fn eviction_rate(state: ZoneState, all_zones_full: bool, zone_size: usize, rates: &Rates) -> f64 {
    match state {
        _ if all_zones_full => 0.0,
        ZoneState::Normal | ZoneState::Full => rates.normal,
        ZoneState::Partial if zone_size > rates.large_cluster => rates.secondary,
        ZoneState::Partial => 0.0,
    }
}

#[derive(Clone, Debug)]
pub struct Rates {
    pub normal: f64,
    pub secondary: f64,
    pub large_cluster: usize,
    pub unhealthy_threshold: f32,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_000_000).expect("in range")
    }

    /// `conditions` as `Type=Status,...`; `taints` as `key:effect,...` with the prefix left out.
    fn node(conditions: &str, taints: &str, unschedulable: bool) -> Node {
        let pairs = |text: &str, mark: char| -> Vec<(String, String)> {
            text.split(',').filter_map(|pair| pair.split_once(mark)).map(|(left, right)| (left.to_owned(), right.to_owned())).collect()
        };
        let conditions: Vec<_> = pairs(conditions, '=').into_iter().map(|(kind, status)| json!({"type": kind, "status": status})).collect();
        let taints: Vec<_> = pairs(taints, ':')
            .into_iter()
            .map(|(key, effect)| json!({"key": format!("node.kubernetes.io/{key}"), "effect": effect}))
            .collect();
        let node = json!({"metadata": {"name": "n"}, "spec": {"unschedulable": unschedulable, "taints": taints}, "status": {"conditions": conditions}});
        serde_json::from_value(node).expect("a node")
    }

    fn check(conditions: &str, before: &str, may_evict: bool, expected: Option<&str>) {
        let new = taints(&node(conditions, before, false), may_evict, now());
        let text = |taint: &Taint| format!("{}:{}", taint.key.trim_start_matches("node.kubernetes.io/"), taint.effect);
        let new = new.map(|taints| taints.iter().map(text).collect::<Vec<_>>().join(","));
        assert_eq!(new.as_deref(), expected, "{conditions} {before}");
    }

    #[test]
    fn taints_follow_conditions() {
        check("Ready=True", "", true, None);
        check("Ready=False", "", false, Some("not-ready:NoSchedule"));
        check("Ready=False", "", true, Some("not-ready:NoSchedule,not-ready:NoExecute"));
        check("Ready=Unknown", "not-ready:NoSchedule,not-ready:NoExecute", false, Some("unreachable:NoSchedule,unreachable:NoExecute"));
        check("Ready=True", "unreachable:NoSchedule,unreachable:NoExecute,mine:NoExecute", false, Some("mine:NoExecute"));
        check("Ready=True,MemoryPressure=True", "", true, Some("memory-pressure:NoSchedule"));
        check("Ready=True,MemoryPressure=False", "memory-pressure:NoSchedule,other:NoSchedule", true, Some("other:NoSchedule"));
        let cordoned = taints(&node("Ready=True", "", true), true, now()).expect("a change");
        assert_eq!(cordoned[0].key, UNSCHEDULABLE);
    }

    #[test]
    fn silence_makes_conditions_unknown_once() {
        let mut node = node("Ready=True,MemoryPressure=False", "", false);
        let new = unknown_conditions(&node, now()).expect("a change");
        let texts: Vec<String> =
            new.iter().map(|it| format!("{} {} {}", it.type_, it.status, it.reason.as_deref().unwrap_or_default())).collect();
        assert_eq!(
            texts,
            [
                "Ready Unknown NodeStatusUnknown",
                "MemoryPressure Unknown NodeStatusUnknown",
                "DiskPressure Unknown NodeStatusNeverUpdated",
                "PIDPressure Unknown NodeStatusNeverUpdated",
            ]
        );
        node.status.as_mut().unwrap().conditions = Some(new);
        assert_eq!(unknown_conditions(&node, now()), None);
    }

    #[test]
    fn disruptions_slow_evictions_down() {
        let rates = Rates { normal: 0.1, secondary: 0.01, large_cluster: 50, unhealthy_threshold: 0.55 };
        let check = |ready: usize, not_ready: usize, all_full: bool, expected: f64| {
            let state = zone_state(ready, not_ready, rates.unhealthy_threshold);
            assert_eq!(eviction_rate(state, all_full, ready + not_ready, &rates), expected, "{ready} {not_ready}");
        };
        check(10, 1, false, 0.1);
        check(1, 2, false, 0.1);
        check(2, 4, false, 0.0);
        check(30, 60, false, 0.01);
        check(0, 5, false, 0.1);
        check(0, 5, true, 0.0);
    }
}
