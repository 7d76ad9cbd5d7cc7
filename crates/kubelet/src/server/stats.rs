//! What the node and its pods use: `/stats/summary` (kubelet/pkg/apis/stats/v1alpha1). From cgroups and the runtime, at the moment it is asked for.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_cri::v1 as pb;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};

use crate::context::Context;
use crate::node::info;
use crate::pod::{name, namespace, uid};
use crate::pods::Workers;
use crate::runtime::labels;

/// A rate needs two looks at least so far apart, in nanoseconds; a closer one repeats the last rate.
const MIN_INTERVAL_NS: i64 = 1_000_000_000;

/// CPU and memory of one thing, in the units of the summary.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Use {
    pub name: String,
    pub start_time: String,
    pub cpu: Value,
    pub memory: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<Value>,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodUse {
    pub pod_ref: Value,
    pub start_time: String,
    pub containers: Vec<Use>,
    pub cpu: Value,
    pub memory: Value,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    pub node: Value,
    pub pods: Vec<PodUse>,
}

/// The last look at a CPU counter: when, the counter, the rate then.
type Look = (i64, u64, u64);

pub struct Stats {
    context: Arc<Context>,
    workers: Workers,
    looks: Mutex<HashMap<String, Look>>,
}

fn time(at: jiff::Timestamp) -> String {
    crate::pod::api_time(at).0.to_string()
}

impl Stats {
    pub fn new(context: Arc<Context>, workers: Workers) -> Self {
        Self { context, workers, looks: Mutex::default() }
    }

    pub async fn summary(&self) -> Result<Summary, String> {
        let stats = self.context.cri.container_stats().await.map_err(|error| error.to_string())?;
        let mut by_pod: HashMap<String, Vec<pb::ContainerStats>> = HashMap::new();
        for stat in stats {
            let pod_uid = stat.attributes.as_ref().and_then(|attributes| attributes.labels.get(labels::POD_UID).cloned());
            by_pod.entry(pod_uid.unwrap_or_default()).or_default().push(stat);
        }
        let pods = self.workers.all().iter().map(|shared| self.pod(shared, &by_pod)).collect();
        Ok(Summary { node: self.node()?, pods })
    }

    fn node(&self) -> Result<Value, String> {
        let usage = host::cgroups::usage("/").map_err(|error| error.to_string())?;
        let (total, available) = info::memory();
        let now = base::clock::now();
        let working_set = total.saturating_sub(available);
        let settings = &self.context.settings;
        let fs = |path: &std::path::Path| -> Result<Value, String> {
            let (size, free) = info::disk(path).map_err(|error| error.to_string())?;
            let (inodes, inodes_free) = info::inodes(path).map_err(|error| error.to_string())?;
            Ok(json!({"time": time(now), "availableBytes": free, "capacityBytes": size, "usedBytes": size - free,
                "inodes": inodes, "inodesFree": inodes_free, "inodesUsed": inodes.saturating_sub(inodes_free)}))
        };
        let image_fs = fs(&settings.root_dir)?;
        Ok(json!({
            "nodeName": settings.node_name,
            "startTime": time(now),
            "cpu": self.cpu("node", now, usage.cpu_ns),
            "memory": {"time": time(now), "availableBytes": available, "usageBytes": usage.memory_bytes.min(total), "workingSetBytes": working_set,
                "rssBytes": usage.rss_bytes, "pageFaults": usage.page_faults, "majorPageFaults": usage.major_page_faults},
            "fs": fs(&settings.root_dir)?,
            "runtime": {"imageFs": image_fs, "containerFs": image_fs},
        }))
    }

    fn pod(&self, shared: &crate::pod::worker::Shared, by_pod: &HashMap<String, Vec<pb::ContainerStats>>) -> PodUse {
        let pod = shared.pod();
        let now = base::clock::now();
        let runtime = shared.runtime();
        let started = |name: &str| {
            let record = runtime.container(name);
            record.and_then(|record| crate::pod::from_nanos(record.started_ns)).map_or_else(String::new, |time| time.0.to_string())
        };
        let containers: Vec<Use> = by_pod
            .get(uid(&pod))
            .into_iter()
            .flatten()
            .filter_map(|stat| {
                let container = stat.attributes.as_ref()?.metadata.as_ref()?.name.clone();
                Some(self.container(stat, &container, started(&container), &format!("{}/{container}", uid(&pod)), now))
            })
            .collect();
        let usage = host::cgroups::usage(&crate::cgroups::pod_parent(&self.context.settings, &pod)).unwrap_or_default();
        let start = self.context.statuses.get(uid(&pod)).and_then(|status| status.start_time);
        PodUse {
            pod_ref: json!({"name": name(&pod), "namespace": namespace(&pod), "uid": uid(&pod)}),
            start_time: start.map_or_else(|| time(now), |start| start.0.to_string()),
            containers,
            cpu: self.cpu(uid(&pod), now, usage.cpu_ns),
            memory: json!({"time": time(now), "usageBytes": usage.memory_bytes, "workingSetBytes": usage.working_set_bytes,
                "rssBytes": usage.rss_bytes, "pageFaults": usage.page_faults, "majorPageFaults": usage.major_page_faults}),
        }
    }

    fn container(&self, stat: &pb::ContainerStats, name: &str, start_time: String, key: &str, now: jiff::Timestamp) -> Use {
        let number = |value: &Option<pb::UInt64Value>| value.as_ref().map_or(0, |value| value.value);
        let cpu_ns = stat.cpu.as_ref().map_or(0, |cpu| number(&cpu.usage_core_nano_seconds));
        let memory = stat.memory.unwrap_or_default();
        let disk = stat.writable_layer.as_ref();
        Use {
            name: name.to_owned(),
            start_time,
            cpu: self.cpu(key, now, cpu_ns),
            memory: json!({"time": time(now), "workingSetBytes": number(&memory.working_set_bytes), "usageBytes": number(&memory.usage_bytes),
                "rssBytes": number(&memory.rss_bytes), "pageFaults": number(&memory.page_faults), "majorPageFaults": number(&memory.major_page_faults)}),
            rootfs: disk
                .map(|disk| json!({"time": time(now), "usedBytes": number(&disk.used_bytes), "inodesUsed": number(&disk.inodes_used)})),
        }
    }

    /// The counter, and its rate since the last look.
    fn cpu(&self, key: &str, now: jiff::Timestamp, counter: u64) -> Value {
        let at = i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX);
        let mut looks = self.looks.lock();
        let fresh = match looks.get(key) {
            None => (at, counter, 0),
            Some(&(then, before, rate)) if at - then < MIN_INTERVAL_NS => (then, before, rate),
            Some(&(then, before, _)) => (at, counter, rate(before, counter, at - then)),
        };
        looks.insert(key.to_owned(), fresh);
        json!({"time": time(now), "usageNanoCores": fresh.2, "usageCoreNanoSeconds": counter})
    }
}

fn rate(before: u64, after: u64, elapsed_ns: i64) -> u64 {
    let used = u128::from(after.saturating_sub(before)) * 1_000_000_000;
    u64::try_from(used / u128::try_from(elapsed_ns.max(1)).unwrap_or(1)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        assert_eq!(rate(0, 500_000_000, 1_000_000_000), 500_000_000);
        assert_eq!(rate(5, 3, 1_000_000_000), 0);
    }
}
