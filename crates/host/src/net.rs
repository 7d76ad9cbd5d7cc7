//! The network of one namespace as values: what is there, what shall change, and the trait that does it.
//! Must never decide: no defaults beyond those of the kernel.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde_json::Value;

use crate::Result;

/// A hardware address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Mac {
    /// A locally administered address that is fixed by an IP address, so that it survives a restart: `0a:58` and 32 bits of it.
    pub fn of_ip(ip: IpAddr) -> Self {
        let [a, b, c, d] = match ip {
            IpAddr::V4(ip) => ip.octets(),
            IpAddr::V6(ip) => {
                let o = ip.octets();
                [o[12], o[13], o[14], o[15]]
            }
        };
        Mac([0x0a, 0x58, a, b, c, d])
    }
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// The kernel's name of the kind (`bridge`, `veth`, `vxlan`); empty for a physical interface.
    pub kind: String,
    pub mac: Option<Mac>,
    pub mtu: u32,
    pub up: bool,
    pub loopback: bool,
    /// The index of the bridge (or other controller) that it is a port of.
    pub master: Option<u32>,
}

/// An address on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub link_index: u32,
    pub net: IpNet,
}

/// A unicast route of the main table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route {
    pub dst: IpNet,
    pub via: Option<IpAddr>,
    pub link: String,
    /// rtm_protocol: who made the route. The kernel's own are 2, boot 3, static 4.
    pub protocol: u8,
    /// The gateway counts as reachable on the link though no address covers it.
    pub onlink: bool,
}

/// What kind of link to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    Bridge,
    /// A pair: this end in the namespace of the `Net`, `peer` in another one, both up afterwards only where asked.
    Veth {
        peer: String,
        peer_mac: Option<Mac>,
        peer_netns: PathBuf,
    },
    /// A layer-2 overlay over UDP without learning: the forwarding entries are the caller's.
    Vxlan {
        id: u32,
        port: u16,
        local: IpAddr,
    },
}

/// One change of the network of a namespace. Each is idempotent except `AddLink`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Fails with EEXIST if the name is taken. `mtu` 0 leaves the kernel's choice.
    AddLink {
        name: String,
        kind: LinkKind,
        mac: Option<Mac>,
        mtu: u32,
        master: Option<String>,
        up: bool,
    },
    /// Nothing happens if it is not there.
    DeleteLink {
        name: String,
    },
    SetUp {
        name: String,
    },
    SetMtu {
        name: String,
        mtu: u32,
    },
    SetMaster {
        name: String,
        master: String,
    },
    /// A bridge port may send a frame back to where it came from.
    SetHairpin {
        name: String,
        on: bool,
    },
    /// Addresses of IPv6 are added without duplicate address detection.
    AddAddress {
        link: String,
        net: IpNet,
    },
    DeleteAddress {
        link: String,
        net: IpNet,
    },
    /// Adds the route or replaces the one with the same destination.
    PutRoute(Route),
    DeleteRoute(Route),
    /// A permanent neighbour entry.
    PutNeighbour {
        link: String,
        ip: IpAddr,
        mac: Mac,
    },
    DeleteNeighbour {
        link: String,
        ip: IpAddr,
    },
    /// Frames to `mac` leave the VXLAN link towards `remote`.
    PutForwarding {
        link: String,
        mac: Mac,
        remote: IpAddr,
    },
    DeleteForwarding {
        link: String,
        mac: Mac,
        remote: IpAddr,
    },
}

/// Which tracked connections to forget. Unset fields match all.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flows {
    /// `udp`, `tcp` or `sctp`.
    pub protocol: &'static str,
    pub ipv6: bool,
    /// The destination before translation.
    pub original_dst: Option<IpAddr>,
    pub original_port: Option<u16>,
    /// The source of replies: the endpoint that the flow was translated to.
    pub reply_src: Option<IpAddr>,
}

/// The network of one namespace.
pub trait Net: Send + Sync {
    fn links(&self) -> Result<Vec<Link>>;
    fn link(&self, name: &str) -> Result<Option<Link>>;
    fn addresses(&self) -> Result<Vec<Address>>;
    /// Unicast routes of the main table, both families.
    fn routes(&self) -> Result<Vec<Route>>;
    fn apply(&self, change: &Change) -> Result<()>;

    /// Runs an nft script as one transaction.
    fn nft(&self, script: &str) -> Result<()>;
    /// `nft -j list ...`: the `nftables` array; `None` if the object does not exist.
    fn nft_list(&self, what: &[&str]) -> Result<Option<Vec<Value>>>;

    /// A sysctl by its path below /proc/sys (`net/ipv4/ip_forward`); `None` if this kernel does not have it.
    fn sysctl(&self, key: &str) -> Result<Option<String>>;
    /// Writes only when the value differs.
    fn set_sysctl(&self, key: &str, value: &str) -> Result<()>;

    /// Removes tracked connections; how many is not told. None matching is no error.
    fn forget_flows(&self, flows: &Flows) -> Result<()>;
}
