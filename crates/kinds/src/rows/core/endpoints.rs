//! Endpoints.

use api::core::v1::{EndpointAddress, EndpointPort, Endpoints};
use api::{FieldErrors, Path, names};
use serde_json::{Value, json};

use crate::defaults::set_text;
use crate::kind::{Column, Kind, KindInfo};
use crate::printing::{AGE, NAME, age, column, first_few, host_port, name};
use crate::validation::{each, each_int, one_of, optional_text};

impl Kind for Endpoints {
    const INFO: KindInfo = KindInfo {
        singular: "endpoints",
        short_names: &["ep"],
        storage_prefix: "services/endpoints",
        schema: "io.k8s.api.core.v1.Endpoints",
        create_on_update: true,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        for port in self.subsets.iter_mut().flatten().flat_map(|subset| subset.ports.iter_mut().flatten()) {
            set_text(&mut port.protocol, "TCP");
        }
    }

    fn validate(&self, errors: &mut FieldErrors) {
        for (index, subset) in self.subsets.iter().flatten().enumerate() {
            let path = Path::new("subsets").index(index);
            let ready = subset.addresses.as_deref().unwrap_or_default();
            let not_ready = subset.not_ready_addresses.as_deref().unwrap_or_default();
            if ready.is_empty() && not_ready.is_empty() {
                errors.required(&path, "must specify `addresses` or `notReadyAddresses`");
            }
            addresses(errors, &path.child("addresses"), ready);
            addresses(errors, &path.child("notReadyAddresses"), not_ready);
            ports(errors, &path.child("ports"), subset.ports.as_deref().unwrap_or_default());
        }
    }

    fn columns() -> &'static [Column] {
        const { &[NAME, column("Endpoints", "string"), AGE] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let mut list = Vec::new();
        for subset in self.subsets.iter().flatten() {
            let addresses = subset.addresses.as_deref().unwrap_or_default();
            match subset.ports.as_deref().unwrap_or_default() {
                // Headless services without ports.
                [] => list.extend(addresses.iter().map(|address| address.ip.clone())),
                ports => {
                    for port in ports {
                        list.extend(addresses.iter().map(|address| host_port(&address.ip, port.port)));
                    }
                }
            }
        }
        vec![name(&self.metadata), json!(first_few(&list, 3)), age(&self.metadata, now)]
    }
}

fn addresses(errors: &mut FieldErrors, path: &Path, addresses: &[EndpointAddress]) {
    for (index, address) in addresses.iter().enumerate() {
        let path = path.index(index);
        endpoint_ip(errors, &path.child("ip"), &address.ip);
        optional_text(errors, &path.child("hostname"), address.hostname.as_deref(), names::dns_label);
        optional_text(errors, &path.child("nodeName"), address.node_name.as_deref(), names::dns_subdomain);
    }
}

/// An address that traffic may be sent to (pkg/apis/core/validation: ValidateEndpointIP).
pub fn endpoint_ip(errors: &mut FieldErrors, path: &Path, text: &str) {
    let Ok(ip) = text.parse::<std::net::IpAddr>() else {
        each(errors, path, text, names::ip(text));
        return;
    };
    let link_local = match ip {
        std::net::IpAddr::V4(ip) => ip.is_link_local(),
        std::net::IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let multicast_local = match ip {
        std::net::IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
        std::net::IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
    };
    for (wrong, detail) in [
        (ip.is_unspecified(), format!("may not be unspecified ({text})")),
        (ip.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()),
        (link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()),
        (multicast_local, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned()),
    ] {
        if wrong {
            errors.invalid(path, text, &detail);
        }
    }
}

fn ports(errors: &mut FieldErrors, path: &Path, ports: &[EndpointPort]) {
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = port.name.as_deref().unwrap_or_default();
        if name.is_empty() && ports.len() > 1 {
            errors.required(&path.child("name"), "");
        } else if !name.is_empty() {
            each(errors, &path.child("name"), name, names::dns_label(name));
        }
        each_int(errors, &path.child("port"), i64::from(port.port), names::port_number(port.port));
        one_of(errors, &path.child("protocol"), port.protocol.as_deref(), &["SCTP", "TCP", "UDP"]);
        optional_text(errors, &path.child("appProtocol"), port.app_protocol.as_deref(), names::qualified_name);
    }
}
