//! Readiness, availability and the order in which surplus pods go. Pure: callers pass the time.

use std::cmp::{Ordering, Reverse};

use api::core::v1::{Pod, PodCondition};
use jiff::Timestamp;

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

pub fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

pub fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Neither finished nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !is_terminating(pod)
}

/// Ready for at least so many seconds.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    is_ready(pod)
        && (min_ready_seconds == 0 || ready_since(pod).is_some_and(|since| seconds_between(since, now) >= i64::from(min_ready_seconds)))
}

fn ready_since(pod: &Pod) -> Option<Timestamp> {
    condition(pod, "Ready").filter(|ready| ready.status == "True")?.last_transition_time.as_ref().map(|time| time.0)
}

pub fn seconds_between(from: Timestamp, to: Timestamp) -> i64 {
    to.as_second() - from.as_second()
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    statuses.iter().map(|status| status.restart_count).max().unwrap_or(0)
}

fn deletion_cost(pod: &Pod) -> i32 {
    pod.metadata.annotations.as_ref().and_then(|all| all.get(DELETION_COST)).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Sorts pods so that those to delete come first (`ActivePodsWithRanks.Less` in pkg/controller/controller_utils.go). `rank` is how many related pods run
/// on the pod's node.
pub fn sort_for_deletion<P: AsRef<Pod>>(pods: &mut [P], rank: impl Fn(&Pod) -> usize, now: Timestamp) {
    pods.sort_by(|left, right| compare_for_deletion(left.as_ref(), right.as_ref(), &rank, now));
}

fn compare_for_deletion(left: &Pod, right: &Pod, rank: &impl Fn(&Pod) -> usize, now: Timestamp) -> Ordering {
    let phase_order = |pod: &Pod| match phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let first = |pod: &Pod| (node_name(pod).is_some(), phase_order(pod), is_ready(pod), deletion_cost(pod), Reverse(rank(pod)));
    first(left).cmp(&first(right)).then_with(|| {
        let by_ready = match (is_ready(left) && is_ready(right), ready_since(left), ready_since(right)) {
            (true, left_since, right_since) if left_since != right_since => by_age(left, right, left_since, right_since, now),
            _ => Ordering::Equal,
        };
        let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        by_ready.then_with(|| restarts(right).cmp(&restarts(left))).then_with(|| {
            if created(left) == created(right) { Ordering::Equal } else { by_age(left, right, created(left), created(right), now) }
        })
    })
}

/// The younger first, by powers of two of the age; the same power is decided by uid, which is random (KEP-2185). Unknown times count as the youngest.
fn by_age(left: &Pod, right: &Pod, left_at: Option<Timestamp>, right_at: Option<Timestamp>, now: Timestamp) -> Ordering {
    let rank = |at: Option<Timestamp>| at.map_or(0, |at| u64::try_from(seconds_between(at, now).max(1)).map_or(0, |age| age.ilog2() + 1));
    rank(left_at).cmp(&rank(right_at)).then_with(|| left.metadata.uid.cmp(&right.metadata.uid))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use api::core::v1::{ContainerStatus, PodSpec, PodStatus};
    use api::meta::v1::{ObjectMeta, Time};

    use super::*;

    struct Given(&'static str, Option<&'static str>, &'static str, Option<i64>, i32, i64, i32);

    /// name, node, phase, seconds ready, restarts, age, cost
    fn pod(given: &Given) -> Arc<Pod> {
        let now = Timestamp::from_second(1_000_000).expect("in range");
        let ago = |seconds: i64| Time(Timestamp::from_second(now.as_second() - seconds).expect("in range"));
        let ready = given.3.map(|seconds| PodCondition {
            type_: "Ready".into(),
            status: "True".into(),
            last_transition_time: Some(ago(seconds)),
            ..PodCondition::default()
        });
        Arc::new(Pod {
            metadata: ObjectMeta {
                name: Some(given.0.into()),
                uid: Some(given.0.into()),
                creation_timestamp: Some(ago(given.5)),
                annotations: Some(BTreeMap::from([(DELETION_COST.into(), given.6.to_string())])),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec { node_name: given.1.map(Into::into), ..PodSpec::default() }),
            status: Some(PodStatus {
                phase: Some(given.2.into()),
                conditions: ready.map(|ready| vec![ready]),
                container_statuses: Some(vec![ContainerStatus { restart_count: given.4, ..ContainerStatus::default() }]),
                ..PodStatus::default()
            }),
        })
    }

    #[test]
    fn surplus_pods_go_in_upstreams_order() {
        let now = Timestamp::from_second(1_000_000).expect("in range");
        let check = |first: Given, second: Given| {
            let mut pods = vec![pod(&second), pod(&first)];
            sort_for_deletion(&mut pods, |pod| usize::from(node_name(pod) == Some("full")), now);
            assert_eq!(pods[0].metadata.name.as_deref(), Some(first.0), "{} before {}", first.0, second.0);
        };
        check(Given("unassigned", None, "Running", Some(9), 0, 9, 9), Given("assigned", Some("n"), "Pending", None, 0, 9, 0));
        check(Given("pending", Some("n"), "Pending", None, 0, 9, 9), Given("running", Some("n"), "Running", None, 0, 9, 0));
        check(Given("unready", Some("n"), "Running", None, 0, 9, 9), Given("ready", Some("n"), "Running", Some(9), 0, 9, 0));
        check(Given("cheap", Some("n"), "Running", Some(9000), 0, 9000, -1), Given("dear", Some("full"), "Running", Some(9), 0, 9, 0));
        check(Given("crowded", Some("full"), "Running", Some(9000), 0, 9, 0), Given("alone", Some("n"), "Running", Some(9), 0, 9, 0));
        check(
            Given("newly ready", Some("n"), "Running", Some(9), 0, 9000, 0),
            Given("long ready", Some("n"), "Running", Some(9000), 9, 9000, 0),
        );
        check(Given("restarting", Some("n"), "Running", Some(9), 5, 9000, 0), Given("calm", Some("n"), "Running", Some(9), 0, 9, 0));
        check(Given("young", Some("n"), "Running", Some(9), 0, 9, 0), Given("aged", Some("n"), "Running", Some(9), 0, 9000, 0));
        check(
            Given("a same age by uid", Some("n"), "Running", Some(1000), 0, 9, 0),
            Given("b same", Some("n"), "Running", Some(900), 0, 9, 0),
        );
    }

    #[test]
    fn availability_needs_time() {
        let now = Timestamp::from_second(1_000_000).expect("in range");
        let ready = pod(&Given("p", Some("n"), "Running", Some(9), 0, 9, 0));
        assert!(is_available(&ready, 0, now) && is_available(&ready, 9, now) && !is_available(&ready, 10, now));
    }
}
