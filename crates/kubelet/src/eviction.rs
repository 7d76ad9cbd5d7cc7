//! What to do when the node runs short of something: conditions, and pods to stop (pkg/kubelet/eviction). The choices are pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::core::v1::Pod;
use client::EventType;
use tokio::time::Instant;

use crate::context::Context;
use crate::node::info;
use crate::pod::resources::{is_critical, pod_request_milli};
use crate::pod::status::Verdict;
use crate::pod::{is_static, spec};
use crate::pods::Workers;

/// How often the signals are read (upstream's monitoringInterval).
const PERIOD: Duration = Duration::from_secs(10);
/// A pressure is shown so long after it was last seen (evictionPressureTransitionPeriod).
const TRANSITION: Duration = Duration::from_secs(300);

/// What the node is short of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    pub memory: bool,
    pub disk: bool,
    pub pids: bool,
}

/// One signal: what is available of how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    pub available: u64,
    pub capacity: u64,
}

/// The signals that are below their thresholds, with the threshold in the signal's unit.
pub fn crossed(signals: &BTreeMap<&'static str, Signal>, thresholds: &BTreeMap<String, String>) -> Vec<(&'static str, Signal, u64)> {
    let below = |(name, signal): (&&'static str, &Signal)| {
        let limit = info::threshold(thresholds.get(*name)?, signal.capacity)?;
        (signal.available < limit).then_some((*name, *signal, limit))
    };
    signals.iter().filter_map(below).collect()
}

pub fn pressure_of(crossed: &[(&'static str, Signal, u64)]) -> Pressure {
    let any = |prefixes: &[&str]| crossed.iter().any(|(name, ..)| prefixes.iter().any(|prefix| name.starts_with(prefix)));
    Pressure { memory: any(&["memory."]), disk: any(&["nodefs.", "imagefs."]), pids: any(&["pid."]) }
}

/// A pod that could be stopped, and what it uses of the short resource, in bytes.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub pod: Arc<Pod>,
    pub used: u64,
}

/// The pod to stop: first those that use more than they asked for, then by priority, then by how much more.
pub fn choose(mut candidates: Vec<Candidate>, resource: &str) -> Option<Candidate> {
    candidates.retain(|candidate| !(is_static(&candidate.pod) || is_critical(&candidate.pod)));
    let over = |candidate: &Candidate| {
        let asked = u64::try_from(pod_request_milli(&candidate.pod, resource) / 1000).unwrap_or(0);
        (candidate.used > asked, candidate.used.saturating_sub(asked))
    };
    candidates.into_iter().min_by_key(|candidate| {
        let (exceeds, by) = over(candidate);
        (!exceeds, spec(&candidate.pod).priority.unwrap_or(0), Reverse(by))
    })
}

/// Bytes in upstream's short form: `100Mi`, `1234Ki`.
fn quantity(bytes: u64) -> String {
    if bytes > 0 && bytes.is_multiple_of(1 << 20) { format!("{}Mi", bytes >> 20) } else { format!("{}Ki", bytes >> 10) }
}

pub struct Manager {
    context: Arc<Context>,
    workers: Workers,
    seen: [Option<Instant>; 3],
}

impl Manager {
    pub fn new(context: Arc<Context>, workers: Workers) -> Self {
        Self { context, workers, seen: [None; 3] }
    }

    pub async fn run(mut self) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let signals = self.signals();
            let crossed = crossed(&signals, &self.context.settings.eviction_hard);
            self.show(pressure_of(&crossed));
            if let Some((signal, value, limit)) = crossed.first() {
                self.relieve(signal, *value, *limit).await;
            }
        }
    }

    fn signals(&self) -> BTreeMap<&'static str, Signal> {
        let mut out = BTreeMap::new();
        let (total, available) = info::memory();
        out.insert("memory.available", Signal { available, capacity: total });
        let root = &self.context.settings.root_dir;
        match (info::disk(root), info::inodes(root)) {
            (Ok((capacity, available)), Ok((inodes, free))) => {
                out.insert("nodefs.available", Signal { available, capacity });
                // File systems without a fixed number of inodes (btrfs) say 0 of 0.
                if inodes > 0 {
                    out.insert("nodefs.inodesFree", Signal { available: free, capacity: inodes });
                }
            }
            (Err(error), _) | (_, Err(error)) => tracing::warn!(%error, "the root folder's file system cannot be measured"),
        }
        let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        let running = std::fs::read_to_string("/proc/loadavg").ok();
        let running = running.and_then(|text| text.split(' ').nth(3)?.split('/').nth(1)?.parse::<u64>().ok());
        if let (Some(max), Some(running)) = (number("/proc/sys/kernel/pid_max"), running) {
            out.insert("pid.available", Signal { available: max.saturating_sub(running), capacity: max });
        }
        out
    }

    /// Shows a pressure at once and takes it back only after the transition period.
    fn show(&mut self, found: Pressure) {
        let now = base::clock::monotonic();
        for (seen, found) in self.seen.iter_mut().zip([found.memory, found.disk, found.pids]) {
            if found {
                *seen = Some(now);
            } else if seen.is_some_and(|at| at.elapsed() >= TRANSITION) {
                *seen = None;
            }
        }
        let [memory, disk, pids] = self.seen.map(|seen| seen.is_some());
        *self.context.pressure.write() = Pressure { memory, disk, pids };
    }

    async fn relieve(&self, signal: &'static str, value: Signal, limit: u64) {
        let disk = !signal.starts_with("memory.");
        let resource = if disk { "ephemeral-storage" } else { "memory" };
        self.context.node_event(EventType::Warning, "EvictionThresholdMet", format!("Attempting to reclaim {resource}"));
        if signal.starts_with("pid.") {
            return;
        }
        if disk {
            let freed = crate::gc::images(&self.context, u64::MAX).await;
            if freed > 0 {
                return;
            }
        }
        let candidates = self.candidates(disk).await;
        let Some(chosen) = choose(candidates, resource) else {
            tracing::warn!(signal, "the node is short of {resource} and there is no pod to stop");
            return;
        };
        let message = format!(
            "The node was low on resource: {resource}. Threshold quantity: {}, available: {}. ",
            quantity(limit),
            quantity(value.available)
        );
        tracing::warn!(pod = crate::pod::described(&chosen.pod), signal, "a pod is evicted");
        self.context.event(&chosen.pod, None, EventType::Warning, "Evicted", message.clone());
        if let Some(shared) = self.workers.get(crate::pod::uid(&chosen.pod)) {
            shared.stop_with(Verdict { phase: "Failed", reason: "Evicted".into(), message }, Some(0));
        }
    }

    async fn candidates(&self, disk: bool) -> Vec<Candidate> {
        let stats = match self.context.cri.container_stats().await {
            Ok(stats) => stats,
            Err(error) => {
                tracing::warn!(%error, "what containers use cannot be asked");
                Vec::new()
            }
        };
        let used = |uid: &str| -> u64 {
            let own = stats.iter().filter(|stat| {
                let labels = stat.attributes.as_ref().map(|attributes| &attributes.labels);
                labels.and_then(|labels| labels.get(crate::runtime::labels::POD_UID)).is_some_and(|found| found == uid)
            });
            own.filter_map(|stat| match disk {
                true => stat.writable_layer.as_ref()?.used_bytes.map(|value| value.value),
                false => stat.memory.as_ref()?.working_set_bytes.map(|value| value.value),
            })
            .sum()
        };
        let active = self.workers.all().into_iter().filter(|shared| shared.runtime().has_running() && shared.desired().verdict.is_none());
        active.map(|shared| shared.pod()).map(|pod| Candidate { used: used(crate::pod::uid(&pod)), pod }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn candidate(name: &str, priority: i32, asked: &str, used: u64) -> Candidate {
        let pod = json!({"metadata": {"name": name}, "spec": {"priority": priority,
            "containers": [{"name": "a", "resources": {"requests": {"memory": asked}}}]}});
        Candidate { pod: Arc::new(serde_json::from_value(pod).unwrap()), used }
    }

    #[test]
    fn who_goes_first() {
        let check = |candidates: Vec<Candidate>, expected: Option<&str>| {
            let chosen = choose(candidates, "memory");
            assert_eq!(chosen.as_ref().map(|chosen| crate::pod::name(&chosen.pod)), expected);
        };
        check(vec![candidate("within", 0, "200", 100), candidate("over", 10, "50", 60)], Some("over"));
        check(vec![candidate("low", 0, "0", 10), candidate("high", 10, "0", 1000)], Some("low"));
        check(vec![candidate("little", 0, "0", 10), candidate("much", 0, "0", 1000)], Some("much"));
        check(vec![candidate("critical", 2_000_000_000, "0", 1000)], None);
    }

    #[test]
    fn thresholds_and_pressure() {
        let thresholds = BTreeMap::from([("memory.available".into(), "100".into()), ("nodefs.available".into(), "10%".into())]);
        let signal = |available: u64| Signal { available, capacity: 1000 };
        let signals = BTreeMap::from([("memory.available", signal(99)), ("nodefs.available", signal(100))]);
        let crossed = crossed(&signals, &thresholds);
        assert_eq!(crossed, [("memory.available", signal(99), 100)]);
        assert_eq!(pressure_of(&crossed), Pressure { memory: true, disk: false, pids: false });
    }
}
