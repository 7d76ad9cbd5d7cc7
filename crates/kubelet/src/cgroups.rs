//! Where pods stand in the cgroup tree and what they may use: `kubepods`, its QoS tiers, one group per pod (pkg/kubelet/cm). The values are pure;
//! `host::cgroups` writes them.

use api::core::v1::Pod;
use host::cgroups::{self, Limits};

use crate::options::Settings;
use crate::pod::resources::qos;
use crate::pod::resources::{self, CPU_PERIOD_US};
use crate::pod::uid;

/// `/ROOT/kubepods`.
pub fn node_root(settings: &Settings) -> String {
    format!("{}/kubepods", settings.cgroup_root.trim_end_matches('/'))
}

/// The parent that the runtime puts the pod's containers in.
pub fn pod_parent(settings: &Settings, pod: &Pod) -> String {
    if !settings.cgroups_per_qos {
        return settings.cgroup_root.clone();
    }
    let root = node_root(settings);
    match qos(pod) {
        "Guaranteed" => format!("{root}/pod{}", uid(pod)),
        "Burstable" => format!("{root}/burstable/pod{}", uid(pod)),
        _ => format!("{root}/besteffort/pod{}", uid(pod)),
    }
}

fn pod_limits(settings: &Settings, pod: &Pod) -> Limits {
    let cpu = resources::pod_limit_milli(pod, "cpu").filter(|milli| *milli > 0 && settings.cpu_cfs_quota);
    let memory = resources::pod_limit_milli(pod, "memory").filter(|milli| *milli > 0);
    Limits {
        cpu_shares: Some(resources::cpu_shares(resources::pod_request_milli(pod, "cpu"))),
        cpu_quota_us: cpu.map(resources::cpu_quota),
        cpu_period_us: CPU_PERIOD_US,
        memory_bytes: memory.map(|milli| milli / 1000),
        pids: Some(settings.pod_pids_limit).filter(|limit| *limit > 0),
    }
}

/// Makes the tiers. `allocatable`: CPU in thousandths and memory in bytes that all pods together may use.
pub fn set_up(settings: &Settings, allocatable: (i64, i64)) -> std::io::Result<()> {
    if !settings.cgroups_per_qos {
        return Ok(());
    }
    let root = node_root(settings);
    cgroups::create(&root)?;
    let (cpu, memory) = allocatable;
    cgroups::set(&root, &Limits { cpu_shares: Some(resources::cpu_shares(cpu)), memory_bytes: Some(memory), ..Limits::default() })?;
    for tier in ["burstable", "besteffort"] {
        cgroups::create(&format!("{root}/{tier}"))?;
    }
    cgroups::set(&format!("{root}/besteffort"), &Limits { cpu_shares: Some(resources::cpu_shares(0)), ..Limits::default() })
}

/// The burstable tier weighs as much as its pods ask for.
pub fn weigh_burstable(settings: &Settings, milli_cpu: i64) -> std::io::Result<()> {
    if !settings.cgroups_per_qos {
        return Ok(());
    }
    let path = format!("{}/burstable", node_root(settings));
    cgroups::set(&path, &Limits { cpu_shares: Some(resources::cpu_shares(milli_cpu)), ..Limits::default() })
}

pub fn ensure_pod(settings: &Settings, pod: &Pod) -> Result<(), String> {
    if !settings.cgroups_per_qos {
        return Ok(());
    }
    let path = pod_parent(settings, pod);
    let make = || {
        cgroups::create(&path)?;
        cgroups::set(&path, &pod_limits(settings, pod))
    };
    make().map_err(|error: std::io::Error| error.to_string())
}

/// Removes the pod's group, in whichever tier it is (an orphan's class is not known).
pub fn remove_pod(settings: &Settings, pod: &Pod) {
    if !settings.cgroups_per_qos {
        return;
    }
    let root = node_root(settings);
    for tier in ["", "/burstable", "/besteffort"] {
        if let Err(error) = cgroups::remove(&format!("{root}{tier}/pod{}", uid(pod))) {
            tracing::warn!(pod = crate::pod::described(pod), %error, "a pod's cgroup cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use serde_json::{Value, json};

    #[test]
    fn parents_and_limits() {
        let settings = Options { cgroup_root: Some("/x/".into()), ..Options::default() }.resolve().unwrap();
        let check = |resources: Value, parent: &str, memory: Option<i64>| {
            let pod: Pod = serde_json::from_value(
                json!({"metadata": {"uid": "1-2"}, "spec": {"containers": [{"name": "a", "resources": resources}]}}),
            )
            .unwrap();
            assert_eq!(pod_parent(&settings, &pod), parent);
            assert_eq!(pod_limits(&settings, &pod).memory_bytes, memory);
        };
        check(json!({}), "/x/kubepods/besteffort/pod1-2", None);
        check(json!({"requests": {"cpu": "1"}}), "/x/kubepods/burstable/pod1-2", None);
        check(json!({"limits": {"cpu": "1", "memory": "1Mi"}}), "/x/kubepods/pod1-2", Some(1 << 20));
    }
}
