//! Services, EndpointSlices and the Node, reduced to what the rules are made of.
//! Source of what is ignored: pkg/proxy/util/utils.go (ShouldSkipService), pkg/proxy/endpointslicecache.go.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice};

pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
pub const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
pub const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    pub fn parse(text: Option<&str>) -> Option<Self> {
        match text.unwrap_or("TCP") {
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }

    /// As nft and conntrack write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// One port of one service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortKey {
    pub namespace: String,
    pub name: String,
    pub port: String,
    pub protocol: Protocol,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    pub key: PortKey,
    pub cluster_ips: Vec<IpAddr>,
    pub port: u16,
    /// 0: none.
    pub node_port: u16,
    pub external_ips: Vec<IpAddr>,
    pub load_balancer_ips: Vec<IpAddr>,
    /// Who may use the load balancer; empty: all.
    pub source_ranges: Vec<IpNet>,
    /// Seconds for which a client keeps its endpoint.
    pub affinity_secs: Option<u32>,
    pub internal_local: bool,
    pub external_local: bool,
    /// 0: none.
    pub health_port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    pub ip: IpAddr,
    pub port: u16,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    pub local: bool,
    pub zone_hints: Vec<String>,
    pub node_hints: Vec<String>,
}

/// What of the Node the rules depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    pub name: String,
    pub zone: String,
    /// The first InternalIP of each family, else the first ExternalIP.
    pub ips: Vec<IpAddr>,
    pub pod_cidrs: Vec<IpNet>,
    /// False while a cluster autoscaler removes the node.
    pub eligible: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub services: Vec<ServicePort>,
    /// Of both families.
    pub endpoints: BTreeMap<PortKey, Vec<Endpoint>>,
    pub node: NodeView,
    /// All addresses of the node's interfaces.
    pub addresses: Vec<IpAddr>,
}

impl Snapshot {
    pub fn new(services: &[Arc<Service>], slices: &[Arc<EndpointSlice>], node: NodeView, addresses: Vec<IpAddr>) -> Self {
        let mut ports: Vec<ServicePort> = services.iter().flat_map(|s| service_ports(s)).collect();
        ports.sort_by(|a, b| a.key.cmp(&b.key));
        let mut endpoints: BTreeMap<PortKey, Vec<Endpoint>> = BTreeMap::new();
        for slice in slices {
            add_slice(&mut endpoints, slice, &node.name);
        }
        for list in endpoints.values_mut() {
            merge(list);
        }
        Self { services: ports, endpoints, node, addresses }
    }

    pub fn endpoints_of(&self, key: &PortKey) -> &[Endpoint] {
        self.endpoints.get(key).map_or(&[], Vec::as_slice)
    }
}

/// While slices are rearranged an endpoint may be in two of them: the better state counts.
fn merge(list: &mut Vec<Endpoint>) {
    list.sort_by(|a, b| (a.ip, a.port, b.ready, b.serving).cmp(&(b.ip, b.port, a.ready, a.serving)));
    list.dedup_by(|b, a| (a.ip, a.port) == (b.ip, b.port));
}

fn has_label(labels: Option<&BTreeMap<String, String>>, name: &str) -> bool {
    labels.is_some_and(|labels| labels.contains_key(name))
}

fn parse_all<T: std::str::FromStr>(texts: Option<&Vec<String>>) -> Vec<T> {
    texts.into_iter().flatten().filter_map(|text| text.trim().parse().ok()).collect()
}

fn port_number(port: i32) -> u16 {
    u16::try_from(port).unwrap_or(0)
}

/// The ports of a service that this proxy serves.
pub fn service_ports(service: &Service) -> Vec<ServicePort> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
    let cluster_ip = spec.cluster_ip.as_deref().unwrap_or_default();
    let skip = kind == "ExternalName" || matches!(cluster_ip, "" | "None") || has_label(service.metadata.labels.as_ref(), PROXY_NAME_LABEL);
    if skip {
        return Vec::new();
    }
    let cluster_ips = match &spec.cluster_ips {
        Some(ips) if !ips.is_empty() => parse_all(Some(ips)),
        _ => cluster_ip.parse().into_iter().collect(),
    };
    let ingress = service.status.as_ref().and_then(|s| s.load_balancer.as_ref()).and_then(|lb| lb.ingress.as_ref());
    // A load balancer of mode Proxy wants traffic to come through it. Source: KEP-1860.
    let vips = ingress.into_iter().flatten().filter(|i| i.ip_mode.as_deref() != Some("Proxy"));
    let client_ip = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref()).and_then(|c| c.timeout_seconds);
    let sticky = spec.session_affinity.as_deref() == Some("ClientIP");
    let external_local = spec.external_traffic_policy.as_deref() == Some("Local");
    let base = ServicePort {
        key: PortKey {
            namespace: service.metadata.namespace.clone().unwrap_or_default(),
            name: service.metadata.name.clone().unwrap_or_default(),
            port: String::new(),
            protocol: Protocol::Tcp,
        },
        cluster_ips,
        port: 0,
        node_port: 0,
        external_ips: parse_all(spec.external_ips.as_ref()),
        load_balancer_ips: if kind == "LoadBalancer" { vips.filter_map(|i| i.ip.as_ref()?.parse().ok()).collect() } else { Vec::new() },
        source_ranges: parse_all(spec.load_balancer_source_ranges.as_ref()),
        affinity_secs: sticky.then(|| client_ip.and_then(|s| u32::try_from(s).ok()).unwrap_or(10800)),
        internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        external_local,
        health_port: if external_local { port_number(spec.health_check_node_port.unwrap_or(0)) } else { 0 },
    };
    let ports = spec.ports.iter().flatten().filter_map(|port| {
        let protocol = Protocol::parse(port.protocol.as_deref())?;
        let key = PortKey { port: port.name.clone().unwrap_or_default(), protocol, ..base.key.clone() };
        Some(ServicePort { key, port: port_number(port.port), node_port: port_number(port.node_port.unwrap_or(0)), ..base.clone() })
    });
    ports.filter(|p| p.port != 0).collect()
}

fn add_slice(endpoints: &mut BTreeMap<PortKey, Vec<Endpoint>>, slice: &EndpointSlice, node: &str) {
    if slice.address_type == "FQDN" {
        return;
    }
    let Some(name) = slice.metadata.labels.as_ref().and_then(|l| l.get(SERVICE_NAME_LABEL)) else { return };
    for port in slice.ports.iter().flatten() {
        let (Some(protocol), Some(number)) = (Protocol::parse(port.protocol.as_deref()), port.port) else { continue };
        let key = PortKey {
            namespace: slice.metadata.namespace.clone().unwrap_or_default(),
            name: name.clone(),
            port: port.name.clone().unwrap_or_default(),
            protocol,
        };
        let list = endpoints.entry(key).or_default();
        list.extend(slice.endpoints.iter().flatten().filter_map(|e| endpoint(e, port_number(number), node)));
    }
}

fn endpoint(endpoint: &SliceEndpoint, port: u16, node: &str) -> Option<Endpoint> {
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    let hints = endpoint.hints.as_ref();
    Some(Endpoint {
        // Endpoints have one address each: all others are ignored, as upstream does.
        ip: endpoint.addresses.first()?.parse().ok()?,
        port,
        ready,
        serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        local: endpoint.node_name.as_deref() == Some(node),
        zone_hints: hints.and_then(|h| h.for_zones.as_ref()).into_iter().flatten().map(|z| z.name.clone()).collect(),
        node_hints: hints.and_then(|h| h.for_nodes.as_ref()).into_iter().flatten().map(|n| n.name.clone()).collect(),
    })
}

/// What the rules read of a Node.
pub fn node_view(node: &Node) -> NodeView {
    let labels = node.metadata.labels.as_ref();
    let addresses = node.status.as_ref().and_then(|s| s.addresses.as_deref()).unwrap_or_default();
    let first = |v4: bool| {
        let of = |kind: &str| {
            let mut ips = addresses.iter().filter(|a| a.type_ == kind).filter_map(|a| a.address.parse::<IpAddr>().ok());
            ips.find(|ip| ip.is_ipv4() == v4)
        };
        of("InternalIP").or_else(|| of("ExternalIP"))
    };
    let spec = node.spec.as_ref();
    let leaving = spec.and_then(|s| s.taints.as_ref()).into_iter().flatten().any(|t| t.key == "ToBeDeletedByClusterAutoscaler");
    NodeView {
        name: node.metadata.name.clone().unwrap_or_default(),
        zone: labels.and_then(|l| l.get(ZONE_LABEL)).cloned().unwrap_or_default(),
        ips: [first(true), first(false)].into_iter().flatten().collect(),
        pod_cidrs: parse_all(spec.and_then(|s| s.pod_cidrs.as_ref())),
        eligible: !leaving && node.metadata.deletion_timestamp.is_none(),
    }
}
