//! What a ReplicaSet needs: pods to adopt, release, create, delete, and its status (pkg/controller/replicaset/replica_set.go). Pure.

use std::sync::Arc;
use std::time::Duration;

use api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use api::core::v1::Pod;
use api::meta::v1::Time;
use api::selector::Selector;
use jiff::Timestamp;

use crate::common::owners::{Claim, claim};
use crate::common::pods;

/// Pods created or deleted in one go.
pub const BURST: usize = 500;

pub struct Snapshot {
    pub set: Arc<ReplicaSet>,
    pub selector: Selector,
    /// All pods of the namespace that the set owns or could adopt.
    pub pods: Vec<Arc<Pod>>,
    /// Active pods of all sets with the same owner, for spreading deletions over nodes.
    pub related: Vec<Arc<Pod>>,
}

#[derive(Debug, Default)]
pub struct Plan {
    pub adopt: Vec<Arc<Pod>>,
    pub release: Vec<Arc<Pod>>,
    pub create: usize,
    pub delete: Vec<Arc<Pod>>,
    /// The pods that count for the status: claimed and active.
    pub active: Vec<Arc<Pod>>,
    pub terminating: usize,
}

pub fn plan(snapshot: &Snapshot, now: Timestamp) -> Plan {
    let set = &snapshot.set;
    let mut plan = Plan::default();
    for pod in &snapshot.pods {
        match claim(&set.metadata, &snapshot.selector, &pod.metadata) {
            Claim::Ignore => continue,
            // Upstream leaves finished pods alone.
            _ if pods::is_finished(pod) => continue,
            Claim::Release => {
                plan.release.push(pod.clone());
                continue;
            }
            _ if pods::is_terminating(pod) => {
                plan.terminating += 1;
                continue;
            }
            Claim::Adopt => plan.adopt.push(pod.clone()),
            Claim::Keep => {}
        }
        plan.active.push(pod.clone());
    }
    if set.metadata.deletion_timestamp.is_none() {
        let wanted = usize::try_from(wanted_replicas(set)).unwrap_or(0);
        plan.create = wanted.saturating_sub(plan.active.len()).min(BURST);
        plan.delete = surplus(&plan.active, wanted, &snapshot.related, now);
    }
    plan
}

pub fn wanted_replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

fn surplus(active: &[Arc<Pod>], wanted: usize, related: &[Arc<Pod>], now: Timestamp) -> Vec<Arc<Pod>> {
    let count = active.len().saturating_sub(wanted).min(BURST);
    if count == 0 {
        return Vec::new();
    }
    let mut pods = active.to_vec();
    let rank =
        |pod: &Pod| related.iter().filter(|other| pods::node_name(pod).is_some() && pods::node_name(other) == pods::node_name(pod)).count();
    pods::sort_for_deletion(&mut pods, rank, now);
    pods.truncate(count);
    pods
}

/// The status after the pods were managed; `failure` is what went wrong then.
pub fn status(set: &ReplicaSet, plan: &Plan, failure: Option<&str>, now: Timestamp) -> ReplicaSetStatus {
    let min_ready = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref()).and_then(|template| template.metadata.as_ref());
    let template_labels = template.and_then(|meta| meta.labels.as_ref()).map(Selector::from_map).unwrap_or_else(Selector::everything);
    let count = |test: &dyn Fn(&Pod) -> bool| Some(number(plan.active.iter().filter(|pod| test(pod)).count()));

    let old = set.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let surplus = i64::try_from(plan.active.len()).unwrap_or(i64::MAX) - i64::from(wanted_replicas(set));
    ReplicaSetStatus {
        replicas: number(plan.active.len()),
        fully_labeled_replicas: count(&|pod| template_labels.matches_opt(pod.metadata.labels.as_ref())),
        ready_replicas: count(&pods::is_ready),
        available_replicas: count(&|pod| pods::is_available(pod, min_ready, now)),
        terminating_replicas: Some(number(plan.terminating)),
        observed_generation: set.metadata.generation,
        conditions: conditions(old, failure, surplus, now),
    }
}

fn conditions(mut old: Vec<ReplicaSetCondition>, failure: Option<&str>, surplus: i64, now: Timestamp) -> Option<Vec<ReplicaSetCondition>> {
    const KIND: &str = "ReplicaFailure";
    match failure {
        None => old.retain(|condition| condition.type_ != KIND),
        Some(_) if old.iter().any(|condition| condition.type_ == KIND) => {}
        Some(message) => old.push(ReplicaSetCondition {
            type_: KIND.into(),
            status: "True".into(),
            reason: Some(if surplus < 0 { "FailedCreate" } else { "FailedDelete" }.into()),
            message: Some(message.into()),
            last_transition_time: Some(Time(now)),
        }),
    }
    (!old.is_empty()).then_some(old)
}

/// When a pod that is ready now becomes available, if nothing changes.
pub fn next_availability(set: &ReplicaSet, plan: &Plan, now: Timestamp) -> Option<Duration> {
    let min_ready = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).filter(|&seconds| seconds > 0)?;
    let waiting = plan.active.iter().filter(|pod| pods::is_ready(pod) && !pods::is_available(pod, min_ready, now));
    waiting
        .filter_map(|pod| pods::condition(pod, "Ready")?.last_transition_time.as_ref())
        .map(|since| i64::from(min_ready) - pods::seconds_between(since.0, now))
        .min()
        .map(|seconds| Duration::from_secs(u64::try_from(seconds.max(1)).unwrap_or(1)))
}

/// Whether the API already has this status. Absent and zero are the same.
pub fn is_current(set: &ReplicaSet, new: &ReplicaSetStatus) -> bool {
    let zero = |count: Option<i32>| count.unwrap_or(0);
    let Some(old) = &set.status else { return false };
    old.replicas == new.replicas
        && zero(old.fully_labeled_replicas) == zero(new.fully_labeled_replicas)
        && zero(old.ready_replicas) == zero(new.ready_replicas)
        && zero(old.available_replicas) == zero(new.available_replicas)
        && zero(old.terminating_replicas) == zero(new.terminating_replicas)
        && old.observed_generation == new.observed_generation
        && old.conditions.as_deref().unwrap_or_default() == new.conditions.as_deref().unwrap_or_default()
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
