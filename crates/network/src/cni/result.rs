//! The result of ADD in the format of each version of the specification.

use std::net::IpAddr;

use host::Mac;
use ipnet::IpNet;
use serde_json::{Map, Value, json};

/// An interface that was made.
pub struct Interface<'a> {
    pub name: &'a str,
    pub mac: Mac,
    pub mtu: u32,
    /// The namespace's path; empty on the host.
    pub sandbox: &'a str,
}

/// An address of the interface with index `interface` in the result.
pub struct Ip {
    pub address: IpNet,
    pub gateway: Option<IpAddr>,
    pub interface: usize,
}

/// Prints a result.
pub fn print(version: &str, interfaces: &[Interface<'_>], ips: &[Ip], routes: &[(IpNet, IpAddr)]) -> String {
    let interfaces: Vec<Value> = interfaces.iter().map(|i| interface(version, i)).collect();
    let ips: Vec<Value> = ips.iter().map(|ip| self::ip(version, ip)).collect();
    let routes: Vec<Value> = routes.iter().map(|(dst, gw)| json!({ "dst": dst, "gw": gw })).collect();
    json!({ "cniVersion": version, "interfaces": interfaces, "ips": ips, "routes": routes, "dns": {} }).to_string()
}

fn interface(version: &str, interface: &Interface<'_>) -> Value {
    let mut object = Map::new();
    object.insert("name".into(), interface.name.into());
    object.insert("mac".into(), interface.mac.to_string().into());
    if version == "1.1.0" {
        object.insert("mtu".into(), interface.mtu.into());
    }
    if !interface.sandbox.is_empty() {
        object.insert("sandbox".into(), interface.sandbox.into());
    }
    Value::Object(object)
}

fn ip(version: &str, ip: &Ip) -> Value {
    let mut object = Map::new();
    // Dropped in 1.0.0.
    if version.starts_with("0.") {
        object.insert("version".into(), if ip.address.addr().is_ipv4() { "4" } else { "6" }.into());
    }
    object.insert("interface".into(), ip.interface.into());
    object.insert("address".into(), ip.address.to_string().into());
    if let Some(gateway) = ip.gateway {
        object.insert("gateway".into(), gateway.to_string().into());
    }
    Value::Object(object)
}
