//! The part of the table that is there without any service: hooks, maps, common chains.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{NodePorts, Settings};
use crate::model::Snapshot;
use crate::ruleset::{Chain, Family, Set};

pub fn skeleton(snapshot: &Snapshot, settings: &Settings, family: Family) -> (BTreeMap<String, Chain>, BTreeMap<String, Set>) {
    (chains(settings, family), sets(snapshot, settings, family))
}

fn chains(settings: &Settings, family: Family) -> BTreeMap<String, Chain> {
    let ip = family.as_str();
    let mark = format!("{:#x}", 1u32 << settings.masquerade_bit);
    let loopback = if family == Family::Ip { "127.0.0.0/8" } else { "::1" };
    let node_ports = match &settings.node_ports {
        NodePorts::Cidrs(cidrs) if cidrs.iter().any(|c| c.prefix_len() == 0 && family.holds(&c.addr())) => {
            format!("fib daddr type local {ip} daddr != {loopback}")
        }
        _ => format!("{ip} daddr @nodeport-ips"),
    };
    let mut chains = BTreeMap::new();
    let mut add = |name: &str, hook: Option<&'static str>, rules: Vec<String>| {
        chains.insert(name.to_owned(), Chain { hook, rules });
    };
    let new = |jumps: &[&str]| jumps.iter().map(|jump| format!("ct state new jump {jump}")).collect();
    // Before translation (dstnat is -100): what has no endpoint or is not allowed. After it: what no service has translated.
    add("filter-prerouting", Some("type filter hook prerouting priority -110"), new(&["firewall-check"]));
    add("filter-input", Some("type filter hook input priority -110"), new(&["nodeport-endpoints-check", "service-endpoints-check"]));
    add("filter-forward", Some("type filter hook forward priority -110"), new(&["service-endpoints-check", "cluster-ips-check"]));
    add("filter-output", Some("type filter hook output priority -110"), new(&["service-endpoints-check", "firewall-check"]));
    add("filter-output-post-dnat", Some("type filter hook output priority -90"), new(&["cluster-ips-check"]));
    add("nat-prerouting", Some("type nat hook prerouting priority -100"), vec!["jump services".into()]);
    add("nat-output", Some("type nat hook output priority -100"), vec!["jump services".into()]);
    add("nat-postrouting", Some("type nat hook postrouting priority 100"), vec!["jump masquerading".into()]);
    let services = vec![
        format!("{ip} daddr . meta l4proto . th dport vmap @service-ips"),
        format!("{node_ports} meta l4proto . th dport vmap @service-nodeports"),
    ];
    add("services", None, services);
    add("mark-for-masquerade", None, vec![format!("meta mark set meta mark or {mark}")]);
    let masquerading = vec![
        format!("meta mark & {mark} == 0 return"),
        // A packet that is sent again by a tunnel must not be marked any more.
        format!("meta mark set meta mark xor {mark}"),
        "masquerade fully-random".into(),
    ];
    add("masquerading", None, masquerading);
    // Upstream rejects TCP by ICMP too, which a socket of the node itself hears only when it tries again, a second later.
    add("reject-chain", None, vec!["meta l4proto tcp reject with tcp reset".into(), "reject".into()]);
    let invalid_ports = format!("{ip} daddr @cluster-ips goto reject-chain comment \"Reject traffic to invalid ports of ClusterIPs\"");
    add("cluster-ips-check", None, vec![invalid_ports]);
    add("nodeport-endpoints-check", None, vec![format!("{node_ports} meta l4proto . th dport vmap @no-endpoint-nodeports")]);
    add("service-endpoints-check", None, vec![format!("{ip} daddr . meta l4proto . th dport vmap @no-endpoint-services")]);
    add("firewall-check", None, vec![format!("{ip} daddr . meta l4proto . th dport vmap @firewall-ips")]);
    chains
}

fn sets(snapshot: &Snapshot, settings: &Settings, family: Family) -> BTreeMap<String, Set> {
    let kind = if family == Family::Ip { "ipv4_addr" } else { "ipv6_addr" };
    let by_address = format!("type {kind} . inet_proto . inet_service : verdict ;");
    let by_port = "type inet_proto . inet_service : verdict ;".to_owned();
    let addresses = format!("type {kind} ;");
    let mut sets: BTreeMap<String, Set> = [
        ("cluster-ips", "set", &addresses),
        ("nodeport-ips", "set", &addresses),
        ("service-ips", "map", &by_address),
        ("service-nodeports", "map", &by_port),
        ("no-endpoint-services", "map", &by_address),
        ("no-endpoint-nodeports", "map", &by_port),
        ("firewall-ips", "map", &by_address),
    ]
    .into_iter()
    .map(|(name, kind, declaration)| (name.to_owned(), Set { kind, declaration: declaration.clone(), elements: BTreeMap::new() }))
    .collect();
    let node_ips = node_port_ips(snapshot, settings).filter(|ip| family.holds(ip)).map(|ip| (ip.to_string(), String::new()));
    sets.get_mut("nodeport-ips").expect("it is in the list above").elements = node_ips.collect();
    sets
}

/// The addresses on which node ports are open. Never loopback: translated packets could not come back to it.
fn node_port_ips<'a>(snapshot: &'a Snapshot, settings: &'a Settings) -> impl Iterator<Item = IpAddr> + 'a {
    let all = match &settings.node_ports {
        NodePorts::Primary => &snapshot.node.ips,
        NodePorts::Cidrs(_) => &snapshot.addresses,
    };
    let wanted = move |ip: &&IpAddr| match &settings.node_ports {
        NodePorts::Primary => true,
        NodePorts::Cidrs(cidrs) => cidrs.iter().any(|c| c.contains(*ip)),
    };
    all.iter().filter(wanted).filter(|ip| !ip.is_loopback()).copied()
}
