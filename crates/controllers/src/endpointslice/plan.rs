//! The EndpointSlices that a Service needs, reached from those that are there with few changes (staging/src/k8s.io/endpointslice/reconciler.go). Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::core::v1::{Node, Pod, Service};
use api::discovery::v1::{Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone};
use api::meta::v1::ObjectMeta;

use crate::common::{pods, services};

pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
const ZONE: &str = "topology.kubernetes.io/zone";

pub struct Snapshot {
    pub service: Arc<Service>,
    /// The pods that the Service selects.
    pub pods: Vec<Arc<Pod>>,
    pub nodes: HashMap<String, Arc<Node>>,
    /// The Service's slices that this controller manages.
    pub slices: Vec<Arc<EndpointSlice>>,
    pub max_per_slice: usize,
}

#[derive(Debug, Default)]
pub struct Plan {
    pub create: Vec<EndpointSlice>,
    pub update: Vec<EndpointSlice>,
    pub delete: Vec<Arc<EndpointSlice>>,
}

pub fn plan(snapshot: &Snapshot) -> Plan {
    let families = snapshot.service.spec.as_ref().and_then(|spec| spec.ip_families.clone()).filter(|families| !families.is_empty());
    let families = families.unwrap_or_else(|| vec!["IPv4".into()]);
    let mut plan = Plan::default();
    for slice in snapshot.slices.iter().filter(|slice| !families.contains(&slice.address_type)) {
        plan.delete.push(slice.clone());
    }
    for family in &families {
        plan_family(snapshot, family, &mut plan);
    }
    plan
}

type Ports = Vec<EndpointPort>;

fn plan_family(snapshot: &Snapshot, family: &str, plan: &mut Plan) {
    let mut wanted: BTreeMap<String, (Ports, Vec<Endpoint>)> = BTreeMap::new();
    for pod in &snapshot.pods {
        let addresses = services::addresses(pod, family == "IPv6");
        if addresses.is_empty() || !services::is_candidate(pod, true) {
            continue;
        }
        let ports = ports(&snapshot.service, pod);
        let group = wanted.entry(ports_key(&ports)).or_insert_with(|| (ports, Vec::new()));
        group.1.push(endpoint(snapshot, pod, addresses));
    }
    let mut existing: HashMap<String, Vec<&Arc<EndpointSlice>>> = HashMap::new();
    for slice in snapshot.slices.iter().filter(|slice| slice.address_type == family && slice.metadata.deletion_timestamp.is_none()) {
        existing.entry(ports_key(slice.ports.as_deref().unwrap_or_default())).or_default().push(slice);
    }
    if wanted.is_empty() {
        // An empty slice says that the Service is known and has no endpoints.
        wanted.insert(ports_key(&[]), (Vec::new(), Vec::new()));
    }
    for (key, (ports, endpoints)) in wanted {
        fill(snapshot, family, &ports, endpoints, existing.remove(&key).unwrap_or_default(), plan);
    }
    plan.delete.extend(existing.into_values().flatten().cloned());
}

/// Endpoints stay in the slices where they are; new ones go to slices that change anyway, then to one with room for all, then to new ones.
fn fill(
    snapshot: &Snapshot,
    family: &str,
    ports: &[EndpointPort],
    endpoints: Vec<Endpoint>,
    slices: Vec<&Arc<EndpointSlice>>,
    plan: &mut Plan,
) {
    let max = snapshot.max_per_slice.max(1);
    let placeholder = endpoints.is_empty();
    let mut wanted: HashMap<(Option<String>, Vec<String>), Endpoint> =
        endpoints.into_iter().map(|endpoint| (identity(&endpoint), endpoint)).collect();
    // For each slice: what stays, and whether that is a change.
    let mut kept: Vec<(&Arc<EndpointSlice>, Vec<Endpoint>, bool)> = Vec::new();
    for slice in slices {
        let old = slice.endpoints.as_deref().unwrap_or_default();
        let stay: Vec<Endpoint> = old.iter().filter_map(|endpoint| wanted.remove(&identity(endpoint))).collect();
        let changed = stay.len() != old.len() || stay.iter().zip(old).any(|(new, old)| new != old);
        kept.push((slice, stay, changed));
    }
    let mut left: Vec<Endpoint> = wanted.into_values().collect();
    left.sort_by_cached_key(identity);
    // Slices that change anyway, the fullest first.
    kept.sort_by_key(|(slice, stay, _)| (usize::MAX - stay.len(), slice.metadata.name.clone()));
    for (_, stay, _) in kept.iter_mut().filter(|(_, _, changed)| *changed) {
        stay.extend(left.drain(..left.len().min(max.saturating_sub(stay.len()))));
    }
    if !left.is_empty()
        && left.len() < max
        && let Some((_, stay, changed)) = kept.iter_mut().find(|(_, stay, changed)| !*changed && stay.len() + left.len() <= max)
    {
        stay.append(&mut left);
        *changed = true;
    }
    let mut placed = 0;
    for (slice, stay, changed) in kept {
        if stay.is_empty() && !(placeholder && placed == 0) {
            plan.delete.push(slice.clone());
            continue;
        }
        placed += 1;
        let metadata = metadata(snapshot, Some(&slice.metadata));
        if changed || !same_metadata(&metadata, &slice.metadata) {
            plan.update.push(EndpointSlice { metadata, endpoints: Some(stay), ..EndpointSlice::clone(slice) });
        }
    }
    let mut left = left.into_iter().peekable();
    while left.peek().is_some() || (placeholder && placed == 0) {
        placed += 1;
        plan.create.push(EndpointSlice {
            metadata: metadata(snapshot, None),
            address_type: family.to_owned(),
            endpoints: Some(left.by_ref().take(max).collect()),
            ports: Some(ports.to_vec()),
        });
    }
}

fn identity(endpoint: &Endpoint) -> (Option<String>, Vec<String>) {
    (endpoint.target_ref.as_ref().and_then(|target| target.uid.clone()), endpoint.addresses.clone())
}

fn ports(service: &Service, pod: &Pod) -> Ports {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let port = |port: &api::core::v1::ServicePort| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(services::target_port(pod, port)?),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
            app_protocol: port.app_protocol.clone(),
        })
    };
    ports.iter().filter_map(port).collect()
}

fn ports_key(ports: &[EndpointPort]) -> String {
    let mut keys: Vec<String> =
        ports.iter().map(|port| format!("{:?} {:?} {:?} {:?}", port.name, port.protocol, port.port, port.app_protocol)).collect();
    keys.sort_unstable();
    keys.join("\n")
}

fn endpoint(snapshot: &Snapshot, pod: &Pod, addresses: Vec<String>) -> Endpoint {
    let serving = pods::is_ready(pod);
    let terminating = pods::is_terminating(pod);
    let ready = services::publishes_not_ready(&snapshot.service) || (serving && !terminating);
    let node_name = pods::node_name(pod).map(str::to_owned);
    let node = node_name.as_ref().and_then(|name| snapshot.nodes.get(name));
    let zone = node.and_then(|node| node.metadata.labels.as_ref()?.get(ZONE).cloned());
    Endpoint {
        addresses,
        conditions: Some(EndpointConditions { ready: Some(ready), serving: Some(serving), terminating: Some(terminating) }),
        hints: hints(&snapshot.service, ready, zone.as_deref(), node_name.as_deref()),
        hostname: services::hostname(&snapshot.service, pod),
        node_name,
        target_ref: Some(services::target_ref(pod)),
        zone,
        deprecated_topology: None,
    }
}

/// Who should use this endpoint, when the Service prefers near ones (KEP-4444, KEP-3015).
fn hints(service: &Service, ready: bool, zone: Option<&str>, node: Option<&str>) -> Option<EndpointHints> {
    let preference = service.spec.as_ref()?.traffic_distribution.as_deref()?;
    let for_zones = zone.map(|zone| vec![ForZone { name: zone.to_owned() }]);
    let for_nodes = node.filter(|_| preference == "PreferSameNode").map(|node| vec![ForNode { name: node.to_owned() }]);
    let known = matches!(preference, "PreferClose" | "PreferSameZone" | "PreferSameNode");
    (known && ready && (for_zones.is_some() || for_nodes.is_some())).then_some(EndpointHints { for_nodes, for_zones })
}

/// Labels of the Service plus the controller's own; what others put on an existing slice stays.
fn metadata(snapshot: &Snapshot, existing: Option<&ObjectMeta>) -> ObjectMeta {
    let service = &snapshot.service;
    let name = service.metadata.name.clone().unwrap_or_default();
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(services::HEADLESS);
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels.insert(SERVICE_NAME.into(), name.clone());
    if services::is_headless(service) {
        labels.insert(services::HEADLESS.into(), String::new());
    }
    let mut metadata = existing.cloned().unwrap_or_else(|| ObjectMeta {
        generate_name: Some(format!("{name}-")),
        namespace: service.metadata.namespace.clone(),
        owner_references: Some(vec![client::owner_reference(&**service)]),
        ..ObjectMeta::default()
    });
    metadata.labels = Some(labels);
    if let Some(time) = services::trigger_time(service, &snapshot.pods) {
        metadata.annotations.get_or_insert_default().insert(TRIGGER_TIME.into(), time);
    }
    metadata
}

/// The trigger time alone is no reason for a write.
fn same_metadata(new: &ObjectMeta, old: &ObjectMeta) -> bool {
    new.labels.as_ref().unwrap_or(&BTreeMap::new()) == old.labels.as_ref().unwrap_or(&BTreeMap::new())
}
