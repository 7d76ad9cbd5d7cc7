//! The bridge that pods hang on, and the sysctls without which it does not forward.

use host::{Change, LinkKind, Mac, Net, Result};
use ipnet::IpNet;

/// A bridge as it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    pub name: String,
    /// 0 leaves the kernel's choice.
    pub mtu: u32,
    /// Its addresses with the pod CIDRs' prefix lengths, at most one per family.
    pub gateways: Vec<IpNet>,
}

/// The bridge's own address in a pod CIDR: the first after the network's.
pub fn gateway(subnet: &IpNet) -> Option<IpNet> {
    let first = subnet.hosts().nth(usize::from(subnet.addr().is_ipv6()))?;
    IpNet::new(first, subnet.prefix_len()).ok()
}

impl Bridge {
    /// Makes the bridge what it shall be and leaves alone what is right. Safe to run many times at once.
    pub fn ensure(&self, net: &dyn Net) -> Result<()> {
        let link = match net.link(&self.name)? {
            Some(link) => link,
            None => self.create(net)?,
        };
        if !link.up {
            net.apply(&Change::SetUp { name: self.name.clone() })?;
        }
        if self.mtu != 0 && link.mtu != self.mtu {
            net.apply(&Change::SetMtu { name: self.name.clone(), mtu: self.mtu })?;
        }
        let have: Vec<IpNet> = net.addresses()?.into_iter().filter(|a| a.link_index == link.index).map(|a| a.net).collect();
        for gateway in self.gateways.iter().filter(|g| !have.contains(g)) {
            net.apply(&Change::AddAddress { link: self.name.clone(), net: *gateway })?;
        }
        self.sysctls().into_iter().try_for_each(|(key, value)| net.set_sysctl(&key, value))
    }

    fn create(&self, net: &dyn Net) -> Result<host::Link> {
        let add = Change::AddLink {
            name: self.name.clone(),
            kind: LinkKind::Bridge,
            // A fixed one: otherwise it changes with the ports, and pods keep the old one in their neighbour tables.
            mac: self.gateways.first().map(|g| Mac::of_ip(g.addr())),
            mtu: self.mtu,
            master: None,
            up: true,
        };
        match net.apply(&add) {
            Err(e) if e.errno() == Some(libc::EEXIST) => {}
            other => other?,
        }
        net.link(&self.name)?.ok_or_else(|| host::Error::NoLink(self.name.clone()))
    }

    fn sysctls(&self) -> Vec<(String, &'static str)> {
        let mut sysctls = Vec::new();
        if self.gateways.iter().any(|g| g.addr().is_ipv4()) {
            sysctls.push(("net/ipv4/ip_forward".to_owned(), "1"));
            // Traffic between two pods enters and leaves by the bridge; a redirect would tell them to skip the packet filter.
            sysctls.push(("net/ipv4/conf/all/send_redirects".to_owned(), "0"));
            sysctls.push((format!("net/ipv4/conf/{}/send_redirects", self.name.replace('.', "/")), "0"));
        }
        if self.gateways.iter().any(|g| g.addr().is_ipv6()) {
            sysctls.push(("net/ipv6/conf/all/forwarding".to_owned(), "1"));
        }
        sysctls
    }
}

#[cfg(test)]
mod tests {
    use host::FakeNet;

    use super::*;

    #[test]
    fn gateways() {
        let check = |subnet: &str, expected: &str| {
            assert_eq!(gateway(&subnet.parse().unwrap()).unwrap().to_string(), expected);
        };
        check("10.244.0.0/24", "10.244.0.1/24");
        check("10.244.3.0/26", "10.244.3.1/26");
        check("fd00:10:244::/64", "fd00:10:244::1/64");
    }

    #[test]
    fn ensuring_twice_changes_once() {
        let net = FakeNet::default();
        let bridge = Bridge { name: "oxi0".into(), mtu: 1450, gateways: vec!["10.244.0.1/24".parse().unwrap()] };
        bridge.ensure(&net).unwrap();
        assert!(!net.take().is_empty());
        bridge.ensure(&net).unwrap();
        assert_eq!(net.take(), []);
    }
}
