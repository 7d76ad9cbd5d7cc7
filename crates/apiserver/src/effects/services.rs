//! Addresses and node ports of Services (upstream: registry/core/service/storage/{alloc,storage}.go). IPv4 only: the cluster is single-stack.

use std::net::Ipv4Addr;
use std::sync::Arc;

use api::core::v1::{Service, ServicePort, ServiceSpec};
use api::{FieldErrors, Path, StatusError};
use ipnet::Ipv4Net;

use super::pool::{Pool, Refused};

const HEADLESS: &str = "None";

pub struct Services {
    range: Ipv4Net,
    ports_text: String,
    addresses: Pool,
    ports: Pool,
}

/// What a write took, and what it gives up once it is stored.
#[must_use]
pub struct Taken {
    services: Arc<Services>,
    addresses: Vec<u32>,
    ports: Vec<u32>,
    given_up: Numbers,
    is_committed: bool,
}

impl Taken {
    pub fn commit(mut self) {
        self.is_committed = true;
        self.services.give_back(&self.given_up);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if !self.is_committed {
            self.addresses.iter().for_each(|n| self.services.addresses.give_back(*n));
            self.ports.iter().for_each(|n| self.services.ports.give_back(*n));
        }
    }
}

/// What a Service holds.
#[derive(Debug, Default, PartialEq, Eq)]
struct Numbers {
    addresses: Vec<u32>,
    ports: Vec<u32>,
}

impl Numbers {
    fn of(service: &Service) -> Self {
        let Some(spec) = &service.spec else { return Self::default() };
        if kind(spec) == "ExternalName" {
            return Self::default();
        }
        let mut ips: Vec<&str> = spec.cluster_ips.iter().flatten().map(String::as_str).collect();
        if ips.is_empty() {
            ips.extend(spec.cluster_ip.as_deref());
        }
        let ports = spec.ports.iter().flatten().filter_map(|p| p.node_port).chain(spec.health_check_node_port);
        let mut ports: Vec<u32> = ports.filter_map(|p| u32::try_from(p).ok()).filter(|p| *p > 0).collect();
        ports.sort_unstable();
        ports.dedup();
        Self { addresses: ips.into_iter().filter_map(|ip| ip.parse::<Ipv4Addr>().ok()).map(u32::from).collect(), ports }
    }
}

fn kind(spec: &ServiceSpec) -> &str {
    spec.type_.as_deref().unwrap_or("ClusterIP")
}

fn needs_node_ports(spec: &ServiceSpec) -> bool {
    match kind(spec) {
        "NodePort" => true,
        "LoadBalancer" => spec.allocate_load_balancer_node_ports != Some(false),
        _ => false,
    }
}

fn needs_health_port(spec: &ServiceSpec) -> bool {
    kind(spec) == "LoadBalancer" && spec.external_traffic_policy.as_deref() == Some("Local")
}

impl Services {
    /// `range`: `10.96.0.0/12`; `ports`: `30000-32767`.
    pub fn new(range: &str, ports: &str) -> Result<Self, String> {
        let first = range.split(',').next().unwrap_or_default();
        let range: Ipv4Net =
            first.parse().map_err(|_| format!("--service-cluster-ip-range: {first:?} is not an IPv4 range such as 10.96.0.0/12"))?;
        if range.prefix_len() > 29 {
            return Err(format!("--service-cluster-ip-range: {range} is too small"));
        }
        let bad = || format!("--service-node-port-range: {ports:?} is not a range such as 30000-32767");
        let (low, high) = ports.split_once('-').ok_or_else(bad)?;
        let (low, high): (u16, u16) = (low.trim().parse().map_err(|_| bad())?, high.trim().parse().map_err(|_| bad())?);
        if low == 0 || low >= high {
            return Err(bad());
        }
        let (network, broadcast) = (u32::from(range.network()), u32::from(range.broadcast()));
        let address_band = ((broadcast - network + 1) / 16).clamp(16, 256);
        let size = u32::from(high - low) + 1;
        let port_band = if size < 16 { 0 } else { (size / 32).clamp(16, 128) };
        Ok(Self {
            range: range.trunc(),
            ports_text: format!("{low}-{high}"),
            addresses: Pool::new(network + 1, broadcast - 1, address_band),
            ports: Pool::new(low.into(), high.into(), port_band),
        })
    }

    pub fn rebuild(&self, services: &[Arc<Service>]) {
        let held: Vec<Numbers> = services.iter().map(|s| Numbers::of(s)).collect();
        self.addresses.rebuild(held.iter().flat_map(|n| n.addresses.iter().copied()));
        self.ports.rebuild(held.iter().flat_map(|n| n.ports.iter().copied()));
    }

    pub fn released(&self, service: &Service) {
        self.give_back(&Numbers::of(service));
    }

    fn give_back(&self, numbers: &Numbers) {
        numbers.addresses.iter().for_each(|n| self.addresses.give_back(*n));
        numbers.ports.iter().for_each(|n| self.ports.give_back(*n));
    }

    /// Fills in what the service needs and does not have; what an update keeps, the row's hook has kept already. A dry run takes and gives back at once.
    pub fn reserve(self: &Arc<Self>, new: &mut Service, old: Option<&Service>, dry_run: bool) -> Result<Option<Taken>, StatusError> {
        let mut taken =
            Taken { services: self.clone(), addresses: vec![], ports: vec![], given_up: Numbers::default(), is_committed: false };
        let held = old.map(Numbers::of).unwrap_or_default();
        let mut errors = FieldErrors::default();
        let name = new.metadata.name.clone().unwrap_or_default();
        let spec = new.spec.get_or_insert_default();
        families(spec, &mut errors);
        if kind(spec) != "ExternalName" {
            self.address(spec, &held, &mut taken, &mut errors);
            self.node_ports(spec, &held, &mut taken, &mut errors);
        }
        if !errors.is_empty() {
            return Err(StatusError::invalid("", "Service", &name, &errors));
        }
        let keeps = Numbers::of(new);
        taken.given_up.addresses = held.addresses.into_iter().filter(|n| !keeps.addresses.contains(n)).collect();
        taken.given_up.ports = held.ports.into_iter().filter(|n| !keeps.ports.contains(n)).collect();
        Ok((!dry_run).then_some(taken))
    }

    fn address(&self, spec: &mut ServiceSpec, held: &Numbers, taken: &mut Taken, errors: &mut FieldErrors) {
        if spec.cluster_ip.as_deref().unwrap_or_default().is_empty() {
            spec.cluster_ip = spec.cluster_ips.as_ref().and_then(|list| list.first().cloned());
        }
        let wanted = spec.cluster_ip.clone().unwrap_or_default();
        let path = Path::new("spec").child("clusterIPs");
        let ip = if wanted.is_empty() {
            match self.addresses.take_any() {
                Ok(number) => {
                    taken.addresses.push(number);
                    Ipv4Addr::from(number).to_string()
                }
                Err(_) => {
                    errors.internal(&path, "failed to allocate a serviceIP: range is full");
                    return;
                }
            }
        } else if let Ok(ip) = wanted.parse::<Ipv4Addr>() {
            let number = u32::from(ip);
            if !held.addresses.contains(&number) {
                let shown = serde_json::json!([wanted]);
                let why = match self.addresses.take(number) {
                    Ok(()) => {
                        taken.addresses.push(number);
                        String::new()
                    }
                    Err(Refused::OutOfRange) => {
                        format!("the provided IP ({ip}) is not in the valid range. The range of valid IPs is {}", self.range)
                    }
                    Err(_) => "provided IP is already allocated".to_owned(),
                };
                if !why.is_empty() {
                    errors.invalid(&path, &shown, &format!("failed to allocate IP {ip}: {why}"));
                }
            }
            wanted
        } else {
            // `None`, or something that validation will refuse.
            wanted
        };
        spec.cluster_ip = Some(ip.clone());
        if spec.cluster_ips.as_ref().is_none_or(Vec::is_empty) {
            spec.cluster_ips = Some(vec![ip]);
        }
    }

    fn node_ports(&self, spec: &mut ServiceSpec, held: &Numbers, taken: &mut Taken, errors: &mut FieldErrors) {
        let wants = needs_node_ports(spec);
        let wants_health = needs_health_port(spec);
        let mut ports = spec.ports.take().unwrap_or_default();
        let is_given = |port: &ServicePort| port.node_port.is_some_and(|n| n > 0);
        for (index, port) in ports.iter().enumerate().filter(|(_, p)| is_given(p)) {
            let path = Path::new("spec").child("ports").index(index).child("nodePort");
            self.take_port(port.node_port.unwrap_or(0), held, taken, &path, errors);
        }
        for port in ports.iter_mut().filter(|p| wants && !is_given(p)) {
            match self.ports.take_any() {
                Ok(number) => {
                    taken.ports.push(number);
                    port.node_port = i32::try_from(number).ok();
                }
                Err(_) => errors.internal(&Path::new("spec").child("ports"), "failed to allocate a nodePort: range is full"),
            }
        }
        spec.ports = (!ports.is_empty()).then_some(ports);
        if wants_health {
            let path = Path::new("spec").child("healthCheckNodePort");
            match spec.health_check_node_port.filter(|n| *n > 0) {
                Some(number) => self.take_port(number, held, taken, &path, errors),
                None => match self.ports.take_any() {
                    Ok(number) => {
                        taken.ports.push(number);
                        spec.health_check_node_port = i32::try_from(number).ok();
                    }
                    Err(_) => errors.internal(&path, "failed to allocate a nodePort: range is full"),
                },
            }
        }
    }

    /// A port that was asked for; several ports of one Service may share it (TCP and UDP).
    fn take_port(&self, number: i32, held: &Numbers, taken: &mut Taken, path: &Path, errors: &mut FieldErrors) {
        let unsigned = u32::try_from(number).unwrap_or(0);
        if held.ports.contains(&unsigned) || taken.ports.contains(&unsigned) {
            return;
        }
        match self.ports.take(unsigned) {
            Ok(()) => taken.ports.push(unsigned),
            Err(Refused::OutOfRange) => {
                let why = format!("provided port is not in the valid range. The range of valid ports is {}", self.ports_text);
                errors.invalid(path, number, &why);
            }
            Err(_) => errors.invalid(path, number, "provided port is already allocated"),
        }
    }
}

/// `ipFamilies` and `ipFamilyPolicy` on a single-stack IPv4 cluster (initIPFamilyFields in registry/core/service/storage/alloc.go).
fn families(spec: &mut ServiceSpec, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    if kind(spec) == "ExternalName" {
        spec.ip_families = None;
        spec.ip_family_policy = None;
        return;
    }
    let is_headless = spec.cluster_ip.as_deref() == Some(HEADLESS);
    if is_headless && spec.selector.as_ref().is_none_or(|s| s.is_empty()) {
        // Whoever fills the endpoints knows the families.
        let policy = spec.ip_family_policy.get_or_insert_with(|| "RequireDualStack".into());
        let dual = policy != "SingleStack";
        let families = spec.ip_families.get_or_insert_default();
        if families.is_empty() {
            families.push("IPv4".into());
        }
        if dual && families.len() == 1 {
            let other = if families[0] == "IPv4" { "IPv6" } else { "IPv4" };
            families.push(other.into());
        }
        return;
    }
    for (index, family) in spec.ip_families.iter().flatten().enumerate() {
        if family == "IPv6" {
            errors.invalid(&path.child("ipFamilies").index(index), family, "not configured on this cluster");
        }
    }
    match spec.ip_family_policy.as_deref() {
        Some("RequireDualStack") => {
            let why = "this cluster is not configured for dual-stack services";
            errors.invalid(&path.child("ipFamilyPolicy"), "RequireDualStack", why);
        }
        Some(_) => {}
        None => spec.ip_family_policy = Some("SingleStack".into()),
    }
    if spec.ip_families.as_ref().is_none_or(Vec::is_empty) {
        spec.ip_families = Some(vec!["IPv4".into()]);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn services() -> Arc<Services> {
        Arc::new(Services::new("10.96.0.0/24", "30000-30100").unwrap())
    }

    fn service(spec: Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).unwrap()
    }

    fn reserve(services: &Arc<Services>, spec: Value, old: Option<&Service>) -> Result<Service, String> {
        let mut new = service(spec);
        let taken = services.reserve(&mut new, old, false).map_err(|e| e.message().to_owned())?;
        taken.unwrap().commit();
        Ok(new)
    }

    #[tokio::test]
    async fn addresses_and_ports_are_given_and_returned() {
        let services = services();
        let one = reserve(&services, json!({"type": "NodePort", "ports": [{"port": 80}, {"port": 81, "nodePort": 30001}]}), None).unwrap();
        let spec = one.spec.clone().unwrap();
        assert_eq!(spec.cluster_ips, Some(vec![spec.cluster_ip.clone().unwrap()]));
        assert_eq!((spec.ip_families, spec.ip_family_policy.as_deref()), (Some(vec!["IPv4".into()]), Some("SingleStack")));
        let ports: Vec<i32> = spec.ports.unwrap().iter().map(|p| p.node_port.unwrap()).collect();
        assert!(ports[0] > 30001 && ports[1] == 30001, "{ports:?}");
        let refused = reserve(&services, json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30001}]}), None).unwrap_err();
        assert_eq!(refused, "Service \"s\" is invalid: spec.ports[0].nodePort: Invalid value: 30001: provided port is already allocated");
        let ip = spec.cluster_ip;
        let plain = reserve(&services, json!({"clusterIP": ip, "ports": [{"port": 80}, {"port": 81}]}), Some(&one)).unwrap();
        assert!(plain.spec.unwrap().ports.unwrap().iter().all(|p| p.node_port.is_none()));
        assert_eq!(services.ports.take(30001), Ok(()), "its ports are free again");
    }

    #[tokio::test]
    async fn wanted_addresses() {
        let services = services();
        let check = |ip: &str, expected: Result<&str, &str>| {
            let seen = reserve(&services, json!({"clusterIP": ip}), None).map(|s| s.spec.unwrap().cluster_ip.unwrap());
            assert_eq!(seen.as_deref().map_err(String::as_str), expected);
        };
        check("10.96.0.10", Ok("10.96.0.10"));
        check("None", Ok("None"));
        check(
            "10.96.0.10",
            Err(
                "Service \"s\" is invalid: spec.clusterIPs: Invalid value: [\"10.96.0.10\"]: failed to allocate IP 10.96.0.10: provided IP is already allocated",
            ),
        );
        check(
            "1.2.3.4",
            Err(
                "Service \"s\" is invalid: spec.clusterIPs: Invalid value: [\"1.2.3.4\"]: failed to allocate IP 1.2.3.4: the provided IP (1.2.3.4) is not in the valid range. The range of valid IPs is 10.96.0.0/24",
            ),
        );
    }

    #[tokio::test]
    async fn a_failed_write_gives_back() {
        let services = services();
        let mut new = service(json!({"clusterIP": "10.96.0.20"}));
        drop(services.reserve(&mut new, None, false).unwrap());
        assert_eq!(services.addresses.take(u32::from(Ipv4Addr::new(10, 96, 0, 20))), Ok(()));
    }

    #[test]
    fn flags() {
        for (range, ports) in [("x", "1-2"), ("10.0.0.0/31", "1-2"), ("10.0.0.0/24", "5"), ("10.0.0.0/24", "9-1"), ("fd00::/108", "1-2")] {
            assert!(Services::new(range, ports).is_err(), "{range} {ports}");
        }
    }
}
