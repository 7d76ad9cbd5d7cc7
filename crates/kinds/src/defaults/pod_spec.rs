//! Defaults of a pod's spec, in a Pod or in a template.

use std::collections::BTreeMap;

use api::core::v1::{Container, PodSpec};
use api::{Quantity, quantity};

use super::{containers, resource_list, set, set_text, volumes};

/// What Pods and templates have in common.
pub fn pod_spec(spec: &mut PodSpec) {
    set_text(&mut spec.dns_policy, "ClusterFirst");
    set_text(&mut spec.restart_policy, "Always");
    set_text(&mut spec.scheduler_name, "default-scheduler");
    set(&mut spec.termination_grace_period_seconds, 30);
    spec.security_context.get_or_insert_default();
    service_account(spec);
    if spec.host_network == Some(true) {
        host_ports(&mut spec.containers);
        host_ports(spec.init_containers.as_deref_mut().unwrap_or_default());
    }
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        containers::container(container);
    }
    for container in spec.ephemeral_containers.iter_mut().flatten() {
        containers::ephemeral(container);
    }
    for volume in spec.volumes.iter_mut().flatten() {
        volumes::volume(volume);
    }
    resource_list(&mut spec.overhead);
    if let Some(resources) = &mut spec.resources {
        resource_list(&mut resources.limits);
        resource_list(&mut resources.requests);
    }
}

/// What only Pods get: what is not set here follows the node or the namespace at creation.
pub fn pod(spec: &mut PodSpec) {
    set(&mut spec.enable_service_links, true);
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        if let Some(resources) = &mut container.resources {
            requests_from_limits(resources.limits.as_ref(), &mut resources.requests);
        }
    }
    pod_requests(spec);
}

/// The old name of the field and the new one always say the same (pkg/apis/core/v1/conversion.go).
fn service_account(spec: &mut PodSpec) {
    let name = spec.service_account_name.as_deref().filter(|name| !name.is_empty());
    match (name, spec.service_account.as_deref()) {
        (Some(name), _) => spec.service_account = Some(name.to_owned()),
        (None, Some(old)) if !old.is_empty() => spec.service_account_name = Some(old.to_owned()),
        _ => {}
    }
}

/// On the host's network a port of the container is one of the host.
fn host_ports(containers: &mut [Container]) {
    for port in containers.iter_mut().flat_map(|container| container.ports.iter_mut().flatten()) {
        if port.host_port.unwrap_or(0) == 0 {
            port.host_port = Some(port.container_port);
        }
    }
}

type ResourceList = BTreeMap<String, Quantity>;

fn requests_from_limits(limits: Option<&ResourceList>, requests: &mut Option<ResourceList>) {
    let Some(limits) = limits.filter(|limits| !limits.is_empty()) else { return };
    let requests = requests.get_or_insert_default();
    for (name, limit) in limits {
        if !requests.contains_key(name) {
            requests.insert(name.clone(), limit.clone());
        }
    }
}

/// Requests of the pod as a whole, where it has limits: those of its containers together, else the limit (KEP-2837).
fn pod_requests(spec: &mut PodSpec) {
    let Some(limits) = spec.resources.as_ref().and_then(|resources| resources.limits.clone()) else { return };
    let sum = |name: &str| -> Option<quantity::Amount> {
        let requests = spec.containers.iter().filter_map(|container| container.resources.as_ref()?.requests.as_ref()?.get(name));
        let amounts: Vec<_> = requests.filter_map(|amount| quantity::parse(&amount.0).ok()).collect();
        if amounts.is_empty() { None } else { Some(amounts.into_iter().sum()) }
    };
    let defaults: ResourceList =
        limits.iter().map(|(name, limit)| (name.clone(), sum(name).map_or_else(|| limit.clone(), |amount| amount.to_quantity()))).collect();
    if let Some(resources) = &mut spec.resources {
        let requests = resources.requests.get_or_insert_default();
        for (name, amount) in defaults {
            requests.entry(name).or_insert(amount);
        }
    }
}
