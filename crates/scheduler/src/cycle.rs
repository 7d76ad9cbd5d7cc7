//! One scheduling cycle as a function of the cluster and a pod: PreFilter, Filter, PostFilter, PreScore, Score, Reserve, Permit in order. No I/O.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::framework::{Points, PreFilter, Rejection, Slot};
use crate::plugins::Registered;
use crate::state::{Cache, NodeInfo, PodInfo};

/// Below this many nodes every node is looked at; above, a share of them (schedule_one.go, numFeasibleNodesToFind).
const MIN_FEASIBLE_NODES: usize = 100;
const MIN_PERCENTAGE: usize = 5;

/// The plugins that place pods of one scheduler name.
pub struct Profile {
    pub scheduler_name: String,
    pub plugins: Vec<Registered>,
    /// Share of the nodes to find before scoring; 0: by the cluster's size.
    pub percentage_of_nodes_to_score: usize,
}

/// Why no node took the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoFit {
    pub nodes: usize,
    /// Reason to number of nodes.
    pub reasons: BTreeMap<String, usize>,
    pub rejected_by: BTreeSet<&'static str>,
    /// A node where room could be made.
    pub nominated: Option<String>,
}

impl NoFit {
    fn reject(&mut self, plugin: &'static str, rejection: Rejection, nodes: usize) {
        self.rejected_by.insert(plugin);
        for reason in rejection.reasons {
            *self.reasons.entry(reason.into_owned()).or_default() += nodes;
        }
    }

    /// The text of the FailedScheduling event and the PodScheduled condition (framework/types.go, FitError).
    pub fn message(&self) -> String {
        if self.nodes == 0 {
            return "no nodes available to schedule pods".into();
        }
        let mut parts: Vec<String> = self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        parts.sort_unstable();
        let list = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
        format!("0/{} nodes are available{list}.", self.nodes)
    }
}

/// Chooses a node. `start` rotates where the search begins, so that all nodes get their turn; it is moved on.
pub fn decide(
    profile: &Profile,
    cluster: &Cache,
    pod: &PodInfo,
    start: &mut usize,
    random: &mut impl FnMut() -> u64,
) -> Result<String, NoFit> {
    let mut slots: Vec<Slot> = profile.plugins.iter().map(|_| Slot::default()).collect();
    let nodes = cluster.nodes().iter().filter(|node| node.node.is_some()).count();
    let mut no_fit = NoFit { nodes, ..NoFit::default() };
    let filters = pre_filter(profile, cluster, pod, &mut slots, &mut no_fit);
    let Some(filters) = filters else { return Err(no_fit) };
    let feasible = filter(profile, cluster, pod, &slots, &filters, start, &mut no_fit);
    if feasible.is_empty() {
        no_fit.nominated = plugins(profile, Points::POST_FILTER).find_map(|(_, registered)| registered.plugin.post_filter(pod, cluster));
        return Err(no_fit);
    }
    let best = score(profile, pod, &mut slots, &feasible, random);
    claim(profile, pod, feasible[best], &mut no_fit)
}

/// The plugins that have a point, with their place.
fn plugins(profile: &Profile, point: Points) -> impl Iterator<Item = (usize, &Registered)> {
    profile.plugins.iter().enumerate().filter(move |(_, registered)| registered.plugin.points().has(point))
}

/// What Filter has to do.
struct Filters {
    /// Plugins to ask.
    ask: Vec<usize>,
    /// Nodes to ask for; `None`: all.
    only: Option<HashSet<String>>,
}

fn pre_filter(profile: &Profile, cluster: &Cache, pod: &PodInfo, slots: &mut [Slot], no_fit: &mut NoFit) -> Option<Filters> {
    let mut skipped = HashSet::new();
    let mut only: Option<HashSet<String>> = None;
    for (at, registered) in plugins(profile, Points::PRE_FILTER) {
        match registered.plugin.pre_filter(&mut slots[at], pod, cluster) {
            PreFilter::Continue => {}
            PreFilter::Skip => {
                skipped.insert(at);
            }
            PreFilter::Only(names) => {
                let names: HashSet<String> = names.into_iter().collect();
                only = Some(match only {
                    Some(known) => known.intersection(&names).cloned().collect(),
                    None => names,
                });
                no_fit.rejected_by.insert(registered.plugin.name());
            }
            PreFilter::Reject(rejection) => {
                let nodes = no_fit.nodes;
                no_fit.reject(registered.plugin.name(), rejection, nodes);
                return None;
            }
        }
    }
    let ask = plugins(profile, Points::FILTER).map(|(at, _)| at).filter(|at| !skipped.contains(at)).collect();
    Some(Filters { ask, only })
}

fn filter<'a>(
    profile: &Profile,
    cluster: &'a Cache,
    pod: &PodInfo,
    slots: &[Slot],
    filters: &Filters,
    start: &mut usize,
    no_fit: &mut NoFit,
) -> Vec<&'a NodeInfo> {
    let all = cluster.nodes();
    let enough = enough(no_fit.nodes, profile.percentage_of_nodes_to_score);
    let mut feasible = Vec::new();
    let passes = |node: &NodeInfo, no_fit: &mut NoFit| {
        filters.ask.iter().all(|at| {
            let plugin = &profile.plugins[*at].plugin;
            let verdict = plugin.filter(&slots[*at], pod, node);
            if let Err(rejection) = verdict {
                no_fit.reject(plugin.name(), rejection, 1);
                return false;
            }
            true
        })
    };
    if let Some(only) = &filters.only {
        let mut named = 0;
        for name in only {
            let Some(node) = cluster.node(name).filter(|node| node.node.is_some()) else { continue };
            named += 1;
            if passes(node, no_fit) {
                feasible.push(node);
            }
        }
        let left_out = no_fit.nodes.saturating_sub(named);
        if feasible.is_empty() && left_out > 0 {
            *no_fit.reasons.entry("node(s) didn't satisfy plugin(s) [NodeAffinity]".into()).or_default() += left_out;
        }
        return feasible;
    }
    let mut looked = 0;
    for node in all.iter().cycle().skip(*start % all.len().max(1)).take(all.len()) {
        looked += 1;
        if node.node.is_some() && passes(node, no_fit) {
            feasible.push(node);
            if feasible.len() >= enough {
                break;
            }
        }
    }
    *start = (*start + looked) % all.len().max(1);
    feasible
}

/// How many feasible nodes to find before the search ends.
fn enough(nodes: usize, percentage: usize) -> usize {
    if nodes < MIN_FEASIBLE_NODES || percentage >= 100 {
        return nodes.max(1);
    }
    let percentage = if percentage == 0 { 50usize.saturating_sub(nodes / 125).max(MIN_PERCENTAGE) } else { percentage };
    (nodes * percentage / 100).max(MIN_FEASIBLE_NODES)
}

/// The place of the best node; among equals, one by chance.
fn score(profile: &Profile, pod: &PodInfo, slots: &mut [Slot], feasible: &[&NodeInfo], random: &mut impl FnMut() -> u64) -> usize {
    if feasible.len() == 1 {
        return 0;
    }
    let mut totals = vec![0i64; feasible.len()];
    let mut scores = vec![0i64; feasible.len()];
    for (at, registered) in plugins(profile, Points::SCORE) {
        let plugin = &registered.plugin;
        if plugin.points().has(Points::PRE_SCORE) && !plugin.pre_score(&mut slots[at], pod, feasible) {
            continue;
        }
        for (score, node) in scores.iter_mut().zip(feasible) {
            *score = plugin.score(&slots[at], pod, node);
        }
        plugin.normalize(&mut scores);
        for (total, score) in totals.iter_mut().zip(&scores) {
            *total += score * registered.weight;
        }
    }
    let (mut best, mut equals) = (0, 1);
    for at in 1..totals.len() {
        if totals[at] > totals[best] {
            (best, equals) = (at, 1);
        } else if totals[at] == totals[best] {
            equals += 1;
            if random().is_multiple_of(equals) {
                best = at;
            }
        }
    }
    best
}

fn claim(profile: &Profile, pod: &PodInfo, node: &NodeInfo, no_fit: &mut NoFit) -> Result<String, NoFit> {
    for (_, registered) in plugins(profile, Points::RESERVE.and(Points::PERMIT)) {
        let plugin = &registered.plugin;
        if let Err(rejection) = plugin.reserve(pod, node).and_then(|()| plugin.permit(pod, &node.name)) {
            no_fit.reject(plugin.name(), rejection, 1);
            release(profile, pod, &node.name);
            return Err(no_fit.clone());
        }
    }
    Ok(node.name.clone())
}

/// Voids what plugins claimed for a placement that did not come about.
pub fn release(profile: &Profile, pod: &PodInfo, node: &str) {
    for (_, registered) in plugins(profile, Points::RESERVE) {
        registered.plugin.unreserve(pod, node);
    }
}

#[cfg(test)]
mod tests;
