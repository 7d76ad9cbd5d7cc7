//! Which nodes get a pod of a DaemonSet, which pods go, how an update proceeds, and the status (pkg/controller/daemon). Pure.

use std::collections::HashMap;
use std::sync::Arc;

use api::IntOrString;
use api::apps::v1::{DaemonSet, DaemonSetStatus};
use api::core::v1::{Node, Pod};
use jiff::Timestamp;

use super::pod::{belongs, has_hash, target_node};
use crate::common::pods;

pub struct Snapshot {
    pub set: Arc<DaemonSet>,
    pub hash: String,
    pub nodes: Vec<Arc<Node>>,
    /// The pods that the set owns.
    pub pods: Vec<Arc<Pod>>,
}

#[derive(Debug, Default)]
pub struct Plan {
    /// Names of nodes.
    pub create: Vec<String>,
    pub delete: Vec<Arc<Pod>>,
    /// Finished pods, to be deleted with an event; failed ones not too often.
    pub replace: Vec<Arc<Pod>>,
}

type ByNode<'a> = HashMap<&'a str, Vec<&'a Arc<Pod>>>;

fn by_node(snapshot: &Snapshot) -> ByNode<'_> {
    let mut nodes: ByNode<'_> = HashMap::new();
    for pod in &snapshot.pods {
        nodes.entry(target_node(pod).unwrap_or_default()).or_default().push(pod);
    }
    nodes.values_mut().for_each(|pods| {
        pods.sort_by_key(|pod| (pods::node_name(pod).is_none(), pod.metadata.creation_timestamp.as_ref().map(|time| time.0)))
    });
    nodes
}

fn min_ready(set: &DaemonSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
}

pub fn plan(snapshot: &Snapshot, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let by_node = by_node(snapshot);
    let (surge, _) = limits(snapshot);
    for node in &snapshot.nodes {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let (start, stay) = belongs(&snapshot.set, node);
        let here = by_node.get(name).map(Vec::as_slice).unwrap_or_default();
        if start && here.is_empty() {
            plan.create.push(name.to_owned());
        } else if stay {
            keep_one(snapshot, here, surge > 0, &mut plan);
        } else {
            plan.delete.extend(here.iter().filter(|pod| !pods::is_terminating(pod)).map(|pod| Arc::clone(pod)));
        }
    }
    // Pods that wait for nodes that are gone would wait for ever.
    let exists = |name: &str| snapshot.nodes.iter().any(|node| node.metadata.name.as_deref() == Some(name));
    let lost = snapshot.pods.iter().filter(|pod| pods::node_name(pod).is_none() && !pods::is_terminating(pod));
    plan.delete.extend(lost.filter(|pod| !target_node(pod).is_some_and(exists)).cloned());
    if plan.create.is_empty() && is_rolling(&snapshot.set) {
        roll(snapshot, &by_node, now, &mut plan);
    }
    plan
}

/// One pod per node, the oldest; with surge one of each revision.
fn keep_one(snapshot: &Snapshot, here: &[&Arc<Pod>], surging: bool, plan: &mut Plan) {
    let (finished, running): (Vec<_>, Vec<_>) =
        here.iter().filter(|pod| !pods::is_terminating(pod)).partition(|pod| pods::is_finished(pod));
    plan.replace.extend(finished.into_iter().map(Arc::clone));
    let (mut new, mut old) = (0, 0);
    for pod in running {
        let count = if surging && has_hash(pod, &snapshot.hash) { &mut new } else { &mut old };
        *count += 1;
        if *count > 1 {
            plan.delete.push(Arc::clone(pod));
        }
    }
}

fn is_rolling(set: &DaemonSet) -> bool {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref()).and_then(|strategy| strategy.type_.as_deref());
    strategy != Some("OnDelete")
}

/// Surplus and missing pods that an update may cause.
fn limits(snapshot: &Snapshot) -> (usize, usize) {
    if !is_rolling(&snapshot.set) {
        return (0, 0);
    }
    let rolling =
        snapshot.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref()).and_then(|strategy| strategy.rolling_update.as_ref());
    let desired = snapshot.nodes.iter().filter(|node| belongs(&snapshot.set, node).0).count();
    let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref()).map_or(0, |value| scaled(value, desired));
    let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref()).map_or(1, |value| scaled(value, desired));
    if surge == 0 && unavailable == 0 && desired > 0 { (0, 1) } else { (surge, unavailable) }
}

/// Rounded up, as upstream for both limits of a DaemonSet.
fn scaled(value: &IntOrString, total: usize) -> usize {
    match value {
        IntOrString::Int(number) => usize::try_from(*number).unwrap_or(0),
        IntOrString::String(text) => {
            let percent: usize = text.strip_suffix('%').and_then(|digits| digits.parse().ok()).unwrap_or(0);
            (percent * total).div_ceil(100)
        }
    }
}

/// The one running pod of the wanted revision and the one of another.
type Pair<'a> = (Option<&'a Arc<Pod>>, Option<&'a Arc<Pod>>);

/// `None` when there are more than one of either: they are cleaned up first.
fn pair<'a>(here: &[&'a Arc<Pod>], hash: &str) -> Option<Pair<'a>> {
    let (new, old): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) =
        here.iter().filter(|pod| !pods::is_terminating(pod)).partition(|pod| has_hash(pod, hash));
    (new.len() <= 1 && old.len() <= 1).then(|| (new.first().copied(), old.first().copied()))
}

fn roll(snapshot: &Snapshot, by_node: &ByNode<'_>, now: Timestamp, plan: &mut Plan) {
    let (max_surge, max_unavailable) = limits(snapshot);
    let available = |pod: &Pod| pods::is_available(pod, min_ready(&snapshot.set), now);
    let mut names: Vec<&str> =
        snapshot.nodes.iter().filter(|node| belongs(&snapshot.set, node).1).filter_map(|node| node.metadata.name.as_deref()).collect();
    names.sort_unstable();
    let (mut unavailable, mut surging) = (0, 0);
    let (mut broken, mut candidates, mut done) = (Vec::new(), Vec::new(), Vec::new());
    for name in names {
        let here = by_node.get(name).map(Vec::as_slice).unwrap_or_default();
        match pair(here, &snapshot.hash) {
            None | Some((None, None)) => unavailable += 1,
            Some((Some(new), Some(old))) if max_surge > 0 => {
                if available(new) {
                    done.push(old)
                } else {
                    surging += 1
                }
            }
            Some((Some(new), _)) => unavailable += usize::from(!available(new)),
            Some((None, Some(old))) if available(old) => candidates.push((name, old)),
            Some((None, Some(old))) => broken.push((name, old)),
        }
    }
    if max_surge > 0 {
        let room = max_surge.saturating_sub(surging);
        plan.delete.extend(done.into_iter().cloned());
        plan.create.extend(broken.iter().map(|(name, _)| (*name).to_owned()));
        plan.create.extend(candidates.iter().take(room).map(|(name, _)| (*name).to_owned()));
    } else {
        // What does not work may be replaced at any time.
        plan.delete.extend(broken.iter().map(|(_, pod)| Arc::clone(pod)));
        let room = max_unavailable.saturating_sub(unavailable + broken.len());
        plan.delete.extend(candidates.iter().take(room).map(|(_, pod)| Arc::clone(pod)));
    }
    let mut seen = std::collections::HashSet::new();
    plan.delete.retain(|pod| seen.insert(pod.metadata.uid.clone()));
}

pub fn status(snapshot: &Snapshot, now: Timestamp) -> DaemonSetStatus {
    let set = &snapshot.set;
    let by_node = by_node(snapshot);
    let old = set.status.clone().unwrap_or_default();
    let mut status = DaemonSetStatus {
        observed_generation: set.metadata.generation,
        collision_count: old.collision_count,
        conditions: old.conditions,
        ..DaemonSetStatus::default()
    };
    let (mut available, mut updated) = (0, 0);
    for node in &snapshot.nodes {
        let first = by_node.get(node.metadata.name.as_deref().unwrap_or_default()).and_then(|pods| pods.first());
        if !belongs(set, node).0 {
            status.number_misscheduled += i32::from(first.is_some());
            continue;
        }
        status.desired_number_scheduled += 1;
        let Some(pod) = first else { continue };
        status.current_number_scheduled += 1;
        status.number_ready += i32::from(pods::is_ready(pod));
        available += i32::from(pods::is_available(pod, min_ready(set), now));
        updated += i32::from(has_hash(pod, &snapshot.hash));
    }
    status.number_available = Some(available);
    status.updated_number_scheduled = Some(updated);
    status.number_unavailable = Some((status.desired_number_scheduled - available).max(0));
    status
}

/// Absent and zero are the same.
pub fn is_current(old: Option<&DaemonSetStatus>, new: &DaemonSetStatus) -> bool {
    let full = |status: &DaemonSetStatus| DaemonSetStatus {
        number_available: status.number_available.or(Some(0)),
        number_unavailable: status.number_unavailable.or(Some(0)),
        updated_number_scheduled: status.updated_number_scheduled.or(Some(0)),
        ..status.clone()
    };
    old.is_some_and(|old| full(old) == full(new))
}
