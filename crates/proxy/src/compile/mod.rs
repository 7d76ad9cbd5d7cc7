//! Services and endpoints to a ruleset: pure. The table's plan is KEP-3866's: verdict maps find the service by address, protocol
//! and port in one lookup; a chain per service draws an endpoint; a chain per endpoint translates.
//! Source: KEP-3866, pkg/proxy/nftables/proxier.go.

mod endpoints;
mod skeleton;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

pub use self::endpoints::{Usable, usable};
use crate::model::{Endpoint, ServicePort, Snapshot};
use crate::ruleset::{Chain, Family, Ruleset, Set, Table};

/// How traffic of the cluster's pods is told from other traffic. Only the latter has its source hidden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalTraffic {
    /// From these addresses.
    Cidrs(Vec<IpNet>),
    /// From the pod CIDRs of this node.
    NodeCidrs,
    /// From this bridge.
    Bridge(String),
    /// From interfaces whose names begin so.
    InterfacePrefix(String),
    Unknown,
}

/// The addresses on which node ports are open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePorts {
    /// The Node's own address of each family.
    Primary,
    /// Addresses of interfaces within these networks.
    Cidrs(Vec<IpNet>),
}

/// What of the configuration shapes the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub local_traffic: LocalTraffic,
    pub node_ports: NodePorts,
    pub masquerade_all: bool,
    pub masquerade_bit: u8,
}

impl Default for Settings {
    fn default() -> Self {
        Self { local_traffic: LocalTraffic::Unknown, node_ports: NodePorts::Primary, masquerade_all: false, masquerade_bit: 14 }
    }
}

/// The tables for a snapshot.
pub fn compile(snapshot: &Snapshot, settings: &Settings) -> Ruleset {
    [Family::Ip, Family::Ip6].map(|family| Compiler::new(snapshot, settings, family).table()).into()
}

struct Compiler<'a> {
    snapshot: &'a Snapshot,
    settings: &'a Settings,
    family: Family,
    chains: BTreeMap<String, Chain>,
    sets: BTreeMap<String, Set>,
    /// `ip saddr 10.0.0.0/8`, if traffic of pods can be told.
    from_pods: Option<(String, String)>,
}

impl<'a> Compiler<'a> {
    fn new(snapshot: &'a Snapshot, settings: &'a Settings, family: Family) -> Self {
        let (chains, sets) = skeleton::skeleton(snapshot, settings, family);
        let from_pods = from_pods(snapshot, settings, family);
        Self { snapshot, settings, family, chains, sets, from_pods }
    }

    fn table(mut self) -> Table {
        let snapshot = self.snapshot;
        for service in &snapshot.services {
            if service.cluster_ips.iter().any(|ip| self.family.holds(ip)) {
                self.service(service);
            }
        }
        Table { family: self.family, chains: self.chains, sets: self.sets }
    }

    fn service(&mut self, service: &ServicePort) {
        let family = self.family;
        let all = self.snapshot.endpoints_of(&service.key).iter().filter(move |e| family.holds(&e.ip));
        let usable = usable(service, all, &self.snapshot.node);
        let name = chain_name(service);
        let external = self.frontends(service);
        let (cluster, local) = (format!("service-{name}"), format!("local-{name}"));
        let internal_chain = if service.internal_local { &local } else { &cluster };
        let internal_usable = if service.internal_local { &usable.local } else { &usable.cluster };
        let internal_refusal = refusal(service.internal_local, &usable);
        let cluster_ips: Vec<IpAddr> = service.cluster_ips.iter().copied().filter(|ip| family.holds(ip)).collect();
        for ip in &cluster_ips {
            let key = self.key(*ip, service);
            match internal_refusal {
                Some(verdict) => self.element("no-endpoint-services", key, verdict),
                None => self.element("service-ips", key, &format!("goto {internal_chain}")),
            }
            self.element("cluster-ips", ip.to_string(), "");
        }
        let has_external = !external.is_empty() || service.node_port != 0;
        if has_external {
            self.external(service, &usable, &name, &external);
        }
        let cluster_chain = !usable.cluster.is_empty() && (!service.internal_local || has_external);
        if cluster_chain {
            let masquerade = self.masquerade_rules(service, &cluster_ips, internal_usable);
            self.service_chain(cluster, service, &usable.cluster, masquerade);
        }
        let local_chain = !usable.local.is_empty() && (service.internal_local || (service.external_local && has_external));
        if local_chain {
            let masquerade =
                if service.internal_local { self.masquerade_rules(service, &cluster_ips, internal_usable) } else { Vec::new() };
            self.service_chain(local, service, &usable.local, masquerade);
        }
        let used = |e: &&&Endpoint| (cluster_chain && usable.cluster.contains(e)) || (local_chain && usable.local.contains(e));
        let used: Vec<&Endpoint> = {
            let mut list: Vec<&Endpoint> = usable.cluster.iter().chain(&usable.local).filter(used).copied().collect();
            list.sort();
            list.dedup();
            list
        };
        used.iter().for_each(|endpoint| self.endpoint_chain(service, endpoint));
    }

    /// External and load balancer addresses of the family.
    fn frontends(&self, service: &ServicePort) -> Vec<IpAddr> {
        service.external_ips.iter().chain(&service.load_balancer_ips).copied().filter(|ip| self.family.holds(ip)).collect()
    }

    /// What comes in by external addresses and node ports.
    fn external(&mut self, service: &ServicePort, usable: &Usable<'_>, name: &str, frontends: &[IpAddr]) {
        let chain = format!("external-{name}");
        let refusal = refusal(service.external_local, usable);
        // With policy Local and no endpoint here, pods and the node itself still reach the others.
        let reachable = !usable.cluster.is_empty() || !usable.local.is_empty();
        let publish = |this: &mut Self, map: [&'static str; 2], key: String| {
            if let Some(verdict) = refusal {
                this.element(map[1], key.clone(), verdict);
            }
            if reachable {
                this.element(map[0], key, &format!("goto {chain}"));
            }
        };
        for ip in frontends {
            let key = self.key(*ip, service);
            publish(self, ["service-ips", "no-endpoint-services"], key);
        }
        if service.node_port != 0 {
            let key = format!("{} . {}", service.key.protocol.as_str(), service.node_port);
            publish(self, ["service-nodeports", "no-endpoint-nodeports"], key);
        }
        self.firewall(service, name);
        if !reachable {
            return;
        }
        let mut rules = Vec::new();
        if service.external_local {
            if !usable.cluster.is_empty() {
                if let Some((from, _)) = &self.from_pods {
                    rules.push(format!("{from} goto service-{name} comment \"short-circuit pod traffic\""));
                }
                rules.push("fib saddr type local jump mark-for-masquerade comment \"masquerade local traffic\"".to_owned());
                rules.push(format!("fib saddr type local goto service-{name} comment \"short-circuit local traffic\""));
            }
            if !usable.local.is_empty() {
                rules.push(format!("goto local-{name}"));
            }
        } else {
            rules.push("jump mark-for-masquerade".to_owned());
            rules.push(format!("goto service-{name}"));
        }
        self.chains.insert(chain, Chain { hook: None, rules });
    }

    fn firewall(&mut self, service: &ServicePort, name: &str) {
        let ranges: Vec<&IpNet> = service.source_ranges.iter().filter(|r| self.family.holds(&r.addr())).collect();
        // Ranges of the other family only: nobody of this one may.
        if service.source_ranges.is_empty() || service.load_balancer_ips.is_empty() {
            return;
        }
        let vips: Vec<IpAddr> = service.load_balancer_ips.iter().copied().filter(|ip| self.family.holds(ip)).collect();
        let mut allowed: Vec<String> = ranges.iter().map(|r| r.trunc().to_string()).collect();
        // The node may; from the node the source can be the load balancer's own address.
        if self.snapshot.node.ips.iter().any(|ip| ranges.iter().any(|r| r.contains(ip))) {
            allowed.extend(vips.iter().filter(|ip| !ranges.iter().any(|r| r.contains(*ip))).map(IpAddr::to_string));
        }
        let ip = self.family.as_str();
        let rule = if allowed.is_empty() { "drop".to_owned() } else { format!("{ip} saddr != {{ {} }} drop", allowed.join(", ")) };
        self.chains.insert(format!("firewall-{name}"), Chain { hook: None, rules: vec![rule] });
        for vip in vips {
            let key = self.key(vip, service);
            self.element("firewall-ips", key, &format!("goto firewall-{name}"));
        }
    }

    /// Hides the source of what did not come from pods, so that the answer comes back through this node.
    fn masquerade_rules(&self, service: &ServicePort, cluster_ips: &[IpAddr], usable: &[&Endpoint]) -> Vec<String> {
        if usable.is_empty() {
            return Vec::new();
        }
        let unless = match (&self.from_pods, self.settings.masquerade_all) {
            (_, true) => String::new(),
            (Some((_, not_from)), false) => format!("{not_from} "),
            (None, false) => return Vec::new(),
        };
        let (ip, protocol, port) = (self.family.as_str(), service.key.protocol.as_str(), service.port);
        cluster_ips.iter().map(|vip| format!("{ip} daddr {vip} {protocol} dport {port} {unless}jump mark-for-masquerade")).collect()
    }

    fn service_chain(&mut self, chain: String, service: &ServicePort, endpoints: &[&Endpoint], mut rules: Vec<String>) {
        let ip = self.family.as_str();
        if service.affinity_secs.is_some() {
            rules.extend(endpoints.iter().map(|e| {
                let name = endpoint_name(service, e);
                format!("{ip} saddr @affinity-{name} goto endpoint-{name}")
            }));
        }
        let targets: Vec<String> = endpoints.iter().map(|e| format!("goto endpoint-{}", endpoint_name(service, e))).collect();
        rules.push(match &targets[..] {
            [only] => only.clone(),
            many => {
                let arms: Vec<String> = many.iter().enumerate().map(|(n, target)| format!("{n} : {target}")).collect();
                format!("numgen random mod {} vmap {{ {} }}", many.len(), arms.join(", "))
            }
        });
        self.chains.insert(chain, Chain { hook: None, rules });
    }

    fn endpoint_chain(&mut self, service: &ServicePort, endpoint: &Endpoint) {
        let ip = self.family.as_str();
        let name = endpoint_name(service, endpoint);
        // A pod that reaches itself through its service must not see itself as the client.
        let mut rules = vec![format!("{ip} saddr {} jump mark-for-masquerade", endpoint.ip)];
        if let Some(seconds) = service.affinity_secs {
            let kind = if self.family == Family::Ip { "ipv4_addr" } else { "ipv6_addr" };
            let declaration = format!("type {kind} ; flags dynamic,timeout ; timeout {seconds}s ;");
            self.sets.insert(format!("affinity-{name}"), Set { kind: "set", declaration, elements: BTreeMap::new() });
            rules.push(format!("update @affinity-{name} {{ {ip} saddr }}"));
        }
        let target = match endpoint.ip {
            IpAddr::V4(ip) => format!("{ip}:{}", endpoint.port),
            IpAddr::V6(ip) => format!("[{ip}]:{}", endpoint.port),
        };
        rules.push(format!("meta l4proto {} dnat to {target}", service.key.protocol.as_str()));
        self.chains.insert(format!("endpoint-{name}"), Chain { hook: None, rules });
    }

    fn key(&self, ip: IpAddr, service: &ServicePort) -> String {
        format!("{ip} . {} . {}", service.key.protocol.as_str(), service.port)
    }

    /// The first service that claims an address and port has it.
    fn element(&mut self, set: &'static str, key: String, value: &str) {
        let set = self.sets.get_mut(set).expect("the skeleton has all sets");
        set.elements.entry(key).or_insert_with(|| value.to_owned());
    }
}

/// What happens to traffic that no endpoint can take: refused if the service has none at all, else dropped, so that a
/// client or load balancer tries elsewhere.
fn refusal(local: bool, usable: &Usable<'_>) -> Option<&'static str> {
    match (local, usable.any) {
        (_, false) => Some("goto reject-chain"),
        (true, true) if usable.local.is_empty() => Some("drop"),
        (false, true) if usable.cluster.is_empty() => Some("goto reject-chain"),
        _ => None,
    }
}

/// Matches for traffic of pods and for all other traffic.
fn from_pods(snapshot: &Snapshot, settings: &Settings, family: Family) -> Option<(String, String)> {
    let ip = family.as_str();
    let cidrs = |cidrs: &[IpNet]| {
        let own: Vec<String> = cidrs.iter().filter(|c| family.holds(&c.addr())).map(|c| c.trunc().to_string()).collect();
        let set = match &own[..] {
            [] => return None,
            [one] => one.clone(),
            many => format!("{{ {} }}", many.join(", ")),
        };
        Some((format!("{ip} saddr {set}"), format!("{ip} saddr != {set}")))
    };
    match &settings.local_traffic {
        LocalTraffic::Cidrs(list) => cidrs(list),
        LocalTraffic::NodeCidrs => cidrs(&snapshot.node.pod_cidrs),
        LocalTraffic::Bridge(name) => Some((format!("iifname \"{name}\""), format!("iifname != \"{name}\""))),
        LocalTraffic::InterfacePrefix(prefix) => Some((format!("iifname \"{prefix}*\""), format!("iifname != \"{prefix}*\""))),
        LocalTraffic::Unknown => None,
    }
}

/// A readable name that stays unique when it is cut: the hash covers what identifies the port.
fn chain_name(service: &ServicePort) -> String {
    let key = &service.key;
    let text = format!("{}/{}/{}/{}", key.namespace, key.name, key.protocol.as_str(), key.port);
    clean(&format!("{}-{text}", hash(&text)))
}

fn endpoint_name(service: &ServicePort, endpoint: &Endpoint) -> String {
    let key = &service.key;
    let text = format!("{}/{}/{}/{}__{}/{}", key.namespace, key.name, key.protocol.as_str(), key.port, endpoint.ip, endpoint.port);
    clean(&format!("{}-{text}", hash(&text)))
}

/// nft's names hold no colons; the limit leaves room for a prefix. Source: NFT_NAME_MAXLEN.
fn clean(name: &str) -> String {
    name.chars().take(110).map(|c| if c == ':' { '.' } else { c }).collect()
}

/// FNV-1a, 40 bits.
fn hash(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{:010x}", hash >> 24)
}

#[cfg(test)]
mod tests;
