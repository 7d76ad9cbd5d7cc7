//! Which pods a Service selects, at which ports, and which of them receive traffic. Shared by Endpoints and EndpointSlices. Pure.

use api::IntOrString;
use api::core::v1::{ObjectReference, Pod, Service, ServicePort};
use api::selector::Selector;

use super::pods;

pub const HEADLESS: &str = "service.kubernetes.io/headless";

/// The selector, if the Service has one that a controller follows.
pub fn selector(service: &Service) -> Option<Selector> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    spec.selector.as_ref().map(Selector::from_map)
}

pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

pub fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false)
}

/// The number behind a Service's target port; a name is looked up in the pod's containers (`FindPort` in pkg/api/v1/pod).
pub fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match port.target_port.as_ref() {
        None | Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let protocol = |text: Option<&str>| text.unwrap_or("TCP").to_owned();
    let sidecars = spec.init_containers.iter().flatten().filter(|container| container.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .find(|found| found.name.as_ref() == Some(name) && protocol(found.protocol.as_deref()) == protocol(port.protocol.as_deref()))
        .map(|found| found.container_port)
}

/// The pod's addresses of one family.
pub fn addresses(pod: &Pod, v6: bool) -> Vec<String> {
    let status = pod.status.as_ref();
    let listed = status.and_then(|status| status.pod_ips.as_deref()).unwrap_or_default().iter().map(|ip| ip.ip.as_str());
    let mut all: Vec<&str> = listed.filter(|ip| !ip.is_empty()).collect();
    if all.is_empty() {
        all.extend(status.and_then(|status| status.pod_ip.as_deref()).filter(|ip| !ip.is_empty()));
    }
    all.into_iter().filter(|ip| ip.contains(':') == v6).map(str::to_owned).collect()
}

/// Whether a pod can be an endpoint at all.
pub fn is_candidate(pod: &Pod, with_terminating: bool) -> bool {
    !pods::is_finished(pod) && (with_terminating || !pods::is_terminating(pod))
}

/// The name under the headless Service that the pod asked for.
pub fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let same = spec.subdomain.is_some() && spec.subdomain == service.metadata.name && pod.metadata.namespace == service.metadata.namespace;
    spec.hostname.clone().filter(|name| same && !name.is_empty())
}

pub fn target_ref(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// When the newest cause of a change happened, for the annotation `endpoints.kubernetes.io/last-change-trigger-time`.
pub fn trigger_time(service: &Service, all: &[std::sync::Arc<Pod>]) -> Option<String> {
    let readiness = all.iter().filter_map(|pod| pods::condition(pod, "Ready")?.last_transition_time.as_ref());
    readiness.chain(service.metadata.creation_timestamp.as_ref()).map(|time| time.0).max().map(|time| time.to_string())
}
