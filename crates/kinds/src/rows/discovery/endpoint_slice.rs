//! EndpointSlice.

use std::net::IpAddr;

use api::discovery::v1::{Endpoint, EndpointSlice};
use api::{FieldErrors, Path, names};
use serde_json::{Value, json};

use crate::defaults::{set, set_text};
use crate::kind::{Column, Kind, KindInfo};
use crate::printing::{AGE, NAME, UNSET, age, column, first_few, name};
use crate::rows::core::endpoints::endpoint_ip;
use crate::rows::hooks::all_is_spec;
use crate::validation::{IMMUTABLE, each, one_of, one_of_present, optional_text};

impl Kind for EndpointSlice {
    const INFO: KindInfo = KindInfo {
        singular: "endpointslice",
        schema: "io.k8s.api.discovery.v1.EndpointSlice",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        for port in self.ports.iter_mut().flatten() {
            set(&mut port.name, String::new());
            set_text(&mut port.protocol, "TCP");
        }
    }

    fn validate(&self, errors: &mut FieldErrors) {
        one_of(errors, &Path::new("addressType"), Some(&self.address_type), &["FQDN", "IPv4", "IPv6"]);
        let endpoints = self.endpoints.as_deref().unwrap_or_default();
        if endpoints.len() > 1000 {
            errors.too_many(&Path::new("endpoints"), endpoints.len(), 1000);
            return;
        }
        for (index, endpoint) in endpoints.iter().enumerate() {
            endpoint_rules(errors, &Path::new("endpoints").index(index), endpoint, &self.address_type);
        }
        let mut seen: Vec<&str> = Vec::new();
        for (index, port) in self.ports.iter().flatten().enumerate() {
            let path = Path::new("ports").index(index);
            let name = port.name.as_deref().unwrap_or_default();
            optional_text(errors, &path.child("name"), Some(name), names::dns_label);
            if seen.contains(&name) {
                errors.duplicate(&path.child("name"), name);
            }
            seen.push(name);
            one_of_present(errors, &path.child("protocol"), port.protocol.as_deref(), &["SCTP", "TCP", "UDP"]);
            optional_text(errors, &path.child("appProtocol"), port.app_protocol.as_deref(), names::qualified_name);
        }
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        if self.address_type != old.address_type {
            errors.invalid(&Path::new("addressType"), &self.address_type, IMMUTABLE);
        }
    }

    all_is_spec!();

    fn columns() -> &'static [Column] {
        const { &[NAME, column("AddressType", "string"), column("Ports", "string"), column("Endpoints", "string"), AGE] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let ports = self.ports.iter().flatten();
        let ports: Vec<String> = ports.map(|port| port.port.map_or_else(|| "*".to_owned(), |port| port.to_string())).collect();
        let addresses: Vec<String> = self.endpoints.iter().flatten().flat_map(|endpoint| endpoint.addresses.iter().cloned()).collect();
        let few = |list: &[String]| if list.is_empty() { UNSET.to_owned() } else { first_few(list, 3) };
        vec![name(&self.metadata), json!(self.address_type), json!(few(&ports)), json!(few(&addresses)), age(&self.metadata, now)]
    }
}

fn endpoint_rules(errors: &mut FieldErrors, path: &Path, endpoint: &Endpoint, address_type: &str) {
    let path_of = |index| path.child("addresses").index(index);
    match endpoint.addresses.len() {
        0 => errors.required(&path.child("addresses"), "must contain at least 1 address"),
        count if count > 100 => errors.too_many(&path.child("addresses"), count, 100),
        _ => {}
    }
    for (index, address) in endpoint.addresses.iter().enumerate() {
        let ip = address.parse::<IpAddr>();
        match address_type {
            "IPv4" if !matches!(ip, Ok(IpAddr::V4(_))) => errors.invalid(&path_of(index), address, "must be a valid IPv4 address"),
            "IPv6" if !matches!(ip, Ok(IpAddr::V6(_))) => errors.invalid(&path_of(index), address, "must be a valid IPv6 address"),
            "IPv4" | "IPv6" => endpoint_ip(errors, &path_of(index), address),
            "FQDN" => each(errors, &path_of(index), address, names::dns_subdomain(address)),
            _ => {}
        }
    }
    optional_text(errors, &path.child("hostname"), endpoint.hostname.as_deref(), names::dns_label);
    optional_text(errors, &path.child("nodeName"), endpoint.node_name.as_deref(), names::dns_subdomain);
    let topology = path.child("deprecatedTopology");
    if endpoint.deprecated_topology.as_ref().is_some_and(|map| map.contains_key("kubernetes.io/hostname")) {
        errors.invalid(&topology.key("kubernetes.io/hostname"), "", "may not be set unless it is identical to the nodeName field");
    }
}
