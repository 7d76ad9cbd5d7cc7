//! LimitRanger: defaults and bounds of resources per container, pod and claim in a namespace (plugin/pkg/admission/limitranger).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::core::v1::{Container, LimitRange, LimitRangeItem, PersistentVolumeClaim, Pod, PodSpec, ResourceRequirements};
use api::quantity::{Amount, parse};
use api::{Quantity, StatusError};
use async_trait::async_trait;

use super::{AdmissionRequest, Operation, Plugin, forbid};
use crate::Objects;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

pub struct LimitRanger {
    objects: Objects,
}

type List = BTreeMap<String, Quantity>;

impl LimitRanger {
    pub fn new(objects: Objects) -> Self {
        Self { objects }
    }

    fn items(&self, namespace: &str) -> Vec<LimitRangeItem> {
        let ranges: Vec<Arc<LimitRange>> = self.objects.list(Some(namespace));
        ranges.iter().filter_map(|range| range.spec.as_ref()).flat_map(|spec| spec.limits.iter().cloned()).collect()
    }
}

/// Amounts of a resource list; what is no quantity is for validation to report.
fn amount(list: Option<&List>, name: &str) -> Option<Amount> {
    parse(&list?.get(name)?.0).ok()
}

/// Fills what the pod's containers leave out and notes it in the annotation.
fn default_pod(pod: &mut Pod, items: &[LimitRangeItem]) {
    let (mut limits, mut requests) = (List::new(), List::new());
    for item in items.iter().filter(|item| item.type_ == "Container") {
        limits.extend(item.default.clone().unwrap_or_default());
        requests.extend(item.default_request.clone().unwrap_or_default());
    }
    let Some(spec) = &mut pod.spec else { return };
    let mut notes = Vec::new();
    for container in &mut spec.containers {
        default_container(container, &limits, &requests, "container", &mut notes);
    }
    for container in spec.init_containers.iter_mut().flatten() {
        default_container(container, &limits, &requests, "init container", &mut notes);
    }
    if !notes.is_empty() {
        let text = format!("LimitRanger plugin set: {}", notes.join("; "));
        pod.metadata.annotations.get_or_insert_default().insert(ANNOTATION.into(), text);
    }
}

fn default_container(container: &mut Container, limits: &List, requests: &List, what: &str, notes: &mut Vec<String>) {
    if limits.is_empty() && requests.is_empty() {
        return;
    }
    let resources = container.resources.get_or_insert_default();
    let fill = |own: &mut Option<List>, defaults: &List| -> Vec<String> {
        let missing: Vec<_> = defaults.iter().filter(|(name, _)| !own.as_ref().is_some_and(|o| o.contains_key(*name))).collect();
        missing
            .into_iter()
            .map(|(name, value)| {
                own.get_or_insert_default().insert(name.clone(), value.clone());
                name.clone()
            })
            .collect()
    };
    let (limited, requested) = (fill(&mut resources.limits, limits), fill(&mut resources.requests, requests));
    for (set, kind) in [(requested, "request"), (limited, "limit")] {
        if !set.is_empty() {
            notes.push(format!("{} {kind} for {what} {}", set.join(", "), container.name));
        }
    }
}

/// What one thing (a container, a pod) breaks of an item's bounds.
fn bounds(item: &LimitRangeItem, limits: Option<&List>, requests: Option<&List>, errors: &mut Vec<String>) {
    let kind = &item.type_;
    let pairs = |list: &Option<List>| list.clone().unwrap_or_default().into_iter().filter_map(|(n, q)| parse(&q.0).ok().map(|a| (n, q, a)));
    for (name, shown, min) in pairs(&item.min) {
        let (request, limit) = (amount(requests, &name), amount(limits, &name));
        let shown = &shown.0;
        match (request, limit) {
            (None, _) => errors.push(format!("minimum {name} usage per {kind} is {shown}.  No request is specified")),
            (Some(own), _) if own < min => errors.push(format!("minimum {name} usage per {kind} is {shown}, but request is {own}")),
            (_, Some(own)) if own < min => errors.push(format!("minimum {name} usage per {kind} is {shown}, but limit is {own}")),
            _ => {}
        }
    }
    for (name, shown, max) in pairs(&item.max) {
        let (request, limit) = (amount(requests, &name), amount(limits, &name));
        let shown = &shown.0;
        match (request, limit) {
            (_, None) => errors.push(format!("maximum {name} usage per {kind} is {shown}.  No limit is specified")),
            (_, Some(own)) if own > max => errors.push(format!("maximum {name} usage per {kind} is {shown}, but limit is {own}")),
            (Some(own), _) if own > max => errors.push(format!("maximum {name} usage per {kind} is {shown}, but request is {own}")),
            _ => {}
        }
    }
    for (name, shown, ratio) in pairs(&item.max_limit_request_ratio) {
        let start = format!("{name} max limit to request ratio per {kind} is {}", shown.0);
        match (amount(requests, &name).filter(|a| !a.is_zero()), amount(limits, &name).filter(|a| !a.is_zero())) {
            (None, _) => errors.push(format!("{start}, but no request is specified or request is 0")),
            (_, None) => errors.push(format!("{start}, but no limit is specified or limit is 0")),
            (Some(request), Some(limit)) => {
                let own = limit.as_f64() / request.as_f64();
                if own > ratio.as_f64() {
                    errors.push(format!("{start}, but provided ratio is {own:.6}"));
                }
            }
        }
    }
}

/// What the pod as a whole asks for.
fn total(spec: &PodSpec, of: fn(&ResourceRequirements) -> Option<&List>) -> List {
    api::quota::pod_total(spec, of).into_iter().map(|(name, amount)| (name, amount.to_quantity())).collect()
}

fn check_pod(pod: &Pod, items: &[LimitRangeItem]) -> Vec<String> {
    let mut errors = Vec::new();
    let Some(spec) = &pod.spec else { return errors };
    for item in items {
        match item.type_.as_str() {
            "Container" => {
                for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
                    let resources = container.resources.as_ref();
                    let (limits, requests) = (resources.and_then(|r| r.limits.as_ref()), resources.and_then(|r| r.requests.as_ref()));
                    bounds(item, limits, requests, &mut errors);
                }
            }
            "Pod" => {
                let (limits, requests) = (total(spec, |r| r.limits.as_ref()), total(spec, |r| r.requests.as_ref()));
                bounds(item, Some(&limits), Some(&requests), &mut errors);
            }
            _ => {}
        }
    }
    errors
}

fn check_claim(claim: &PersistentVolumeClaim, items: &[LimitRangeItem]) -> Vec<String> {
    let requests = claim.spec.as_ref().and_then(|s| s.resources.as_ref()).and_then(|r| r.requests.as_ref());
    let mut errors = Vec::new();
    for item in items.iter().filter(|item| item.type_ == "PersistentVolumeClaim") {
        // A claim has requests only, so they stand for limits too.
        let max = LimitRangeItem { min: None, max_limit_request_ratio: None, ..item.clone() };
        let min = LimitRangeItem { max: None, max_limit_request_ratio: None, ..item.clone() };
        bounds(&min, None, requests, &mut errors);
        let mut over = Vec::new();
        bounds(&max, requests, requests, &mut over);
        errors.extend(
            over.into_iter().map(|e| e.replace("No limit is specified", "No request is specified").replace("limit is", "request is")),
        );
    }
    errors
}

fn refuse(request: &AdmissionRequest<'_>, errors: Vec<String>) -> Result<(), StatusError> {
    let unique: BTreeSet<String> = errors.iter().cloned().collect();
    match errors.as_slice() {
        [] => Ok(()),
        _ if unique.len() == 1 => Err(forbid(request, errors[0].clone())),
        _ => {
            let mut seen = BTreeSet::new();
            let ordered: Vec<String> = errors.into_iter().filter(|e| seen.insert(e.clone())).collect();
            Err(forbid(request, format!("[{}]", ordered.join(", "))))
        }
    }
}

#[async_trait]
impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        if request.operation == Operation::Create && request.is("", "pods") {
            let items = self.items(request.namespace);
            if let Some(pod) = request.get_mut::<Pod>().filter(|_| !items.is_empty()) {
                default_pod(pod, &items);
            }
        }
        Ok(())
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        let is_pod = request.info.group.is_empty() && request.info.resource == "pods";
        let is_new = request.operation == Operation::Create && request.subresource.is_empty();
        if is_pod && (is_new || (request.operation == Operation::Update && request.subresource == "resize")) {
            let items = self.items(request.namespace);
            let errors = request.get::<Pod>().map(|pod| check_pod(pod, &items)).unwrap_or_default();
            return refuse(request, errors);
        }
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if writes && request.is("", "persistentvolumeclaims") {
            let items = self.items(request.namespace);
            let errors = request.get::<PersistentVolumeClaim>().map(|claim| check_claim(claim, &items)).unwrap_or_default();
            return refuse(request, errors);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(containers: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({"spec": {"containers": containers}})).unwrap()
    }

    fn item(value: serde_json::Value) -> LimitRangeItem {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn defaults_fill_gaps_only() {
        let items =
            [item(serde_json::json!({"type": "Container", "default": {"cpu": "1", "memory": "1Gi"}, "defaultRequest": {"cpu": "100m"}}))];
        let mut pod = pod(serde_json::json!([{"name": "a", "resources": {"limits": {"memory": "2Gi"}}}]));
        default_pod(&mut pod, &items);
        let value = serde_json::to_value(&pod).unwrap();
        let resources = serde_json::json!({"limits": {"cpu": "1", "memory": "2Gi"}, "requests": {"cpu": "100m"}});
        assert_eq!(value["spec"]["containers"][0]["resources"], resources);
        let note = "LimitRanger plugin set: cpu request for container a; cpu limit for container a";
        assert_eq!(value["metadata"]["annotations"][ANNOTATION], note);
    }

    #[test]
    fn bounds_are_upstreams() {
        let check = |limits: serde_json::Value, own: serde_json::Value, expected: &[&str]| {
            let pod = pod(serde_json::json!([{"name": "a", "resources": own}]));
            assert_eq!(check_pod(&pod, &[item(limits)]), expected);
        };
        check(
            serde_json::json!({"type": "Container", "max": {"memory": "1Gi"}}),
            serde_json::json!({"limits": {"memory": "2Gi"}}),
            &["maximum memory usage per Container is 1Gi, but limit is 2Gi"],
        );
        check(
            serde_json::json!({"type": "Container", "min": {"cpu": "100m"}}),
            serde_json::json!({"requests": {"cpu": "50m"}}),
            &["minimum cpu usage per Container is 100m, but request is 50m"],
        );
        check(
            serde_json::json!({"type": "Pod", "max": {"cpu": "1"}}),
            serde_json::json!({}),
            &["maximum cpu usage per Pod is 1.  No limit is specified"],
        );
        check(
            serde_json::json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}}),
            serde_json::json!({"limits": {"cpu": "3"}, "requests": {"cpu": "1"}}),
            &["cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000"],
        );
    }
}
