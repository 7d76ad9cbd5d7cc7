//! ADD, DEL, CHECK, GC and STATUS. Idempotent: a call that is repeated after a crash finishes what the first one began.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;

use host::{Change, LinkKind, LinuxNet, Mac, Net, Route};
use ipnet::IpNet;

use super::config::{Attachment, NetConf, valid_attachment};
use super::ipam::Ipam;
use super::result::{self, Interface, Ip};
use super::{CniError, Env, code, ports};
use crate::bridge::{Bridge, gateway};

/// rtm_protocol "boot": as `ip route add` in a pod would leave it.
const PROTOCOL_BOOT: u8 = 3;

fn attachment(env: &Env) -> Result<Attachment, CniError> {
    valid_attachment(&env.container_id, &env.ifname)?;
    Ok(Attachment { container_id: env.container_id.clone(), ifname: env.ifname.clone() })
}

/// The host's end of a pod's veth pair: fixed by the attachment, so that it is found again without a record.
pub fn host_interface(owner: &Attachment) -> String {
    // FNV-1a; 44 bits of it fit into an interface name.
    let bytes = owner.container_id.bytes().chain([b'/']).chain(owner.ifname.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("oxi{:011x}", hash >> 20)
}

fn bridge_of(conf: &NetConf) -> Bridge {
    Bridge { name: conf.bridge.clone(), mtu: conf.mtu, gateways: conf.subnets.iter().filter_map(gateway).collect() }
}

pub fn add(env: &Env, conf: &NetConf) -> Result<String, CniError> {
    let owner = attachment(env)?;
    if env.netns.is_empty() {
        return Err(CniError::new(code::INVALID_ENVIRONMENT, "CNI_NETNS is not set"));
    }
    if conf.subnets.is_empty() {
        return Err(CniError::new(code::INVALID_CONFIG, "subnets is empty: the node has no pod CIDR yet"));
    }
    let ips = Ipam::open(&conf.data_dir, &conf.name)?.allocate(&owner, &conf.subnets)?;
    let wired = LinuxNet::here().map_err(CniError::from).and_then(|host| {
        let wired = wire(&host, env, conf, &owner, &ips)?;
        if !conf.runtime_config.port_mappings.is_empty() {
            Ipam::open(&conf.data_dir, &conf.name)?.note_ports(&owner)?;
            ports::open(&host, &conf.bridge, &conf.runtime_config.port_mappings, &ips)?;
        }
        Ok(wired)
    });
    match wired {
        Ok(wired) => Ok(wired),
        // The runtime is not obliged to call DEL after a failed ADD.
        Err(error) => match remove(conf, &owner) {
            Ok(()) => Err(error),
            Err(second) => Err(CniError::new(error.code, format!("{error}; and cleaning up: {second}"))),
        },
    }
}

fn wire(host: &LinuxNet, env: &Env, conf: &NetConf, owner: &Attachment, ips: &[IpAddr]) -> Result<String, CniError> {
    bridge_of(conf).ensure(host)?;
    let netns = Path::new(&env.netns);
    let pod = LinuxNet::in_netns(netns)?;
    let name = host_interface(owner);
    // From an ADD that was cut short.
    if host.link(&name)?.is_some() {
        host.apply(&Change::DeleteLink { name: name.clone() })?;
    }
    let pod_mac = Mac::of_ip(ips[0]);
    host.apply(&Change::AddLink {
        name: name.clone(),
        kind: LinkKind::Veth { peer: env.ifname.clone(), peer_mac: Some(pod_mac), peer_netns: netns.to_owned() },
        mac: None,
        mtu: conf.mtu,
        master: Some(conf.bridge.clone()),
        up: true,
    })?;
    host.apply(&Change::SetHairpin { name: name.clone(), on: true })?;
    let routes = configure_pod(&pod, env, conf, ips)?;
    let host_link = host.link(&name)?.ok_or_else(|| host::Error::NoLink(name.clone()))?;
    let bridge = host.link(&conf.bridge)?.ok_or_else(|| host::Error::NoLink(conf.bridge.clone()))?;
    let interfaces = [
        Interface { name: &conf.bridge, mac: bridge.mac.unwrap_or_default(), mtu: bridge.mtu, sandbox: "" },
        Interface { name: &name, mac: host_link.mac.unwrap_or_default(), mtu: host_link.mtu, sandbox: "" },
        Interface { name: &env.ifname, mac: pod_mac, mtu: host_link.mtu, sandbox: &env.netns },
    ];
    let printed = ips.iter().map(|ip| Ip { address: IpNet::from(*ip), gateway: gateway_of(conf, *ip), interface: 2 });
    Ok(result::print(&conf.cni_version, &interfaces, &printed.collect::<Vec<_>>(), &routes))
}

fn gateway_of(conf: &NetConf, ip: IpAddr) -> Option<IpAddr> {
    conf.subnets.iter().find(|s| s.contains(&ip)).and_then(gateway).map(|g| g.addr())
}

/// Sets up the pod's end; the default routes that it got.
fn configure_pod(pod: &LinuxNet, env: &Env, conf: &NetConf, ips: &[IpAddr]) -> Result<Vec<(IpNet, IpAddr)>, CniError> {
    pod.apply(&Change::SetUp { name: "lo".into() })?;
    for ip in ips {
        pod.apply(&Change::AddAddress { link: env.ifname.clone(), net: IpNet::from(*ip) })?;
    }
    pod.apply(&Change::SetUp { name: env.ifname.clone() })?;
    let mut routes = Vec::new();
    for ip in ips {
        let Some(via) = gateway_of(conf, *ip) else { continue };
        let everything = if ip.is_ipv4() { IpNet::new([0; 4].into(), 0) } else { IpNet::new([0; 16].into(), 0) };
        let everything = everything.expect("0 is a prefix length");
        let route = |dst, via| Route { dst, via, link: env.ifname.clone(), protocol: PROTOCOL_BOOT, onlink: false };
        pod.apply(&Change::PutRoute(route(IpNet::from(via), None)))?;
        pod.apply(&Change::PutRoute(route(everything, Some(via))))?;
        routes.push((everything, via));
    }
    Ok(routes)
}

pub fn del(env: &Env, conf: &NetConf) -> Result<String, CniError> {
    remove(conf, &attachment(env)?)?;
    Ok(String::new())
}

fn remove(conf: &NetConf, owner: &Attachment) -> Result<(), CniError> {
    let host = LinuxNet::here()?;
    // The address is given back last: nothing may still lead to the old pod when another gets it.
    host.apply(&Change::DeleteLink { name: host_interface(owner) })?;
    let mut ipam = Ipam::open(&conf.data_dir, &conf.name)?;
    if ipam.has_ports(owner) {
        ports::close(&host, &ipam.of(owner))?;
    }
    ipam.release(owner)
}

pub fn check(env: &Env, conf: &NetConf) -> Result<String, CniError> {
    let owner = attachment(env)?;
    let differs = |what: String| Err(CniError::new(code::DIFFERS, what));
    let ips = Ipam::open(&conf.data_dir, &conf.name)?.of(&owner);
    if ips.is_empty() {
        return Err(CniError::new(code::UNKNOWN_CONTAINER, format!("container {} has no address", owner.container_id)));
    }
    let host = LinuxNet::here()?;
    let name = host_interface(&owner);
    let bridge = host.link(&conf.bridge)?;
    match (host.link(&name)?, &bridge) {
        (Some(link), Some(bridge)) if link.master == Some(bridge.index) && link.up => {}
        _ => return differs(format!("interface {name} is missing, down or not on bridge {}", conf.bridge)),
    }
    let pod = LinuxNet::in_netns(Path::new(&env.netns))?;
    let Some(link) = pod.link(&env.ifname)?.filter(|link| link.up) else {
        return differs(format!("interface {} of the pod is missing or down", env.ifname));
    };
    let addresses: HashSet<IpAddr> = pod.addresses()?.into_iter().filter(|a| a.link_index == link.index).map(|a| a.net.addr()).collect();
    let routes = pod.routes()?;
    for ip in &ips {
        if !addresses.contains(ip) {
            return differs(format!("address {ip} is missing on {}", env.ifname));
        }
        if !routes.iter().any(|r| r.dst.prefix_len() == 0 && r.via == gateway_of(conf, *ip)) {
            return differs(format!("default route of {ip} is missing"));
        }
    }
    Ok(String::new())
}

/// Gives back what no listed attachment holds. Source: CNI specification 1.1.0, GC.
pub fn gc(conf: &NetConf) -> Result<String, CniError> {
    let Some(valid) = &conf.valid_attachments else {
        return Err(CniError::new(code::INVALID_CONFIG, "cni.dev/valid-attachments is not set"));
    };
    let owners = Ipam::open(&conf.data_dir, &conf.name)?.owners();
    let failures: Vec<String> =
        owners.iter().filter(|o| !valid.contains(o)).filter_map(|o| remove(conf, o).err()).map(|e| e.to_string()).collect();
    if failures.is_empty() { Ok(String::new()) } else { Err(CniError::new(code::IO, failures.join("; "))) }
}

/// Source: CNI specification 1.1.0, STATUS.
pub fn status(conf: &NetConf) -> Result<String, CniError> {
    if conf.subnets.is_empty() {
        return Err(CniError::new(code::NOT_AVAILABLE, "the node has no pod CIDR yet"));
    }
    let available = Ipam::open(&conf.data_dir, &conf.name).and_then(|_| LinuxNet::here().map_err(CniError::from));
    available.map(|_| String::new()).map_err(|e| CniError::new(code::NOT_AVAILABLE, e.message))
}
