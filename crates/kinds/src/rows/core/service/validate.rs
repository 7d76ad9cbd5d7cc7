//! Rules on Services (pkg/apis/core/validation: ValidateService).

use api::core::v1::{Service, ServicePort, ServiceSpec};
use api::{FieldErrors, Path, names};

use super::{is_headless, needs_cluster_ip, needs_node_port};
use crate::rows::core::endpoints::endpoint_ip;
use crate::validation::{IMMUTABLE, each, each_int, metadata, one_of, optional_text, port as port_or_name, required, shown};

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

pub fn service(service: &Service, errors: &mut FieldErrors) {
    let none = ServiceSpec::default();
    let (path, spec) = (Path::new("spec"), service.spec.as_ref().unwrap_or(&none));
    by_type(errors, &path, spec);
    ports(errors, &path.child("ports"), spec);
    metadata::labels(spec.selector.as_ref(), &path.child("selector"), errors);
    affinity(errors, &path, spec);
    cluster_ips(errors, &path, spec);
    for (index, ip) in spec.external_ips.iter().flatten().enumerate() {
        endpoint_ip(errors, &path.child("externalIPs").index(index), ip);
    }
    one_of(errors, &path.child("type"), spec.type_.as_deref(), TYPES);
    traffic_policies(errors, &path, spec);
    source_ranges(errors, &path, spec);
}

fn by_type(errors: &mut FieldErrors, path: &Path, spec: &ServiceSpec) {
    let type_ = spec.type_.as_deref().unwrap_or_default();
    let cluster_ip = spec.cluster_ip.as_deref().unwrap_or_default();
    let no_ports = spec.ports.as_ref().is_none_or(Vec::is_empty);
    if no_ports && !is_headless(spec) && type_ != "ExternalName" {
        errors.required(&path.child("ports"), "");
    }
    match type_ {
        "LoadBalancer" | "NodePort" if is_headless(spec) => {
            let detail = format!("may not be set to 'None' for {type_} services");
            errors.invalid(&path.child("clusterIPs").index(0), cluster_ip, &detail);
        }
        "ExternalName" => {
            if !cluster_ip.is_empty() {
                errors.forbidden(&path.child("clusterIPs"), "may not be set when `type` is 'ExternalName'");
            }
            let name = spec.external_name.as_deref().unwrap_or_default();
            let plain = name.strip_suffix('.').unwrap_or(name);
            required(errors, &path.child("externalName"), name, "");
            if !name.is_empty() {
                each(errors, &path.child("externalName"), plain, names::dns_subdomain(plain));
            }
        }
        _ => {}
    }
}

fn ports(errors: &mut FieldErrors, path: &Path, spec: &ServiceSpec) {
    let list: &[ServicePort] = spec.ports.as_deref().unwrap_or_default();
    let mut port_names: Vec<&str> = Vec::new();
    for (index, port) in list.iter().enumerate() {
        let port_path = path.index(index);
        port_rules(errors, &port_path, port, list.len() > 1, &mut port_names);
        let node_port = port.node_port.unwrap_or(0);
        if spec.type_.as_deref() == Some("ClusterIP") && node_port != 0 {
            errors.forbidden(&port_path.child("nodePort"), "may not be used when `type` is 'ClusterIP'");
        }
        let same = |other: &&ServicePort| other.protocol == port.protocol && other.port == port.port;
        if list.iter().take(index).any(|other| same(&other)) {
            let key = ServicePort { protocol: port.protocol.clone(), port: port.port, ..ServicePort::default() };
            errors.duplicate(&port_path, &shown(&key));
        }
        let same = |other: &&ServicePort| other.protocol == port.protocol && other.node_port == port.node_port;
        if node_port != 0 && list.iter().take(index).any(|other| same(&other)) {
            errors.duplicate(&port_path.child("nodePort"), node_port);
        }
    }
}

fn port_rules<'a>(errors: &mut FieldErrors, path: &Path, port: &'a ServicePort, needs_name: bool, seen: &mut Vec<&'a str>) {
    let name = port.name.as_deref().unwrap_or_default();
    if needs_name && name.is_empty() {
        errors.required(&path.child("name"), "");
    } else if !name.is_empty() {
        each(errors, &path.child("name"), name, names::dns_label(name));
        if seen.contains(&name) {
            errors.duplicate(&path.child("name"), name);
        }
        seen.push(name);
    }
    each_int(errors, &path.child("port"), i64::from(port.port), names::port_number(port.port));
    one_of(errors, &path.child("protocol"), port.protocol.as_deref(), PROTOCOLS);
    let Some(target) = &port.target_port else { return };
    port_or_name(errors, &path.child("targetPort"), target);
    optional_text(errors, &path.child("appProtocol"), port.app_protocol.as_deref(), names::qualified_name);
}

fn affinity(errors: &mut FieldErrors, path: &Path, spec: &ServiceSpec) {
    one_of(errors, &path.child("sessionAffinity"), spec.session_affinity.as_deref(), &["ClientIP", "None"]);
    let config_path = path.child("sessionAffinityConfig");
    let timeout = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    match (spec.session_affinity.as_deref(), timeout) {
        (Some("ClientIP"), Some(seconds)) if !(1..=86_400).contains(&seconds) => {
            let path = config_path.child("clientIP").child("timeoutSeconds");
            errors.invalid(&path, seconds, "must be greater than 0 and less than 86400");
        }
        (Some("None"), _) if spec.session_affinity_config.is_some() => {
            errors.forbidden(&config_path, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

fn cluster_ips(errors: &mut FieldErrors, path: &Path, spec: &ServiceSpec) {
    let ips = spec.cluster_ips.as_deref().unwrap_or_default();
    let ips_path = path.child("clusterIPs");
    if let Some(first) = spec.cluster_ip.as_ref().filter(|ip| !ip.is_empty())
        && ips.first().is_some_and(|ip| ip != first)
    {
        errors.invalid(&ips_path, &shown(&ips), "first value must match `clusterIP`");
    }
    if ips.len() > 2 {
        errors.invalid(&ips_path, &shown(&ips), "may only hold up to 2 values");
    }
    for (index, ip) in ips.iter().enumerate() {
        if ip == "None" {
            if ips.len() > 1 {
                errors.invalid(&ips_path.index(index), ip, "'None' must be the first and only value");
            }
        } else {
            each(errors, &ips_path.index(index), ip, names::ip(ip));
        }
    }
    let families = spec.ip_families.as_deref().unwrap_or_default();
    for (index, family) in families.iter().enumerate() {
        let path = path.child("ipFamilies").index(index);
        if !matches!(family.as_str(), "IPv4" | "IPv6") {
            errors.not_supported(&path, family, &["IPv4", "IPv6"]);
        } else if families.iter().take(index).any(|other| other == family) {
            errors.duplicate(&path, family);
        }
    }
    crate::validation::one_of_present(
        errors,
        &path.child("ipFamilyPolicy"),
        spec.ip_family_policy.as_deref(),
        &["PreferDualStack", "RequireDualStack", "SingleStack"],
    );
}

fn traffic_policies(errors: &mut FieldErrors, path: &Path, spec: &ServiceSpec) {
    let external = spec.external_traffic_policy.as_deref().unwrap_or_default();
    let external_path = path.child("externalTrafficPolicy");
    let type_ = spec.type_.as_deref().unwrap_or_default();
    let has_external_ips = spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty());
    if matches!(type_, "NodePort" | "LoadBalancer") || (type_ == "ClusterIP" && has_external_ips) {
        if !external.is_empty() || type_ != "ClusterIP" {
            one_of(errors, &external_path, Some(external), &["Cluster", "Local"]);
        }
    } else if !external.is_empty() {
        errors.invalid(&external_path, external, "may only be set for externally-accessible services");
    }
    let health_port = spec.health_check_node_port.unwrap_or(0);
    if health_port != 0 && !(type_ == "LoadBalancer" && external == "Local") {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.invalid(&path.child("healthCheckNodePort"), health_port, detail);
    }
    let internal_path = path.child("internalTrafficPolicy");
    if needs_cluster_ip(spec) {
        one_of(errors, &internal_path, spec.internal_traffic_policy.as_deref(), &["Cluster", "Local"]);
    }
    if spec.allocate_load_balancer_node_ports.is_some() && type_ != "LoadBalancer" {
        errors.forbidden(&path.child("allocateLoadBalancerNodePorts"), "may only be used when `type` is 'LoadBalancer'");
    }
    if spec.load_balancer_class.is_some() && type_ != "LoadBalancer" {
        errors.forbidden(&path.child("loadBalancerClass"), "may only be used when `type` is 'LoadBalancer'");
    }
    crate::validation::one_of_present(
        errors,
        &path.child("trafficDistribution"),
        spec.traffic_distribution.as_deref(),
        &["PreferClose", "PreferSameNode", "PreferSameZone"],
    );
}

fn source_ranges(errors: &mut FieldErrors, path: &Path, spec: &ServiceSpec) {
    let ranges = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
    let path = path.child("loadBalancerSourceRanges");
    if !ranges.is_empty() && spec.type_.as_deref() != Some("LoadBalancer") {
        errors.forbidden(&path, "may only be used when `type` is 'LoadBalancer'");
    }
    for (index, range) in ranges.iter().enumerate() {
        if range.trim().parse::<ipnet::IpNet>().is_err() {
            let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            errors.invalid(&path.index(index), range, detail);
        }
    }
}

/// An address, once given, stays while the service has one.
pub fn update(new: &Service, old: &Service, errors: &mut FieldErrors) {
    let (Some(new), Some(old)) = (&new.spec, &old.spec) else { return };
    let path = Path::new("spec");
    let first = |spec: &ServiceSpec| spec.cluster_ips.iter().flatten().next().or(spec.cluster_ip.as_ref()).cloned().unwrap_or_default();
    let (new_ip, old_ip) = (first(new), first(old));
    if needs_cluster_ip(new) && needs_cluster_ip(old) && !old_ip.is_empty() && new_ip != old_ip {
        errors.invalid(&path.child("clusterIPs").index(0), &new_ip, "may not change once set");
    }
    let was_balanced = old.type_.as_deref() == Some("LoadBalancer") && new.type_ == old.type_;
    if was_balanced && new.load_balancer_class != old.load_balancer_class {
        errors.invalid(&path.child("loadBalancerClass"), &shown(&new.load_balancer_class), "may not change once set");
    }
    if needs_node_port(old) && needs_node_port(new) && old.health_check_node_port != new.health_check_node_port {
        let set = old.health_check_node_port.unwrap_or(0) != 0 && new.health_check_node_port.unwrap_or(0) != 0;
        if set {
            errors.invalid(&path.child("healthCheckNodePort"), new.health_check_node_port.unwrap_or(0), IMMUTABLE);
        }
    }
}
