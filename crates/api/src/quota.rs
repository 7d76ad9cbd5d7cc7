//! What objects count for in a ResourceQuota: for admission, which charges them, and for the controller, which sums them up. Pure.
//! Upstream: pkg/quota/v1/evaluator/core, staging/src/k8s.io/apiserver/pkg/quota/v1.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, PersistentVolumeClaim, Pod, PodAffinityTerm, PodSpec, ResourceQuotaSpec, ResourceRequirements,
    ScopedResourceSelectorRequirement, Service,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::quantity::{Amount, Format, parse};

/// Amounts by quota resource name: `pods`, `requests.cpu`, `count/deployments.apps`.
pub type Usage = BTreeMap<String, Amount>;

type List = BTreeMap<String, Quantity>;

fn one() -> Amount {
    Amount::from_int(1, Format::DecimalSi)
}

fn add(usage: &mut Usage, name: impl Into<String>, amount: Amount) {
    usage.entry(name.into()).and_modify(|sum| *sum += amount).or_insert(amount);
}

/// `count/pods`, `count/deployments.apps`; for some core resources their old plain name too.
pub fn count(group: &str, resource: &str) -> Usage {
    const PLAIN: &[&str] = &["configmaps", "replicationcontrollers", "resourcequotas", "secrets"];
    let mut usage = Usage::new();
    let qualified = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
    add(&mut usage, format!("count/{qualified}"), one());
    if group.is_empty() && PLAIN.contains(&resource) {
        add(&mut usage, resource, one());
    }
    usage
}

/// What a pod asks for: the sum of its containers and sidecars, or of one init container with the sidecars before it if that is more, and its
/// overhead.
pub fn pod_total(spec: &PodSpec, of: fn(&ResourceRequirements) -> Option<&List>) -> Usage {
    let amounts = |container: &Container| -> Usage {
        let list = container.resources.as_ref().and_then(of).into_iter().flatten();
        list.filter_map(|(name, quantity)| Some((name.clone(), parse(&quantity.0).ok()?))).collect()
    };
    let (mut running, mut sidecars, mut peak) = (Usage::new(), Usage::new(), Usage::new());
    for container in &spec.containers {
        amounts(container).into_iter().for_each(|(name, amount)| add(&mut running, name, amount));
    }
    for container in spec.init_containers.iter().flatten() {
        let own = amounts(container);
        if container.restart_policy.as_deref() == Some("Always") {
            own.into_iter().for_each(|(name, amount)| {
                add(&mut running, name.clone(), amount);
                add(&mut sidecars, name, amount);
            });
            continue;
        }
        for (name, amount) in own {
            let with_sidecars = sidecars.get(&name).map_or(amount, |sidecar| amount + *sidecar);
            peak.entry(name).and_modify(|most| *most = (*most).max(with_sidecars)).or_insert(with_sidecars);
        }
    }
    for (name, amount) in peak {
        running.entry(name).and_modify(|sum| *sum = (*sum).max(amount)).or_insert(amount);
    }
    for (name, quantity) in spec.overhead.iter().flatten() {
        if let Ok(amount) = parse(&quantity.0) {
            add(&mut running, name.clone(), amount);
        }
    }
    running
}

/// A pod that has ended counts as an object only.
pub fn pod(pod: &Pod) -> Usage {
    let mut usage = count("", "pods");
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    let Some(spec) = pod.spec.as_ref().filter(|_| !matches!(phase, Some("Succeeded" | "Failed"))) else { return usage };
    add(&mut usage, "pods", one());
    for (name, amount) in pod_total(spec, |r| r.requests.as_ref()) {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            usage.insert(name.clone(), amount);
        }
        usage.insert(format!("requests.{name}"), amount);
    }
    for (name, amount) in pod_total(spec, |r| r.limits.as_ref()) {
        usage.insert(format!("limits.{name}"), amount);
    }
    usage
}

pub fn service(service: &Service) -> Usage {
    let mut usage = count("", "services");
    add(&mut usage, "services", one());
    let Some(spec) = &service.spec else { return usage };
    let ports = i64::try_from(spec.ports.as_ref().map_or(0, Vec::len)).unwrap_or(i64::MAX);
    let node_ports = || Amount::from_int(ports, Format::DecimalSi);
    match spec.type_.as_deref() {
        Some("NodePort") => add(&mut usage, "services.nodeports", node_ports()),
        Some("LoadBalancer") => {
            add(&mut usage, "services.loadbalancers", one());
            let given = spec.ports.iter().flatten().filter(|p| p.node_port.is_some_and(|port| port != 0)).count();
            let given = i64::try_from(given).unwrap_or(i64::MAX);
            let counted = if spec.allocate_load_balancer_node_ports == Some(false) { given } else { ports };
            add(&mut usage, "services.nodeports", Amount::from_int(counted, Format::DecimalSi));
        }
        _ => {}
    }
    usage
}

pub fn claim(claim: &PersistentVolumeClaim) -> Usage {
    let mut usage = count("", "persistentvolumeclaims");
    add(&mut usage, "persistentvolumeclaims", one());
    let spec = claim.spec.as_ref();
    let legacy = claim.metadata.annotations.as_ref().and_then(|a| a.get("volume.beta.kubernetes.io/storage-class"));
    let class = legacy.or_else(|| spec?.storage_class_name.as_ref()).filter(|class| !class.is_empty());
    let storage = spec.and_then(|s| s.resources.as_ref()).and_then(|r| r.requests.as_ref()).and_then(|r| r.get("storage"));
    let storage = storage.and_then(|quantity| parse(&quantity.0).ok());
    if let Some(amount) = storage {
        add(&mut usage, "requests.storage", amount);
    }
    if let Some(class) = class {
        add(&mut usage, format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"), one());
        if let Some(amount) = storage {
            add(&mut usage, format!("{class}.storageclass.storage.k8s.io/requests.storage"), amount);
        }
    }
    usage
}

/// Whether the scopes of a quota, if it has any, choose the pod. Only pods are chosen by scopes.
pub fn chooses_pod(spec: &ResourceQuotaSpec, pod: &Pod) -> bool {
    let plain = spec.scopes.iter().flatten().map(|scope| (scope.as_str(), "Exists", &[][..]));
    let selected = spec.scope_selector.iter().flat_map(|s| s.match_expressions.iter().flatten());
    let selected = selected
        .map(|e: &ScopedResourceSelectorRequirement| (e.scope_name.as_str(), e.operator.as_str(), e.values.as_deref().unwrap_or_default()));
    plain.chain(selected).all(|(scope, operator, values)| in_scope(pod, scope, operator, values))
}

pub fn has_scopes(spec: &ResourceQuotaSpec) -> bool {
    spec.scopes.as_ref().is_some_and(|s| !s.is_empty())
        || spec.scope_selector.as_ref().and_then(|s| s.match_expressions.as_ref()).is_some_and(|e| !e.is_empty())
}

fn in_scope(pod: &Pod, scope: &str, operator: &str, values: &[String]) -> bool {
    let Some(spec) = &pod.spec else { return false };
    match scope {
        "Terminating" => spec.active_deadline_seconds.is_some_and(|seconds| seconds >= 0),
        "NotTerminating" => spec.active_deadline_seconds.is_none(),
        "BestEffort" => is_best_effort(spec),
        "NotBestEffort" => !is_best_effort(spec),
        "CrossNamespacePodAffinity" => crosses_namespaces(spec),
        "PriorityClass" => {
            let class = spec.priority_class_name.as_deref().filter(|class| !class.is_empty());
            match operator {
                "Exists" => class.is_some(),
                "DoesNotExist" => class.is_none(),
                "In" => class.is_some_and(|class| values.iter().any(|v| v == class)),
                "NotIn" => !class.is_some_and(|class| values.iter().any(|v| v == class)),
                _ => false,
            }
        }
        _ => false,
    }
}

fn is_best_effort(spec: &PodSpec) -> bool {
    let asks =
        |list: Option<&List>| list.is_some_and(|l| l.iter().any(|(name, q)| matches!(name.as_str(), "cpu" | "memory") && q.0 != "0"));
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    !containers.filter_map(|c| c.resources.as_ref()).any(|r| asks(r.requests.as_ref()) || asks(r.limits.as_ref()))
}

fn crosses_namespaces(spec: &PodSpec) -> bool {
    let crosses = |term: &PodAffinityTerm| term.namespaces.as_ref().is_some_and(|n| !n.is_empty()) || term.namespace_selector.is_some();
    let Some(affinity) = &spec.affinity else { return false };
    let with = affinity.pod_affinity.iter().flat_map(|a| {
        let preferred = a.preferred_during_scheduling_ignored_during_execution.iter().flatten().map(|w| &w.pod_affinity_term);
        a.required_during_scheduling_ignored_during_execution.iter().flatten().chain(preferred)
    });
    let without = affinity.pod_anti_affinity.iter().flat_map(|a| {
        let preferred = a.preferred_during_scheduling_ignored_during_execution.iter().flatten().map(|w| &w.pod_affinity_term);
        a.required_during_scheduling_ignored_during_execution.iter().flatten().chain(preferred)
    });
    with.chain(without).any(crosses)
}

/// Compute resources that a quota limits must be named by every container: which are not, `limits.cpu for: a,b; requests.memory for: c`.
pub fn unnamed(required: &[&str], spec: &PodSpec) -> Option<String> {
    let mut missing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in required {
        let (in_limits, resource) = match name.split_once('.') {
            Some(("limits", resource)) => (true, resource),
            Some(("requests", resource)) => (false, resource),
            _ => (false, *name),
        };
        if !matches!(resource, "cpu" | "memory" | "ephemeral-storage") {
            continue;
        }
        for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
            let resources = container.resources.as_ref();
            let list = resources.and_then(|r| if in_limits { r.limits.as_ref() } else { r.requests.as_ref() });
            if !list.is_some_and(|l| l.contains_key(resource)) {
                missing.entry(name).or_default().push(&container.name);
            }
        }
    }
    let text = missing.iter().map(|(name, containers)| format!("{name} for: {}", containers.join(","))).collect::<Vec<_>>().join("; ");
    (!text.is_empty()).then(|| format!("must specify {text}"))
}

/// `cpu=1,pods=2`, as messages show usage.
pub fn show<'a>(amounts: impl IntoIterator<Item = (&'a String, &'a Amount)>) -> String {
    amounts.into_iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_pod(value: serde_json::Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn pods_count_their_peak() {
        let container = |cpu: &str| serde_json::json!({"name": "c", "resources": {"requests": {"cpu": cpu}}});
        let check = |spec: serde_json::Value, expected: &str| {
            assert_eq!(show(&pod(&a_pod(spec))), expected);
        };
        check(serde_json::json!({"spec": {"containers": [container("1"), container("2")]}}), "count/pods=1,cpu=3,pods=1,requests.cpu=3");
        check(
            serde_json::json!({"spec": {"containers": [container("1")], "initContainers": [container("2")]}}),
            "count/pods=1,cpu=2,pods=1,requests.cpu=2",
        );
        check(serde_json::json!({"spec": {"containers": [container("1")]}, "status": {"phase": "Failed"}}), "count/pods=1");
    }

    #[test]
    fn services_and_claims() {
        let made: Service =
            serde_json::from_value(serde_json::json!({"spec": {"type": "NodePort", "ports": [{"port": 1}, {"port": 2}]}})).unwrap();
        assert_eq!(show(&service(&made)), "count/services=1,services=1,services.nodeports=2");
        let made: PersistentVolumeClaim = serde_json::from_value(serde_json::json!({
            "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}
        }))
        .unwrap();
        assert_eq!(
            show(&claim(&made)),
            "count/persistentvolumeclaims=1,fast.storageclass.storage.k8s.io/persistentvolumeclaims=1,fast.storageclass.storage.k8s.io/requests.storage=1Gi,persistentvolumeclaims=1,requests.storage=1Gi"
        );
        assert_eq!(show(&count("apps", "deployments")), "count/deployments.apps=1");
        assert_eq!(show(&count("", "secrets")), "count/secrets=1,secrets=1");
    }

    #[test]
    fn scopes_choose() {
        let check = |scope: serde_json::Value, pod: serde_json::Value, expected: bool| {
            let spec: ResourceQuotaSpec = serde_json::from_value(scope.clone()).unwrap();
            assert_eq!(chooses_pod(&spec, &a_pod(pod)), expected, "{scope}");
        };
        let plain = || serde_json::json!({"spec": {"containers": [{"name": "c"}]}});
        check(serde_json::json!({}), plain(), true);
        check(serde_json::json!({"scopes": ["BestEffort"]}), plain(), true);
        check(serde_json::json!({"scopes": ["Terminating"]}), plain(), false);
        let selector = serde_json::json!({"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}});
        check(selector.clone(), plain(), false);
        check(selector, serde_json::json!({"spec": {"priorityClassName": "high", "containers": []}}), true);
    }

    #[test]
    fn limited_resources_must_be_named() {
        let pod = a_pod(serde_json::json!({"spec": {"containers": [
            {"name": "a"}, {"name": "b", "resources": {"limits": {"cpu": "1"}}}]}}));
        let spec = pod.spec.unwrap();
        assert_eq!(
            unnamed(&["limits.cpu", "pods", "requests.memory"], &spec).unwrap(),
            "must specify limits.cpu for: a; requests.memory for: a,b"
        );
        assert_eq!(unnamed(&["pods"], &spec), None);
    }
}
