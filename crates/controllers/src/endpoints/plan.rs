//! The Endpoints object of a Service (pkg/controller/endpoint/endpoints_controller.go, pkg/api/v1/endpoints). Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use api::meta::v1::ObjectMeta;

use crate::common::{pods, services};

pub const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Addresses in one object; more are dropped, the unready first.
const CAPACITY: usize = 1000;

/// What to write, if anything. `current` is what is there.
pub fn plan(service: &Service, pods: &[Arc<Pod>], current: Option<&Endpoints>) -> Option<Endpoints> {
    let mut subsets = subsets(service, pods);
    let truncated = truncate(&mut subsets);
    let mut new = current.cloned().unwrap_or_else(|| Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        subsets: None,
    });
    new.subsets = (!subsets.is_empty()).then_some(subsets);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(services::HEADLESS);
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    if services::is_headless(service) {
        labels.insert(services::HEADLESS.into(), String::new());
    }
    new.metadata.labels = Some(labels);
    let annotations = new.metadata.annotations.get_or_insert_default();
    if truncated {
        annotations.insert(OVER_CAPACITY.into(), "truncated".into());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    if current.is_some_and(|current| is_same(current, &new)) {
        return None;
    }
    if let Some(time) = services::trigger_time(service, pods) {
        new.metadata.annotations.get_or_insert_default().insert(TRIGGER_TIME.into(), time);
    }
    Some(new)
}

fn is_same(old: &Endpoints, new: &Endpoints) -> bool {
    let truncated = |endpoints: &Endpoints| endpoints.metadata.annotations.as_ref().and_then(|all| all.get(OVER_CAPACITY).cloned());
    let empty = BTreeMap::new();
    old.subsets.as_deref().unwrap_or_default() == new.subsets.as_deref().unwrap_or_default()
        && old.metadata.labels.as_ref().unwrap_or(&empty) == new.metadata.labels.as_ref().unwrap_or(&empty)
        && truncated(old) == truncated(new)
}

/// Addresses with the same ports share a subset; an address has all its ports in one.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let publish = services::publishes_not_ready(service);
    let v6 = service.spec.as_ref().and_then(|spec| spec.ip_families.as_ref()?.first()).is_some_and(|family| family == "IPv6");
    let mut groups: BTreeMap<String, EndpointSubset> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| services::is_candidate(pod, publish)) {
        let Some(ip) = services::addresses(pod, v6).into_iter().next() else { continue };
        let ports = ports(service, pod);
        if ports.is_empty() && !services::is_headless(service) {
            continue;
        }
        let key = ports.iter().map(|port| format!("{:05} {:?} {:?}", port.port, port.protocol, port.name)).collect::<Vec<_>>().join("\n");
        let group = groups
            .entry(key)
            .or_insert_with(|| EndpointSubset { ports: (!ports.is_empty()).then_some(ports), ..EndpointSubset::default() });
        let address = EndpointAddress {
            ip,
            hostname: services::hostname(service, pod),
            node_name: pods::node_name(pod).map(str::to_owned),
            target_ref: Some(services::target_ref(pod)),
        };
        let ready = publish || pods::is_ready(pod);
        let list = if ready { &mut group.addresses } else { &mut group.not_ready_addresses };
        list.get_or_insert_default().push(address);
    }
    let mut subsets: Vec<EndpointSubset> = groups.into_values().collect();
    for subset in &mut subsets {
        let order = |address: &EndpointAddress| (address.ip.clone(), address.target_ref.as_ref().and_then(|target| target.uid.clone()));
        subset.addresses.iter_mut().for_each(|list| list.sort_by_cached_key(order));
        subset.not_ready_addresses.iter_mut().for_each(|list| list.sort_by_cached_key(order));
    }
    subsets
}

fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let port = |port: &api::core::v1::ServicePort| {
        Some(EndpointPort {
            name: port.name.clone().filter(|name| !name.is_empty()),
            port: services::target_port(pod, port)?,
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
            app_protocol: port.app_protocol.clone(),
        })
    };
    let mut ports: Vec<EndpointPort> = ports.iter().filter_map(port).collect();
    ports.sort_by(|left, right| (left.port, &left.protocol, &left.name).cmp(&(right.port, &right.protocol, &right.name)));
    ports
}

fn truncate(subsets: &mut [EndpointSubset]) -> bool {
    let mut room = CAPACITY;
    let mut truncated = false;
    let mut cut = |list: &mut Option<Vec<EndpointAddress>>| {
        let Some(addresses) = list else { return };
        truncated |= addresses.len() > room;
        addresses.truncate(room);
        room -= addresses.len();
        list.take_if(|addresses| addresses.is_empty());
    };
    subsets.iter_mut().for_each(|subset| cut(&mut subset.addresses));
    subsets.iter_mut().for_each(|subset| cut(&mut subset.not_ready_addresses));
    truncated
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(spec: Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "ns"}, "spec": spec})).expect("a service")
    }

    fn pod(name: &str, ip: &str, ready: bool, deleted: bool) -> Arc<Pod> {
        let deleted = deleted.then_some("2026-01-01T00:00:00Z");
        let pod = json!({"metadata": {"name": name, "namespace": "ns", "uid": name, "deletionTimestamp": deleted}, "spec": {"containers": []},
            "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}});
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    fn check(spec: Value, expected: Value) {
        let pods = [
            pod("b", "10.0.0.2", true, false),
            pod("a", "10.0.0.1", true, false),
            pod("c", "10.0.0.3", false, false),
            pod("d", "10.0.0.4", true, true),
        ];
        let endpoints = plan(&service(spec), &pods, None).expect("written");
        let ips = |list: &Option<Vec<EndpointAddress>>| list.iter().flatten().map(|address| address.ip.clone()).collect::<Vec<_>>();
        let subsets: Vec<Value> = endpoints
            .subsets
            .iter()
            .flatten()
            .map(|subset| {
                json!([
                    ips(&subset.addresses),
                    ips(&subset.not_ready_addresses),
                    subset.ports.iter().flatten().map(|port| port.port).collect::<Vec<_>>()
                ])
            })
            .collect();
        assert_eq!(json!(subsets), expected);
    }

    #[test]
    fn subsets_by_ports() {
        check(
            json!({"clusterIP": "10.9.0.1", "ports": [{"port": 80, "targetPort": 8080}]}),
            json!([[["10.0.0.1", "10.0.0.2"], ["10.0.0.3"], [8080]]]),
        );
        check(json!({"clusterIP": "None"}), json!([[["10.0.0.1", "10.0.0.2"], ["10.0.0.3"], []]]));
        check(json!({"clusterIP": "10.9.0.1"}), json!([]));
        check(
            json!({"clusterIP": "None", "publishNotReadyAddresses": true, "ports": [{"port": 80}]}),
            json!([[["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"], [], [80]]]),
        );
    }

    #[test]
    fn nothing_to_do_writes_nothing() {
        let service = service(json!({"clusterIP": "10.9.0.1", "ports": [{"port": 80}]}));
        let pods = [pod("a", "10.0.0.1", true, false)];
        let endpoints = plan(&service, &pods, None).expect("written");
        assert_eq!(plan(&service, &pods, Some(&endpoints)), None);
    }
}
