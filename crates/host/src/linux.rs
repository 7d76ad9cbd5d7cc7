//! `Net` on the running kernel: netlink for links, addresses and routes; `nft` and `conntrack` for packet filters.
//! Must never hold a namespace open longer than the value lives, nor change the calling thread's namespace.

use std::io::{self, Write};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ipnet::IpNet;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use serde_json::Value;

use crate::netlink::Netlink;
use crate::{Address, Change, Error, Flows, Link, LinkKind, Mac, Net, Result, Route, netns};

/// The network of the process's own namespace or of a named one.
pub struct LinuxNet {
    netlink: Netlink,
    netns: Option<PathBuf>,
}

impl LinuxNet {
    /// The namespace of the calling thread.
    pub fn here() -> Result<Self> {
        let netlink = Netlink::open().map_err(|e| Error::os("open a netlink socket", e))?;
        Ok(Self { netlink, netns: None })
    }

    /// The namespace at `path`.
    pub fn in_netns(path: &Path) -> Result<Self> {
        let netlink = netns::run_in(path, Netlink::open)?.map_err(|e| Error::os("open a netlink socket", e))?;
        Ok(Self { netlink, netns: Some(path.to_owned()) })
    }

    fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        match &self.netns {
            None => work(),
            Some(path) => netns::run_in(path, work)?,
        }
    }

    fn index(&self, name: &str) -> Result<u32> {
        Ok(self.link(name)?.ok_or_else(|| Error::NoLink(name.to_owned()))?.index)
    }

    fn send(&self, what: impl FnOnce() -> String, message: RouteNetlinkMessage, flags: u16) -> Result<()> {
        self.netlink.request(message, flags).map(drop).map_err(|e| Error::os(what(), e))
    }

    /// Like `send`, but an object that is already gone (or there) is what was asked for.
    fn send_unless(&self, done: &[i32], what: impl FnOnce() -> String, message: RouteNetlinkMessage, flags: u16) -> Result<()> {
        match self.send(what, message, flags) {
            Err(e) if e.errno().is_some_and(|errno| done.contains(&errno)) => Ok(()),
            other => other,
        }
    }

    fn add_link(&self, name: &str, kind: &LinkKind, mac: Option<Mac>, mtu: u32, master: Option<u32>, up: bool) -> Result<()> {
        let mut message = named_link(name, mac, mtu);
        if let Some(master) = master {
            message.attributes.push(LinkAttribute::Controller(master));
        }
        if up {
            set_up(&mut message);
        }
        // Kept open until the kernel has taken the message.
        let mut peer_namespace = None;
        let info = match kind {
            LinkKind::Bridge => vec![LinkInfo::Kind(InfoKind::Bridge)],
            LinkKind::Veth { peer, peer_mac, peer_netns } => {
                let what = || format!("open network namespace {}", peer_netns.display());
                let file = std::fs::File::open(peer_netns).map_err(|e| Error::os(what(), e))?;
                let mut peer = named_link(peer, *peer_mac, mtu);
                peer.attributes.push(LinkAttribute::NetNsFd(file.as_raw_fd()));
                peer_namespace = Some(file);
                vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer)))]
            }
            LinkKind::Vxlan { id, port, local } => {
                let local = match local {
                    IpAddr::V4(ip) => InfoVxlan::Local(*ip),
                    IpAddr::V6(ip) => InfoVxlan::Local6(*ip),
                };
                let data = vec![InfoVxlan::Id(*id), InfoVxlan::Port(*port), local, InfoVxlan::Learning(false)];
                vec![LinkInfo::Kind(InfoKind::Vxlan), LinkInfo::Data(InfoData::Vxlan(data))]
            }
        };
        message.attributes.push(LinkAttribute::LinkInfo(info));
        let sent = self.send(|| format!("add interface {name}"), RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL);
        drop(peer_namespace);
        sent
    }

    fn set_link(&self, what: &str, name: &str, change: impl FnOnce(&mut LinkMessage)) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = self.index(name)?;
        change(&mut message);
        // RTM_NEWLINK of an index that is there changes it; RTM_SETLINK would ignore what is a bridge port's.
        self.send(|| format!("{what} of interface {name}"), RouteNetlinkMessage::NewLink(message), 0)
    }

    fn address_message(&self, link: &str, net: &IpNet) -> Result<AddressMessage> {
        let mut message = AddressMessage::default();
        message.header.index = self.index(link)?;
        message.header.prefix_len = net.prefix_len();
        message.header.family = family(net.addr());
        if net.addr().is_ipv6() {
            message.header.flags = AddressHeaderFlags::Nodad;
        }
        message.attributes.push(AddressAttribute::Local(net.addr()));
        message.attributes.push(AddressAttribute::Address(net.addr()));
        Ok(message)
    }

    fn route_message(&self, route: &Route) -> Result<RouteMessage> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(route.dst.addr());
        message.header.destination_prefix_length = route.dst.prefix_len();
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::from(route.protocol);
        message.header.kind = RouteType::Unicast;
        message.header.scope = if route.via.is_some() { RouteScope::Universe } else { RouteScope::Link };
        if route.onlink {
            message.header.flags |= RouteFlags::Onlink;
        }
        if route.dst.prefix_len() > 0 {
            message.attributes.push(RouteAttribute::Destination(RouteAddress::from(route.dst.network())));
        }
        if let Some(via) = route.via {
            message.attributes.push(RouteAttribute::Gateway(RouteAddress::from(via)));
        }
        message.attributes.push(RouteAttribute::Oif(self.index(&route.link)?));
        Ok(message)
    }

    fn neighbour_message(&self, link: &str, ip: IpAddr, mac: Option<Mac>) -> Result<NeighbourMessage> {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = self.index(link)?;
        message.header.family = family(ip);
        message.header.state = NeighbourState::Permanent;
        message.attributes.push(NeighbourAttribute::Destination(match ip {
            IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
            IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
        }));
        if let Some(mac) = mac {
            message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
        }
        Ok(message)
    }

    fn forwarding_message(&self, link: &str, mac: Mac, remote: IpAddr) -> Result<NeighbourMessage> {
        let mut message = self.neighbour_message(link, remote, Some(mac))?;
        message.header.family = AddressFamily::Bridge;
        message.header.flags = NeighbourFlags::Own;
        Ok(message)
    }

    /// Runs a program in the namespace; its output if it succeeds.
    fn program(&self, program: &'static str, package: &'static str, args: &[&str], input: &str) -> Result<Vec<u8>> {
        self.inside(|| {
            let spawned = Command::new(program).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
            let mut child = spawned.map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => Error::MissingProgram { program, package },
                _ => Error::os(format!("start {program}"), e),
            })?;
            let mut stdin = child.stdin.take().expect("stdin was piped");
            // A program that ends without reading its input says why on its standard error.
            let written = stdin.write_all(input.as_bytes());
            drop(stdin);
            let output = child.wait_with_output().map_err(|e| Error::os(format!("wait for {program}"), e))?;
            if !output.status.success() {
                return Err(Error::Program { program, message: first_lines(&output.stderr) });
            }
            written.map_err(|e| Error::os(format!("write to {program}"), e))?;
            Ok(output.stdout)
        })
    }
}

impl Net for LinuxNet {
    fn links(&self) -> Result<Vec<Link>> {
        let answers = self.netlink.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()));
        Ok(answers.map_err(|e| Error::os("list interfaces", e))?.into_iter().filter_map(read_link).collect())
    }

    fn link(&self, name: &str) -> Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        match self.netlink.request(RouteNetlinkMessage::GetLink(message), 0) {
            Ok(answers) => Ok(answers.into_iter().find_map(read_link)),
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(e) => Err(Error::os(format!("look up interface {name}"), e)),
        }
    }

    fn addresses(&self) -> Result<Vec<Address>> {
        let answers = self.netlink.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()));
        Ok(answers.map_err(|e| Error::os("list addresses", e))?.into_iter().filter_map(read_address).collect())
    }

    fn routes(&self) -> Result<Vec<Route>> {
        let names: std::collections::HashMap<u32, String> = self.links()?.into_iter().map(|l| (l.index, l.name)).collect();
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let answers = self.netlink.dump(RouteNetlinkMessage::GetRoute(message)).map_err(|e| Error::os("list routes", e))?;
            routes.extend(answers.into_iter().filter_map(|answer| read_route(answer, &names)));
        }
        Ok(routes)
    }

    fn apply(&self, change: &Change) -> Result<()> {
        match change {
            Change::AddLink { name, kind, mac, mtu, master, up } => {
                let master = master.as_deref().map(|m| self.index(m)).transpose()?;
                self.add_link(name, kind, *mac, *mtu, master, *up)
            }
            Change::DeleteLink { name } => {
                let mut message = LinkMessage::default();
                message.attributes.push(LinkAttribute::IfName(name.clone()));
                self.send_unless(&[libc::ENODEV], || format!("delete interface {name}"), RouteNetlinkMessage::DelLink(message), 0)
            }
            Change::SetUp { name } => self.set_link("set the state", name, set_up),
            Change::SetMtu { name, mtu } => self.set_link("set the MTU", name, |m| m.attributes.push(LinkAttribute::Mtu(*mtu))),
            Change::SetMaster { name, master } => {
                let master = self.index(master)?;
                self.set_link("set the bridge", name, |m| m.attributes.push(LinkAttribute::Controller(master)))
            }
            Change::SetHairpin { name, on } => self.set_link("set hairpin mode", name, |m| {
                let data = InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(*on)]);
                let info = vec![LinkInfo::PortKind(InfoPortKind::Bridge), LinkInfo::PortData(data)];
                m.attributes.push(LinkAttribute::LinkInfo(info));
            }),
            Change::AddAddress { link, net } => {
                let message = RouteNetlinkMessage::NewAddress(self.address_message(link, net)?);
                self.send(|| format!("add address {net} to {link}"), message, NLM_F_CREATE | NLM_F_REPLACE)
            }
            Change::DeleteAddress { link, net } => {
                let message = RouteNetlinkMessage::DelAddress(self.address_message(link, net)?);
                self.send_unless(&[libc::EADDRNOTAVAIL], || format!("delete address {net} of {link}"), message, 0)
            }
            Change::PutRoute(route) => {
                let message = RouteNetlinkMessage::NewRoute(self.route_message(route)?);
                self.send(|| format!("set the route to {}", route.dst), message, NLM_F_CREATE | NLM_F_REPLACE)
            }
            Change::DeleteRoute(route) => {
                let message = RouteNetlinkMessage::DelRoute(self.route_message(route)?);
                self.send_unless(&[libc::ESRCH], || format!("delete the route to {}", route.dst), message, 0)
            }
            Change::PutNeighbour { link, ip, mac } => {
                let message = RouteNetlinkMessage::NewNeighbour(self.neighbour_message(link, *ip, Some(*mac))?);
                self.send(|| format!("set neighbour {ip} of {link}"), message, NLM_F_CREATE | NLM_F_REPLACE)
            }
            Change::DeleteNeighbour { link, ip } => {
                let message = RouteNetlinkMessage::DelNeighbour(self.neighbour_message(link, *ip, None)?);
                self.send_unless(&[libc::ENOENT], || format!("delete neighbour {ip} of {link}"), message, 0)
            }
            Change::PutForwarding { link, mac, remote } => {
                let message = RouteNetlinkMessage::NewNeighbour(self.forwarding_message(link, *mac, *remote)?);
                self.send(|| format!("set forwarding of {mac} on {link}"), message, NLM_F_CREATE | NLM_F_REPLACE)
            }
            Change::DeleteForwarding { link, mac, remote } => {
                let message = RouteNetlinkMessage::DelNeighbour(self.forwarding_message(link, *mac, *remote)?);
                self.send_unless(&[libc::ENOENT], || format!("delete forwarding of {mac} on {link}"), message, 0)
            }
        }
    }

    fn nft(&self, script: &str) -> Result<()> {
        self.program("nft", "nftables", &["-f", "-"], script).map(drop)
    }

    fn nft_list(&self, what: &[&str]) -> Result<Option<Vec<Value>>> {
        let mut args = vec!["-j", "list"];
        args.extend(what);
        let output = match self.program("nft", "nftables", &args, "") {
            Ok(output) => output,
            Err(Error::Program { message, .. }) if message.contains("No such file or directory") => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut value: Value = serde_json::from_slice(&output).map_err(|source| Error::BadJson { program: "nft", source })?;
        Ok(value.get_mut("nftables").and_then(Value::as_array_mut).map(std::mem::take))
    }

    fn sysctl(&self, key: &str) -> Result<Option<String>> {
        self.inside(|| match std::fs::read_to_string(Path::new("/proc/sys").join(key)) {
            Ok(value) => Ok(Some(value.trim_end().to_owned())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::os(format!("read sysctl {key}"), e)),
        })
    }

    fn set_sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.inside(|| {
            let path = Path::new("/proc/sys").join(key);
            let old = std::fs::read_to_string(&path).map_err(|e| Error::os(format!("read sysctl {key}"), e))?;
            if old.trim_end() == value {
                return Ok(());
            }
            std::fs::write(&path, value).map_err(|e| Error::os(format!("set sysctl {key} to {value}"), e))
        })
    }

    fn forget_flows(&self, flows: &Flows) -> Result<()> {
        let mut args = vec!["-D".to_owned(), "-f".into(), if flows.ipv6 { "ipv6".into() } else { "ipv4".into() }];
        args.extend(["-p".to_owned(), flows.protocol.to_owned()]);
        let mut option = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                args.extend([name.to_owned(), value]);
            }
        };
        option("--orig-dst", flows.original_dst.map(|ip| ip.to_string()));
        option("--orig-port-dst", flows.original_port.map(|port| port.to_string()));
        option("--reply-src", flows.reply_src.map(|ip| ip.to_string()));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        match self.program("conntrack", "conntrack", &args, "") {
            Err(Error::Program { message, .. }) if message.contains("0 flow entries have been deleted") => Ok(()),
            other => other.map(drop),
        }
    }
}

fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn named_link(name: &str, mac: Option<Mac>, mtu: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    if let Some(mac) = mac {
        message.attributes.push(LinkAttribute::Address(mac.0.to_vec()));
    }
    if mtu > 0 {
        message.attributes.push(LinkAttribute::Mtu(mtu));
    }
    message
}

fn set_up(message: &mut LinkMessage) {
    message.header.flags |= LinkFlags::Up;
    message.header.change_mask |= LinkFlags::Up;
}

fn read_link(message: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = message else { return None };
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: String::new(),
        mac: None,
        mtu: 0,
        up: flags.contains(LinkFlags::Up),
        loopback: flags.contains(LinkFlags::Loopback),
        master: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Controller(master) => link.master = Some(master),
            LinkAttribute::Address(mac) => link.mac = mac.try_into().ok().map(Mac),
            LinkAttribute::LinkInfo(infos) => {
                let kind = infos.iter().find_map(|info| if let LinkInfo::Kind(kind) = info { Some(kind.to_string()) } else { None });
                link.kind = kind.unwrap_or_default();
            }
            _ => {}
        }
    }
    Some(link)
}

fn read_address(message: RouteNetlinkMessage) -> Option<Address> {
    let RouteNetlinkMessage::NewAddress(message) = message else { return None };
    // On a point-to-point link `Address` is the peer and `Local` our own; IPv6 has only `Address`.
    let mut found = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => found = Some(*ip),
            AddressAttribute::Address(ip) if found.is_none() => found = Some(*ip),
            _ => {}
        }
    }
    let net = IpNet::new(found?, message.header.prefix_len).ok()?;
    Some(Address { link_index: message.header.index, net })
}

fn read_route(message: RouteNetlinkMessage, names: &std::collections::HashMap<u32, String>) -> Option<Route> {
    let RouteNetlinkMessage::NewRoute(message) = message else { return None };
    if message.header.table != RouteHeader::RT_TABLE_MAIN || message.header.kind != RouteType::Unicast {
        return None;
    }
    let unspecified = match message.header.address_family {
        AddressFamily::Inet => IpAddr::from([0u8; 4]),
        _ => IpAddr::from([0u8; 16]),
    };
    let (mut dst, mut via, mut link) = (unspecified, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => dst = read_ip(address)?,
            RouteAttribute::Gateway(address) => via = read_ip(address),
            RouteAttribute::Oif(index) => link = names.get(index).cloned(),
            _ => {}
        }
    }
    Some(Route {
        dst: IpNet::new(dst, message.header.destination_prefix_length).ok()?,
        via,
        link: link?,
        protocol: message.header.protocol.into(),
        onlink: message.header.flags.contains(RouteFlags::Onlink),
    })
}

fn read_ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

fn first_lines(text: &[u8]) -> String {
    String::from_utf8_lossy(text).lines().map(str::trim).filter(|line| !line.is_empty()).take(4).collect::<Vec<_>>().join("; ")
}
