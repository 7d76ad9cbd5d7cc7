//! The index of what can be asked: Services, endpoints of headless ones, namespaces, addresses. Kept small: an entry holds what answers
//! are made of and nothing else. Must never do I/O.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::RwLock;

/// A port: its name and protocol in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    pub name: String,
    pub protocol: &'static str,
    pub number: u16,
}

/// An endpoint of a headless service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The pod's hostname, or its address with dashes.
    pub host: String,
    /// The hostname is the pod's own, so the address has a name.
    pub named: bool,
    pub ip: IpAddr,
    pub ports: Vec<Port>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    ClusterIp { ips: Vec<IpAddr>, ports: Vec<Port> },
    Headless { endpoints: Vec<Endpoint> },
    ExternalName(String),
}

/// Namespace and name of a service.
pub type Key = (String, String);

#[derive(Default)]
struct Index {
    /// By namespace, then name: a lookup needs no key of its own.
    services: HashMap<String, HashMap<String, Arc<Entry>>>,
    namespaces: HashSet<String>,
    /// Names of addresses, as `web.ns` or `host.web.ns`, with whose they are.
    reverse: HashMap<IpAddr, Vec<(Key, String)>>,
}

/// The index, shared by writers (informers) and readers (sockets).
#[derive(Default)]
pub struct Records {
    index: RwLock<Index>,
}

impl Records {
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        self.index.read().services.get(namespace)?.get(name).cloned()
    }

    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.index.read().namespaces.contains(namespace)
    }

    /// The names of an address, without the zone.
    pub fn names_of(&self, ip: &IpAddr) -> Vec<String> {
        let index = self.index.read();
        let names = index.reverse.get(ip).into_iter().flatten();
        let mut names: Vec<String> = names.map(|(_, name)| name.clone()).collect();
        names.sort();
        names
    }

    pub fn set_namespace(&self, namespace: &str, exists: bool) {
        let mut index = self.index.write();
        if exists {
            index.namespaces.insert(namespace.to_owned());
        } else {
            index.namespaces.remove(namespace);
        }
    }

    /// Replaces an entry; `None` removes it. `make` runs under the lock, so that the last of two writers has seen both changes.
    pub fn set(&self, key: &Key, make: impl FnOnce() -> Option<Entry>) {
        let mut index = self.index.write();
        let entry = make();
        let (namespace, name) = key;
        let old = match &entry {
            Some(entry) => index.services.entry(namespace.clone()).or_default().insert(name.clone(), Arc::new(entry.clone())),
            None => index.services.get_mut(namespace).and_then(|services| services.remove(name)),
        };
        if index.services.get(namespace).is_some_and(HashMap::is_empty) {
            index.services.remove(namespace);
        }
        for (ip, _) in old.iter().flat_map(|old| reverse_names(key, old)) {
            if let Some(names) = index.reverse.get_mut(&ip) {
                names.retain(|(owner, _)| owner != key);
                if names.is_empty() {
                    index.reverse.remove(&ip);
                }
            }
        }
        for (ip, name) in entry.iter().flat_map(|entry| reverse_names(key, entry)) {
            index.reverse.entry(ip).or_default().push((key.clone(), name));
        }
    }
}

/// A cluster IP has its service's name; an endpoint has one if its pod has a hostname.
fn reverse_names(key: &Key, entry: &Entry) -> Vec<(IpAddr, String)> {
    let (namespace, name) = key;
    match entry {
        Entry::ClusterIp { ips, .. } => ips.iter().map(|ip| (*ip, format!("{name}.{namespace}"))).collect(),
        Entry::Headless { endpoints } => {
            endpoints.iter().filter(|e| e.named).map(|e| (e.ip, format!("{}.{name}.{namespace}", e.host))).collect()
        }
        Entry::ExternalName(_) => Vec::new(),
    }
}

fn protocol(text: Option<&str>) -> Option<&'static str> {
    match text.unwrap_or("TCP") {
        "TCP" => Some("tcp"),
        "UDP" => Some("udp"),
        "SCTP" => Some("sctp"),
        _ => None,
    }
}

/// The entry of a service; its slices matter only if it is headless.
pub fn entry(service: &Service, slices: &[Arc<EndpointSlice>]) -> Option<Entry> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        let target = spec.external_name.as_deref().unwrap_or_default().trim_end_matches('.');
        return (!target.is_empty()).then(|| Entry::ExternalName(target.to_ascii_lowercase()));
    }
    match spec.cluster_ip.as_deref() {
        Some("None") => Some(Entry::Headless { endpoints: endpoints(slices) }),
        None | Some("") => None,
        Some(ip) => {
            let all = spec.cluster_ips.clone().filter(|ips| !ips.is_empty()).unwrap_or_else(|| vec![ip.to_owned()]);
            let ports = spec.ports.iter().flatten().filter_map(|port| {
                let number = u16::try_from(port.port).ok()?;
                Some(Port { name: port.name.clone().unwrap_or_default(), protocol: protocol(port.protocol.as_deref())?, number })
            });
            Some(Entry::ClusterIp { ips: all.iter().filter_map(|ip| ip.parse().ok()).collect(), ports: ports.collect() })
        }
    }
}

fn endpoints(slices: &[Arc<EndpointSlice>]) -> Vec<Endpoint> {
    let mut found: BTreeMap<(String, IpAddr), Endpoint> = BTreeMap::new();
    for slice in slices.iter().filter(|s| s.address_type != "FQDN") {
        let ports: Vec<Port> = slice
            .ports
            .iter()
            .flatten()
            .filter_map(|p| {
                let number = u16::try_from(p.port?).ok()?;
                Some(Port { name: p.name.clone().unwrap_or_default(), protocol: protocol(p.protocol.as_deref())?, number })
            })
            .collect();
        let ready = slice.endpoints.iter().flatten().filter(|e| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true));
        for endpoint in ready {
            for ip in endpoint.addresses.iter().filter_map(|ip| ip.parse::<IpAddr>().ok()) {
                let hostname = endpoint.hostname.as_deref().filter(|h| !h.is_empty());
                let host = hostname.map_or_else(|| dashed(&ip), str::to_owned);
                let record = Endpoint { host: host.clone(), named: hostname.is_some(), ip, ports: Vec::new() };
                // The ports of one endpoint can be in several slices.
                let record = found.entry((host, ip)).or_insert(record);
                record.ports.extend(ports.iter().filter(|p| !record.ports.contains(p)).cloned().collect::<Vec<_>>());
            }
        }
    }
    found.into_values().collect()
}

fn dashed(ip: &IpAddr) -> String {
    ip.to_string().replace(['.', ':'], "-")
}
