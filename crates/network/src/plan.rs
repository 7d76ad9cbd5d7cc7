//! What the network of a node shall be, as a value: made from the nodes' objects, compared with what is there.
//! Must never do I/O.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use host::{Change, Link, LinkKind, Mac, Route};
use ipnet::IpNet;
use serde_json::json;

use crate::bridge::{Bridge, gateway};
use crate::{BRIDGE, NETWORK, OVERLAY};

/// rtm_protocol of our routes, by which they are known again.
pub const PROTOCOL: u8 = 79;
/// The table of the packet filter that hides pods' addresses from the outside.
pub const TABLE: &str = "oxikube-network";
/// VXLAN network identifier and UDP port. Source of the port: IANA, as in Linux tools; 8472 is the kernel's own older default.
const VXLAN_ID: u32 = 79;
const VXLAN_PORT: u16 = 4789;
/// Bytes that VXLAN adds to a packet over IPv4.
const VXLAN_OVERHEAD: u32 = 50;

/// How pods of other nodes are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Overlay {
    /// A route by the other node's address; all nodes must be on one layer-2 network.
    None,
    /// In UDP, over any network.
    Vxlan,
}

/// What of a Node object matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeNetwork {
    pub name: String,
    pub pod_cidrs: Vec<IpNet>,
    pub internal_ips: Vec<IpAddr>,
}

/// All that a plan is made of.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub this: NodeNetwork,
    pub others: Vec<NodeNetwork>,
    /// Networks whose addresses are not hidden; empty: the nodes' pod CIDRs.
    pub cluster_cidrs: Vec<IpNet>,
    pub overlay: Overlay,
    /// Of the interface with the default route.
    pub uplink_mtu: u32,
    pub data_dir: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vxlan {
    pub local: IpAddr,
    pub mac: Mac,
    pub mtu: u32,
    pub addresses: Vec<IpNet>,
}

/// The node's network as it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkPlan {
    pub bridge: Bridge,
    pub vxlan: Option<Vxlan>,
    pub routes: BTreeSet<Route>,
    pub neighbours: BTreeSet<(IpAddr, [u8; 6])>,
    pub forwarding: BTreeSet<([u8; 6], IpAddr)>,
    /// A script that replaces the table.
    pub filter: String,
    /// The content of the CNI configuration file.
    pub conflist: String,
    /// Nodes whose pods cannot be reached, and why.
    pub unreachable: Vec<String>,
}

/// The plan; `None` while the node has no pod CIDR.
pub fn plan(snapshot: &Snapshot) -> Option<NetworkPlan> {
    if snapshot.this.pod_cidrs.is_empty() {
        return None;
    }
    let vxlan = vxlan(snapshot);
    let mtu = vxlan.as_ref().map_or(snapshot.uplink_mtu, |v| v.mtu);
    let mut plan = NetworkPlan {
        bridge: Bridge { name: BRIDGE.into(), mtu, gateways: snapshot.this.pod_cidrs.iter().filter_map(gateway).collect() },
        vxlan,
        routes: BTreeSet::new(),
        neighbours: BTreeSet::new(),
        forwarding: BTreeSet::new(),
        filter: filter(snapshot),
        conflist: conflist(snapshot, mtu),
        unreachable: Vec::new(),
    };
    for other in &snapshot.others {
        for cidr in &other.pod_cidrs {
            reach(&mut plan, other, cidr);
        }
    }
    Some(plan)
}

fn vxlan(snapshot: &Snapshot) -> Option<Vxlan> {
    let local = match snapshot.overlay {
        Overlay::None => return None,
        Overlay::Vxlan => *snapshot.this.internal_ips.first()?,
    };
    let mtu = snapshot.uplink_mtu.saturating_sub(if local.is_ipv4() { VXLAN_OVERHEAD } else { VXLAN_OVERHEAD + 20 });
    let addresses = snapshot.this.pod_cidrs.iter().map(|c| IpNet::from(c.network())).collect();
    Some(Vxlan { local, mac: Mac::of_ip(local), mtu, addresses })
}

/// Adds what leads to one pod CIDR of another node.
fn reach(plan: &mut NetworkPlan, other: &NodeNetwork, cidr: &IpNet) {
    let route = |via, link: &str, onlink| Route { dst: *cidr, via: Some(via), link: link.into(), protocol: PROTOCOL, onlink };
    if let Some(vxlan) = &plan.vxlan {
        let Some(remote) = other.internal_ips.iter().find(|ip| ip.is_ipv4() == vxlan.local.is_ipv4()) else {
            plan.unreachable.push(format!("{}: no InternalIP of the overlay's family", other.name));
            return;
        };
        // The peer's hardware address follows from its address, so nothing needs to be told about it.
        let mac = Mac::of_ip(*remote).0;
        plan.routes.insert(route(cidr.network(), OVERLAY, true));
        plan.neighbours.insert((cidr.network(), mac));
        plan.forwarding.insert((mac, *remote));
        return;
    }
    match other.internal_ips.iter().find(|ip| ip.is_ipv4() == cidr.addr().is_ipv4()) {
        // The link is found when the route is set: the one whose addresses cover the gateway.
        Some(via) => drop(plan.routes.insert(route(*via, "", false))),
        None => plan.unreachable.push(format!("{}: no InternalIP of the family of {cidr}", other.name)),
    }
}

fn filter(snapshot: &Snapshot) -> String {
    let mut pods: Vec<IpNet> = snapshot.cluster_cidrs.clone();
    if pods.is_empty() {
        pods = snapshot.others.iter().chain([&snapshot.this]).flat_map(|n| n.pod_cidrs.iter().copied()).collect();
    }
    pods.sort();
    pods.dedup();
    let mut rules = String::new();
    let mut sets = String::new();
    for (v4, ip, kind, multicast) in [(true, "ip", "ipv4_addr", "224.0.0.0/4"), (false, "ip6", "ipv6_addr", "ff00::/8")] {
        let own: Vec<String> = snapshot.this.pod_cidrs.iter().filter(|c| c.addr().is_ipv4() == v4).map(|c| c.trunc().to_string()).collect();
        if own.is_empty() {
            continue;
        }
        let all: Vec<String> = pods.iter().filter(|c| c.addr().is_ipv4() == v4).map(|c| c.trunc().to_string()).collect();
        let name = format!("pods{}", if v4 { 4 } else { 6 });
        let elements = if all.is_empty() { String::new() } else { format!("elements = {{ {} }} ;", all.join(", ")) };
        sets.push_str(&format!("  set {name} {{ type {kind} ; flags interval ; auto-merge ; {elements} }}\n"));
        rules.push_str(&format!("    {ip} saddr {{ {} }} {ip} daddr != @{name} {ip} daddr != {multicast} masquerade\n", own.join(", ")));
    }
    format!(
        "table inet {TABLE} {{ }}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n{sets}  chain postrouting {{\n    \
         type nat hook postrouting priority srcnat ;\n{rules}  }}\n}}\n"
    )
}

fn conflist(snapshot: &Snapshot, mtu: u32) -> String {
    let plugin = json!({
        "type": "oxikube", "bridge": BRIDGE, "mtu": mtu, "subnets": snapshot.this.pod_cidrs, "dataDir": snapshot.data_dir,
        "capabilities": { "portMappings": true },
    });
    let list = json!({ "cniVersion": "1.0.0", "name": NETWORK, "plugins": [plugin] });
    format!("{list:#}\n")
}

/// What the kernel has of ours.
#[derive(Clone, Debug, Default)]
pub struct Current {
    pub links: Vec<Link>,
    pub addresses: Vec<host::Address>,
    pub routes: Vec<Route>,
    /// What the agent set earlier: the kernel cannot tell whose these are.
    pub neighbours: BTreeSet<(IpAddr, [u8; 6])>,
    pub forwarding: BTreeSet<([u8; 6], IpAddr)>,
}

impl Current {
    fn index(&self, name: &str) -> Option<u32> {
        self.links.iter().find(|l| l.name == name).map(|l| l.index)
    }

    fn addresses_of<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a IpNet> {
        let index = self.index(name);
        self.addresses.iter().filter(move |a| Some(a.link_index) == index).map(|a| &a.net)
    }

    /// The link that reaches an address directly.
    fn link_to(&self, ip: IpAddr) -> Option<&str> {
        let index = self.addresses.iter().filter(|a| a.net.contains(&ip)).max_by_key(|a| a.net.prefix_len())?.link_index;
        self.links.iter().find(|l| l.index == index).map(|l| l.name.as_str())
    }
}

/// The changes from what is there to the plan, and routes that cannot be: no link reaches the gateway. The bridge itself is
/// ensured apart, because the plugin does the same.
pub fn changes(plan: &NetworkPlan, current: &Current) -> (Vec<Change>, Vec<String>) {
    let mut changes = Vec::new();
    let mut failures = Vec::new();
    let stale = |net: &&IpNet| !plan.bridge.gateways.contains(net) && !is_link_local(net);
    for net in current.addresses_of(&plan.bridge.name).filter(stale) {
        changes.push(Change::DeleteAddress { link: plan.bridge.name.clone(), net: *net });
    }
    overlay_changes(plan, current, &mut changes);
    let mut wanted = BTreeSet::new();
    for route in &plan.routes {
        let via = route.via.expect("routes to other nodes have a gateway");
        let link = if route.link.is_empty() { current.link_to(via) } else { Some(route.link.as_str()) };
        match link {
            Some(link) => drop(wanted.insert(Route { link: link.to_owned(), ..route.clone() })),
            None => failures.push(format!("{}: {via} is not on a network of this node; use the overlay", route.dst)),
        }
    }
    for old in current.routes.iter().filter(|r| r.protocol == PROTOCOL && !wanted.iter().any(|w| w.dst == r.dst)) {
        changes.push(Change::DeleteRoute(old.clone()));
    }
    changes.extend(wanted.into_iter().filter(|w| !current.routes.contains(w)).map(Change::PutRoute));
    (changes, failures)
}

fn overlay_changes(plan: &NetworkPlan, current: &Current, changes: &mut Vec<Change>) {
    let link = || OVERLAY.to_owned();
    let Some(vxlan) = &plan.vxlan else {
        if current.index(OVERLAY).is_some() {
            changes.push(Change::DeleteLink { name: link() });
        }
        return;
    };
    let mut fresh = false;
    match current.links.iter().find(|l| l.name == OVERLAY) {
        Some(found) if found.mac == Some(vxlan.mac) => {}
        found => {
            fresh = true;
            if found.is_some() {
                changes.push(Change::DeleteLink { name: link() });
            }
            let kind = LinkKind::Vxlan { id: VXLAN_ID, port: VXLAN_PORT, local: vxlan.local };
            changes.push(Change::AddLink { name: link(), kind, mac: Some(vxlan.mac), mtu: vxlan.mtu, master: None, up: true });
        }
    }
    let have: Vec<&IpNet> = if fresh { Vec::new() } else { current.addresses_of(OVERLAY).collect() };
    changes.extend(
        have.iter().filter(|n| !vxlan.addresses.contains(n) && !is_link_local(n)).map(|n| Change::DeleteAddress { link: link(), net: **n }),
    );
    changes.extend(vxlan.addresses.iter().filter(|n| !have.contains(n)).map(|n| Change::AddAddress { link: link(), net: *n }));
    let empty = (BTreeSet::new(), BTreeSet::new());
    let (neighbours, forwarding) = if fresh { (&empty.0, &empty.1) } else { (&current.neighbours, &current.forwarding) };
    changes.extend(neighbours.difference(&plan.neighbours).map(|(ip, _)| Change::DeleteNeighbour { link: link(), ip: *ip }));
    changes.extend(forwarding.difference(&plan.forwarding).map(|(mac, ip)| Change::DeleteForwarding {
        link: link(),
        mac: Mac(*mac),
        remote: *ip,
    }));
    changes.extend(plan.neighbours.difference(neighbours).map(|(ip, mac)| Change::PutNeighbour { link: link(), ip: *ip, mac: Mac(*mac) }));
    changes.extend(plan.forwarding.difference(forwarding).map(|(mac, ip)| Change::PutForwarding {
        link: link(),
        mac: Mac(*mac),
        remote: *ip,
    }));
}

fn is_link_local(net: &IpNet) -> bool {
    matches!(net, IpNet::V6(net) if net.addr().is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use host::{FakeNet, Net};

    use super::*;

    fn node(name: &str, cidr: &str, ip: &str) -> NodeNetwork {
        NodeNetwork { name: name.into(), pod_cidrs: vec![cidr.parse().unwrap()], internal_ips: vec![ip.parse().unwrap()] }
    }

    fn snapshot(overlay: Overlay) -> Snapshot {
        Snapshot {
            this: node("a", "10.244.0.0/24", "192.0.2.1"),
            others: vec![node("b", "10.244.1.0/24", "192.0.2.2")],
            cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
            overlay,
            uplink_mtu: 1500,
            data_dir: "/data".into(),
        }
    }

    fn current(net: &FakeNet, plan: &NetworkPlan) -> Current {
        let (links, addresses, routes) = (net.links().unwrap(), net.addresses().unwrap(), net.routes().unwrap());
        Current { links, addresses, routes, neighbours: plan.neighbours.clone(), forwarding: plan.forwarding.clone() }
    }

    fn uplink(net: &FakeNet) {
        net.apply(&Change::AddLink { name: "eth0".into(), kind: LinkKind::Bridge, mac: None, mtu: 1500, master: None, up: true }).unwrap();
        net.apply(&Change::AddAddress { link: "eth0".into(), net: "192.0.2.1/24".parse().unwrap() }).unwrap();
    }

    #[test]
    fn a_second_application_changes_nothing() {
        for overlay in [Overlay::None, Overlay::Vxlan] {
            let net = FakeNet::default();
            uplink(&net);
            let plan = plan(&snapshot(overlay)).unwrap();
            plan.bridge.ensure(&net).unwrap();
            let before = Current { neighbours: BTreeSet::new(), forwarding: BTreeSet::new(), ..current(&net, &plan) };
            let (changes, failures) = super::changes(&plan, &before);
            assert_eq!(failures, [] as [String; 0]);
            assert!(!changes.is_empty());
            changes.iter().for_each(|change| net.apply(change).unwrap());
            assert_eq!(super::changes(&plan, &current(&net, &plan)), (vec![], vec![]), "{overlay:?}");
        }
    }

    #[test]
    fn a_node_that_goes_takes_its_route_along() {
        let net = FakeNet::default();
        uplink(&net);
        let old = plan(&snapshot(Overlay::None)).unwrap();
        super::changes(&old, &current(&net, &old)).0.iter().for_each(|change| net.apply(change).unwrap());
        let new = plan(&Snapshot { others: vec![], ..snapshot(Overlay::None) }).unwrap();
        let (changes, _) = super::changes(&new, &current(&net, &new));
        assert!(matches!(&changes[..], [Change::DeleteRoute(route)] if route.dst.to_string() == "10.244.1.0/24"), "{changes:?}");
    }

    #[test]
    fn a_gateway_out_of_reach_is_told() {
        let plan = plan(&snapshot(Overlay::None)).unwrap();
        let (changes, failures) = super::changes(&plan, &Current::default());
        assert_eq!(changes, []);
        assert_eq!(failures, ["10.244.1.0/24: 192.0.2.2 is not on a network of this node; use the overlay"]);
    }

    #[test]
    fn without_a_pod_cidr_there_is_no_plan() {
        let this = NodeNetwork { pod_cidrs: vec![], ..node("a", "10.0.0.0/8", "192.0.2.1") };
        assert_eq!(plan(&Snapshot { this, ..snapshot(Overlay::None) }), None);
    }

    #[test]
    fn only_traffic_that_leaves_the_cluster_is_hidden() {
        let filter = plan(&snapshot(Overlay::None)).unwrap().filter;
        assert!(filter.contains("ip saddr { 10.244.0.0/24 } ip daddr != @pods4 ip daddr != 224.0.0.0/4 masquerade"), "{filter}");
        assert!(filter.contains("elements = { 10.244.0.0/16 }"), "{filter}");
        assert!(!filter.contains("ip6"), "{filter}");
    }
}
