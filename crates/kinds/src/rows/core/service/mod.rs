//! Service: the row. Its rules are in `validate`. Addresses and node ports are allocated by the API server, not here.

mod validate;

use api::core::v1::{Service, ServicePort, ServiceSpec};
use api::{FieldErrors, IntOrString};
use serde_json::{Value, json};

use crate::defaults::{set, set_text};
use crate::kind::{Column, Kind, KindInfo, NameRule, Subresource};
use crate::printing::{AGE, NAME, NONE, age, column, labels, name, or_none, wide};

impl Kind for Service {
    const INFO: KindInfo = KindInfo {
        singular: "service",
        short_names: &["svc"],
        categories: &["all"],
        subresources: &[
            Subresource {
                name: "proxy",
                kind: Some(("", "v1", "ServiceProxyOptions")),
                verbs: &["create", "delete", "get", "patch", "update"],
            },
            Subresource::STATUS,
        ],
        storage_prefix: "services/specs",
        schema: "io.k8s.api.core.v1.Service",
        name_rule: NameRule::Dns1035Label,
        create_on_update: true,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        default_spec(self.spec.get_or_insert_default());
        self.status.get_or_insert_default().load_balancer.get_or_insert_default();
    }

    fn prepare_create(&mut self) {
        self.status = Some(api::core::v1::ServiceStatus { load_balancer: Some(Default::default()), ..Default::default() });
    }

    fn prepare_update(&mut self, old: &Self) {
        self.status = old.status.clone();
        if let (Some(new), Some(old)) = (&mut self.spec, &old.spec) {
            drop_type_dependent(new, old);
            keep_allocated(new, old);
        }
    }

    fn prepare_status_update(&mut self, old: &Self) {
        self.spec = old.spec.clone();
    }

    fn validate(&self, errors: &mut FieldErrors) {
        validate::service(self, errors);
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        validate::update(self, old, errors);
    }

    fn selectable_fields(&self) -> Vec<(&'static str, String)> {
        let text = |field: Option<&String>| field.cloned().unwrap_or_default();
        let spec = self.spec.as_ref();
        vec![
            ("spec.clusterIP", text(spec.and_then(|spec| spec.cluster_ip.as_ref()))),
            ("spec.type", text(spec.and_then(|spec| spec.type_.as_ref()))),
        ]
    }

    fn columns() -> &'static [Column] {
        const {
            &[
                NAME,
                column("Type", "string"),
                column("Cluster-IP", "string"),
                column("External-IP", "string"),
                column("Port(s)", "string"),
                AGE,
                wide("Selector", "string"),
            ]
        }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let none = ServiceSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&none);
        let cluster_ip = spec.cluster_ips.iter().flatten().next().or(spec.cluster_ip.as_ref());
        vec![
            name(&self.metadata),
            json!(spec.type_.as_deref().unwrap_or_default()),
            json!(or_none(cluster_ip.map(String::as_str))),
            json!(external_ip(self, spec)),
            json!(ports(spec.ports.as_deref().unwrap_or_default())),
            age(&self.metadata, now),
            json!(labels(spec.selector.as_ref())),
        ]
    }
}

/// `None`: no address, DNS names the pods.
pub fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some("None")
}

/// Whether the type comes with an address of its own.
pub fn needs_cluster_ip(spec: &ServiceSpec) -> bool {
    matches!(spec.type_.as_deref(), Some("ClusterIP" | "NodePort" | "LoadBalancer"))
}

pub fn needs_node_port(spec: &ServiceSpec) -> bool {
    match spec.type_.as_deref() {
        Some("NodePort") => true,
        Some("LoadBalancer") => spec.allocate_load_balancer_node_ports != Some(false),
        _ => false,
    }
}

fn needs_health_check_port(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() == Some("LoadBalancer") && spec.external_traffic_policy.as_deref() == Some("Local")
}

/// pkg/apis/core/v1/defaults.go: SetDefaults_Service.
fn default_spec(spec: &mut ServiceSpec) {
    set_text(&mut spec.session_affinity, "None");
    set_text(&mut spec.type_, "ClusterIP");
    match spec.session_affinity.as_deref() {
        Some("ClientIP") => {
            let config = spec.session_affinity_config.get_or_insert_default().client_ip.get_or_insert_default();
            set(&mut config.timeout_seconds, 10_800);
        }
        _ => spec.session_affinity_config = None,
    }
    for port in spec.ports.iter_mut().flatten() {
        set_text(&mut port.protocol, "TCP");
        let unset = match &port.target_port {
            None => true,
            Some(IntOrString::Int(number)) => *number == 0,
            Some(IntOrString::String(name)) => name.is_empty(),
        };
        if unset {
            port.target_port = Some(IntOrString::Int(port.port));
        }
    }
    let type_ = spec.type_.as_deref().unwrap_or_default();
    if matches!(type_, "NodePort" | "LoadBalancer") {
        set_text(&mut spec.external_traffic_policy, "Cluster");
    }
    if matches!(type_, "NodePort" | "LoadBalancer" | "ClusterIP") {
        set(&mut spec.internal_traffic_policy, "Cluster".to_owned());
    }
    if type_ == "LoadBalancer" {
        set(&mut spec.allocate_load_balancer_node_ports, true);
    }
    // The two say the same (pkg/registry/core/service/strategy.go: NormalizeClusterIPs).
    match (&spec.cluster_ip, &spec.cluster_ips) {
        (Some(ip), None) if !ip.is_empty() => spec.cluster_ips = Some(vec![ip.clone()]),
        _ => {}
    }
}

/// What an update leaves out stays as it was allocated (pkg/registry/core/service/strategy.go: patchAllocatedValues).
fn keep_allocated(new: &mut ServiceSpec, old: &ServiceSpec) {
    let empty = |text: &Option<String>| text.as_deref().unwrap_or_default().is_empty();
    if needs_cluster_ip(old) && needs_cluster_ip(new) {
        if empty(&new.cluster_ip) {
            new.cluster_ip.clone_from(&old.cluster_ip);
        }
        if new.cluster_ips.as_ref().is_none_or(Vec::is_empty) && new.cluster_ip == old.cluster_ip {
            new.cluster_ips.clone_from(&old.cluster_ips);
        }
        if new.ip_families.is_none() && new.ip_family_policy.is_none() {
            new.ip_families.clone_from(&old.ip_families);
        }
        if new.ip_family_policy.is_none() {
            new.ip_family_policy.clone_from(&old.ip_family_policy);
        }
    }
    if !needs_cluster_ip(new) && new.cluster_ip == old.cluster_ip {
        // A service that became an alias gives its address back.
        new.cluster_ip = None;
        new.cluster_ips = None;
        new.ip_families = None;
        new.ip_family_policy = None;
    }
    if needs_node_port(old) && needs_node_port(new) {
        keep_node_ports(new, old);
    }
    if needs_health_check_port(old) && needs_health_check_port(new) && new.health_check_node_port.unwrap_or(0) == 0 {
        new.health_check_node_port = old.health_check_node_port;
    }
}

/// What a change of type leaves without a use goes, unless the sender changed it too (strategy.go: dropTypeDependentFields).
fn drop_type_dependent(new: &mut ServiceSpec, old: &ServiceSpec) {
    let is_external = |spec: &ServiceSpec| matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"));
    let is_balanced = |spec: &ServiceSpec| spec.type_.as_deref() == Some("LoadBalancer");
    let node_ports = |spec: &ServiceSpec| spec.ports.iter().flatten().map(|port| port.node_port.unwrap_or(0)).collect::<Vec<_>>();
    if needs_node_port(old) && !needs_node_port(new) && node_ports(new) == node_ports(old) {
        new.ports.iter_mut().flatten().for_each(|port| port.node_port = None);
    }
    if needs_health_check_port(old) && !needs_health_check_port(new) && new.health_check_node_port == old.health_check_node_port {
        new.health_check_node_port = None;
    }
    if is_balanced(old) && !is_balanced(new) {
        if new.allocate_load_balancer_node_ports == old.allocate_load_balancer_node_ports {
            new.allocate_load_balancer_node_ports = None;
        }
        if new.load_balancer_class == old.load_balancer_class {
            new.load_balancer_class = None;
        }
    }
    if is_external(old) && !is_external(new) && new.external_traffic_policy == old.external_traffic_policy {
        new.external_traffic_policy = None;
    }
}

fn keep_node_ports(new: &mut ServiceSpec, old: &ServiceSpec) {
    let key = |port: &ServicePort| (port.protocol.clone(), port.port);
    let used: Vec<i32> = new.ports.iter().flatten().filter_map(|port| port.node_port).filter(|port| *port != 0).collect();
    for port in new.ports.iter_mut().flatten().filter(|port| port.node_port.unwrap_or(0) == 0) {
        let before = old.ports.iter().flatten().find(|before| key(before) == key(port));
        if let Some(node_port) = before.and_then(|before| before.node_port).filter(|port| !used.contains(port)) {
            port.node_port = Some(node_port);
        }
    }
}

fn external_ip(service: &Service, spec: &ServiceSpec) -> String {
    let mut addresses: Vec<String> = Vec::new();
    match spec.type_.as_deref().unwrap_or_default() {
        "ExternalName" => return spec.external_name.clone().unwrap_or_default(),
        "LoadBalancer" => {
            let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
            let ingress = status.and_then(|status| status.ingress.as_ref()).into_iter().flatten();
            let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
            addresses.extend(ingress.filter_map(|ingress| given(&ingress.ip).or_else(|| given(&ingress.hostname))));
            addresses.sort();
            addresses.dedup();
            addresses.extend(spec.external_ips.iter().flatten().cloned());
            if addresses.is_empty() {
                return "<pending>".to_owned();
            }
        }
        "ClusterIP" | "NodePort" => addresses.extend(spec.external_ips.iter().flatten().cloned()),
        _ => return crate::printing::UNKNOWN.to_owned(),
    }
    if addresses.is_empty() { NONE.to_owned() } else { addresses.join(",") }
}

fn ports(ports: &[ServicePort]) -> String {
    let pieces: Vec<String> = ports
        .iter()
        .map(|port| {
            let protocol = port.protocol.as_deref().unwrap_or_default();
            match port.node_port.unwrap_or(0) {
                0 => format!("{}/{protocol}", port.port),
                node_port => format!("{}:{node_port}/{protocol}", port.port),
            }
        })
        .collect();
    or_none(Some(&pieces.join(","))).to_owned()
}

#[cfg(test)]
mod tests;
