//! Host ports: a table of the packet filter that leads ports of the node to pods. One element of a map per port,
//! so that a pod costs one lookup however many there are.

use std::net::IpAddr;

use host::{Error, Net};
use serde_json::Value;

use super::CniError;
use super::config::PortMapping;

/// The table that host ports live in.
pub const TABLE: &str = "oxikube-hostports";

/// Marks what must look as if it came from the node: pods and the loopback address reaching a host port.
const MARK: &str = "0x2000";

/// A port: the map that it is in, its key, its value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Element {
    map: &'static str,
    key: String,
    value: String,
}

/// Leads host ports to a pod. Ports that a pod which is gone still holds are taken over.
pub fn open(net: &dyn Net, bridge: &str, mappings: &[PortMapping], ips: &[IpAddr]) -> Result<(), CniError> {
    let elements = elements(mappings, ips);
    if elements.is_empty() {
        return Ok(());
    }
    // The way back to 127.0.0.1 enters by the bridge; the `guard` chain keeps all else away from it.
    net.set_sysctl(&format!("net/ipv4/conf/{}/route_localnet", bridge.replace('.', "/")), "1")?;
    let declare = table(bridge);
    let add = |script: &mut String| elements.iter().for_each(|e| push(script, "add", e, true));
    let mut script = declare.clone();
    add(&mut script);
    match net.nft(&script) {
        // A key that is there with another value.
        Err(Error::Program { message, .. }) if message.contains("File exists") => {}
        other => return Ok(other?),
    }
    let mut script = declare;
    let held = listed(net)?.into_iter().filter(|old| elements.iter().any(|e| e.map == old.map && e.key == old.key));
    held.for_each(|old| push(&mut script, "delete", &old, false));
    add(&mut script);
    Ok(net.nft(&script)?)
}

/// Removes all ports that lead to these addresses.
pub fn close(net: &dyn Net, ips: &[IpAddr]) -> Result<(), CniError> {
    let mut script = String::new();
    let ours = |e: &Element| ips.iter().any(|ip| e.value.rsplit_once(" . ").is_some_and(|(addr, _)| addr == ip.to_string()));
    listed(net)?.iter().filter(|e| ours(e)).for_each(|e| push(&mut script, "delete", e, false));
    if script.is_empty() { Ok(()) } else { Ok(net.nft(&script)?) }
}

fn push(script: &mut String, verb: &str, element: &Element, with_value: bool) {
    let Element { map, key, value } = element;
    let value = if with_value { format!(" : {value}") } else { String::new() };
    script.push_str(&format!("{verb} element inet {TABLE} {map} {{ {key}{value} }}\n"));
}

fn elements(mappings: &[PortMapping], ips: &[IpAddr]) -> Vec<Element> {
    let mut elements = Vec::new();
    for mapping in mappings.iter().filter(|m| m.host_port != 0) {
        let protocol = if mapping.protocol.is_empty() { "tcp".to_owned() } else { mapping.protocol.to_ascii_lowercase() };
        let host_ip: Option<IpAddr> = mapping.host_ip.parse().ok().filter(|ip: &IpAddr| !ip.is_unspecified());
        for ip in ips.iter().filter(|ip| host_ip.is_none_or(|host| host.is_ipv4() == ip.is_ipv4())) {
            let value = format!("{ip} . {}", mapping.container_port);
            let (map, key) = match host_ip {
                None => (if ip.is_ipv4() { "any4" } else { "any6" }, format!("{protocol} . {}", mapping.host_port)),
                Some(host) => (if ip.is_ipv4() { "one4" } else { "one6" }, format!("{host} . {protocol} . {}", mapping.host_port)),
            };
            elements.push(Element { map, key, value });
        }
    }
    elements
}

/// All ports in the table; none if there is no table.
fn listed(net: &dyn Net) -> Result<Vec<Element>, Error> {
    let listing = net.nft_list(&["table", "inet", TABLE])?.unwrap_or_default();
    let mut elements = Vec::new();
    for map in listing.iter().filter_map(|item| item.get("map")) {
        let name = map.get("name").and_then(Value::as_str).unwrap_or_default();
        let Some(name) = ["any4", "any6", "one4", "one6"].into_iter().find(|known| *known == name) else { continue };
        for pair in map.get("elem").and_then(Value::as_array).into_iter().flatten() {
            if let (Some(key), Some(value)) = (pair.get(0).and_then(concat), pair.get(1).and_then(concat)) {
                elements.push(Element { map: name, key, value });
            }
        }
    }
    Ok(elements)
}

/// `{"concat": ["tcp", 80]}` as nft writes it in scripts.
fn concat(value: &Value) -> Option<String> {
    let value = value.get("elem").and_then(|elem| elem.get("val")).unwrap_or(value);
    let parts = value.get("concat")?.as_array()?;
    let parts: Vec<String> = parts.iter().map(|p| p.as_str().map_or_else(|| p.to_string(), str::to_owned)).collect();
    Some(parts.join(" . "))
}

/// Declares the table. The chains are refilled each time, the maps keep their elements.
fn table(bridge: &str) -> String {
    format!(
        r#"table inet {TABLE} {{
  map any4 {{ type inet_proto . inet_service : ipv4_addr . inet_service ; }}
  map any6 {{ type inet_proto . inet_service : ipv6_addr . inet_service ; }}
  map one4 {{ type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service ; }}
  map one6 {{ type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service ; }}
  chain guard {{ type filter hook prerouting priority raw ; }}
  chain ports {{ }}
  chain prerouting {{ type nat hook prerouting priority dstnat ; }}
  chain output {{ type nat hook output priority -100 ; }}
  chain postrouting {{ type nat hook postrouting priority srcnat ; }}
}}
flush chain inet {TABLE} guard
flush chain inet {TABLE} ports
flush chain inet {TABLE} prerouting
flush chain inet {TABLE} output
flush chain inet {TABLE} postrouting
table inet {TABLE} {{
  chain guard {{
    iifname "{bridge}" ip daddr 127.0.0.0/8 drop
  }}
  chain ports {{
    iifname "{bridge}" meta mark set meta mark or {MARK}
    ip saddr 127.0.0.0/8 meta mark set meta mark or {MARK}
    dnat ip to ip daddr . meta l4proto . th dport map @one4
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @one6
    meta nfproto ipv4 dnat ip to meta l4proto . th dport map @any4
    meta nfproto ipv6 ip6 daddr != ::1 dnat ip6 to meta l4proto . th dport map @any6
  }}
  chain prerouting {{ meta l4proto {{ tcp, udp, sctp }} fib daddr type local jump ports ; }}
  chain output {{ meta l4proto {{ tcp, udp, sctp }} fib daddr type local jump ports ; }}
  chain postrouting {{ meta mark & {MARK} == {MARK} ct status dnat masquerade ; }}
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_mappings() {
        let mapping = |host_port, protocol: &str, host_ip: &str| PortMapping {
            host_port,
            container_port: 80,
            protocol: protocol.into(),
            host_ip: host_ip.into(),
        };
        let check = |mapping: PortMapping, expected: &[&str]| {
            let ips = ["10.244.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
            let got: Vec<String> = elements(&[mapping], &ips).iter().map(|e| format!("{} {} : {}", e.map, e.key, e.value)).collect();
            assert_eq!(got, expected);
        };
        check(mapping(8080, "TCP", ""), &["any4 tcp . 8080 : 10.244.0.2 . 80", "any6 tcp . 8080 : fd00::2 . 80"]);
        check(mapping(53, "udp", "0.0.0.0"), &["any4 udp . 53 : 10.244.0.2 . 80", "any6 udp . 53 : fd00::2 . 80"]);
        check(mapping(53, "", "192.0.2.1"), &["one4 192.0.2.1 . tcp . 53 : 10.244.0.2 . 80"]);
        check(mapping(0, "tcp", ""), &[]);
    }
}
