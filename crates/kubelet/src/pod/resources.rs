//! Requests and limits as numbers: QoS class, CRI resources, OOM scores. Pure.

use std::collections::BTreeMap;

use api::Quantity;
use api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_cri::v1 as pb;

use super::{init_containers, is_sidecar, regular_containers, spec};

/// The CFS period that quotas are counted in, in microseconds.
pub const CPU_PERIOD_US: i64 = 100_000;
const MIN_QUOTA_US: i64 = 1000;
const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;

type List = BTreeMap<String, Quantity>;

/// A quantity in whole units, rounded up. The API server has checked it; one that cannot be read counts as nothing.
pub fn units(quantity: Option<&Quantity>) -> i64 {
    quantity.and_then(|quantity| api::quantity::parse(&quantity.0).ok()).map_or(0, |amount| amount.value())
}

/// A quantity in thousandths, rounded up.
pub fn millis(quantity: Option<&Quantity>) -> i64 {
    quantity.and_then(|quantity| api::quantity::parse(&quantity.0).ok()).map_or(0, |amount| amount.milli_value())
}

fn of<'a>(list: Option<&'a List>, name: &str) -> Option<&'a Quantity> {
    list.and_then(|list| list.get(name))
}

pub fn request<'a>(container: &'a Container, name: &str) -> Option<&'a Quantity> {
    of(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()), name)
}

pub fn limit<'a>(container: &'a Container, name: &str) -> Option<&'a Quantity> {
    of(container.resources.as_ref().and_then(|resources| resources.limits.as_ref()), name)
}

/// `Guaranteed`, `Burstable` or `BestEffort` (pkg/apis/core/v1/helper/qos).
pub fn qos(pod: &Pod) -> &'static str {
    if let Some(resources) = &spec(pod).resources {
        return class([resources].into_iter());
    }
    let none = ResourceRequirements::default();
    let all = init_containers(pod).iter().chain(regular_containers(pod));
    let list: Vec<ResourceRequirements> = all.map(|container| container.resources.clone().unwrap_or(none.clone())).collect();
    class(list.iter())
}

fn class<'a>(all: impl Iterator<Item = &'a ResourceRequirements>) -> &'static str {
    let (mut any, mut guaranteed) = (false, true);
    for resources in all {
        for name in ["cpu", "memory"] {
            let request = millis(of(resources.requests.as_ref(), name));
            let limit = millis(of(resources.limits.as_ref(), name));
            any |= request > 0 || limit > 0;
            // An absent request defaults to the limit.
            guaranteed &= limit > 0 && (request == 0 || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

pub fn cpu_shares(milli: i64) -> i64 {
    if milli == 0 { MIN_SHARES } else { (milli * 1024 / 1000).clamp(MIN_SHARES, MAX_SHARES) }
}

/// Microseconds of every period; 0 is no limit.
pub fn cpu_quota(milli: i64) -> i64 {
    if milli == 0 { 0 } else { (milli * CPU_PERIOD_US / 1000).max(MIN_QUOTA_US) }
}

/// Upstream's GetContainerOOMScoreAdjust (pkg/kubelet/qos/policy.go).
pub fn oom_score_adj(pod: &Pod, container: &Container, memory_capacity: i64) -> i64 {
    if is_critical(pod) {
        return -997;
    }
    match qos(pod) {
        "Guaranteed" => -997,
        "BestEffort" => 1000,
        _ => {
            let request = units(request(container, "memory"));
            let score = 1000 - (1000 * request) / memory_capacity.max(1);
            // 1000 - 997 keeps a burstable container above every guaranteed one, 999 below every best-effort one.
            score.clamp(3, 999)
        }
    }
}

/// Static, mirror, or of a system priority class.
pub fn is_critical(pod: &Pod) -> bool {
    super::is_static(pod) || super::is_mirror(pod) || spec(pod).priority.is_some_and(|priority| priority >= 2_000_000_000)
}

/// The container's cgroup values.
pub fn to_cri(pod: &Pod, container: &Container, memory_capacity: i64, cpu_cfs_quota: bool) -> pb::LinuxContainerResources {
    let (request_cpu, limit_cpu) = (request(container, "cpu"), limit(container, "cpu"));
    let shares = match (request_cpu, limit_cpu) {
        (None, Some(limit)) => cpu_shares(millis(Some(limit))),
        (request, _) => cpu_shares(millis(request)),
    };
    let quota = if cpu_cfs_quota { cpu_quota(millis(limit_cpu)) } else { 0 };
    pb::LinuxContainerResources {
        cpu_shares: shares,
        cpu_quota: quota,
        cpu_period: if quota > 0 { CPU_PERIOD_US } else { 0 },
        memory_limit_in_bytes: units(limit(container, "memory")),
        oom_score_adj: oom_score_adj(pod, container, memory_capacity),
        ..Default::default()
    }
}

/// What a pod asks of one resource, in thousandths: the sum of its containers and sidecars or its largest init step, and its overhead
/// (component-helpers/resource: PodRequests).
pub fn pod_request_milli(pod: &Pod, name: &str) -> i64 {
    let overhead = millis(of(spec(pod).overhead.as_ref(), name));
    if let Some(whole) = of(spec(pod).resources.as_ref().and_then(|resources| resources.requests.as_ref()), name) {
        return millis(Some(whole)) + overhead;
    }
    sum(pod, |container| millis(request(container, name))) + overhead
}

/// What a pod may use of one resource, in thousandths; `None` where one container has no limit.
pub fn pod_limit_milli(pod: &Pod, name: &str) -> Option<i64> {
    let overhead = millis(of(spec(pod).overhead.as_ref(), name));
    if let Some(whole) = of(spec(pod).resources.as_ref().and_then(|resources| resources.limits.as_ref()), name) {
        return Some(millis(Some(whole)) + overhead);
    }
    let mut all = init_containers(pod).iter().chain(regular_containers(pod));
    all.all(|container| limit(container, name).is_some()).then(|| sum(pod, |container| millis(limit(container, name))) + overhead)
}

fn sum(pod: &Pod, value: impl Fn(&Container) -> i64) -> i64 {
    let main: i64 = regular_containers(pod).iter().map(&value).sum();
    let (mut sidecars, mut peak) = (0, 0);
    for container in init_containers(pod) {
        if is_sidecar(container) {
            sidecars += value(container);
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars + value(container));
        }
    }
    (main + sidecars).max(peak)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(containers: Value) -> Pod {
        serde_json::from_value(json!({"spec": {"containers": containers}})).unwrap()
    }

    #[test]
    fn qos_classes() {
        let check = |containers: Value, expected: &str| assert_eq!(qos(&pod(containers.clone())), expected, "{containers}");
        let full = json!({"cpu": "1", "memory": "1Gi"});
        check(json!([{"name": "a"}]), "BestEffort");
        check(json!([{"name": "a", "resources": {"limits": full}}]), "Guaranteed");
        check(json!([{"name": "a", "resources": {"limits": full, "requests": full}}]), "Guaranteed");
        check(json!([{"name": "a", "resources": {"limits": full, "requests": {"cpu": "500m"}}}]), "Burstable");
        check(json!([{"name": "a", "resources": {"limits": full}}, {"name": "b"}]), "Burstable");
    }

    #[test]
    fn cpu_values() {
        assert_eq!((cpu_shares(0), cpu_shares(500), cpu_shares(1)), (2, 512, 2));
        assert_eq!((cpu_quota(0), cpu_quota(500), cpu_quota(1)), (0, 50_000, 1000));
    }

    #[test]
    fn oom_scores() {
        let check = |resources: Value, expected: i64| {
            let pod = pod(json!([{"name": "a", "resources": resources}]));
            assert_eq!(oom_score_adj(&pod, &regular_containers(&pod)[0], 4_000_000_000), expected);
        };
        check(json!({}), 1000);
        check(json!({"limits": {"cpu": "1", "memory": "1Gi"}}), -997);
        check(json!({"requests": {"memory": "2G"}}), 500);
        check(json!({"requests": {"cpu": "1"}}), 999);
    }

    #[test]
    fn pod_requests_count_sidecars_and_init_peaks() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "initContainers": [
                {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
                {"name": "i", "resources": {"requests": {"cpu": "2"}}}],
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}]}}))
        .unwrap();
        assert_eq!(pod_request_milli(&pod, "cpu"), 2100);
    }
}
