//! Addresses of the node's pod CIDRs, recorded on disk.
//!
//! An allocation is a file whose *name* says everything (`IP@CONTAINER@INTERFACE`), so taking and giving back are single
//! atomic operations of the file system: no crash leaves half an allocation. A lock file keeps concurrent calls apart.
//! Must never hand out an address twice, nor soon again: connections to a pod that is gone must not reach another.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use rustix::fs::{FlockOperation, flock};

use super::config::Attachment;
use super::{CniError, code};

/// The allocations of one network, locked while this value lives.
pub struct Ipam {
    dir: PathBuf,
    taken: HashMap<IpAddr, Attachment>,
    /// Released with the file.
    _lock: File,
}

impl Ipam {
    /// Waits for the lock and reads what is allocated.
    pub fn open(data_dir: &Path, network: &str) -> Result<Self, CniError> {
        let dir = data_dir.join(network);
        Self::read(&dir).map_err(|e| CniError::new(code::IO, format!("read allocations in {}: {e}", dir.display())))
    }

    fn read(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(dir.join("lock"))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        let mut taken = HashMap::new();
        for entry in fs::read_dir(dir)? {
            if let Some((ip, attachment)) = entry?.file_name().to_str().and_then(parse_name) {
                taken.insert(ip, attachment);
            }
        }
        Ok(Self { dir: dir.to_owned(), taken, _lock: lock })
    }

    /// One address of each subnet; those that the attachment already has stay its own.
    pub fn allocate(&mut self, owner: &Attachment, subnets: &[IpNet]) -> Result<Vec<IpAddr>, CniError> {
        let mut ips = Vec::new();
        for subnet in subnets {
            let own = self.taken.iter().find(|(ip, who)| subnet.contains(*ip) && *who == owner).map(|(ip, _)| *ip);
            match own {
                Some(ip) => ips.push(ip),
                None => ips.push(self.take(owner, subnet)?),
            }
        }
        Ok(ips)
    }

    fn take(&mut self, owner: &Attachment, subnet: &IpNet) -> Result<IpAddr, CniError> {
        let last_file = self.dir.join(if subnet.addr().is_ipv4() { "last4" } else { "last6" });
        let last = fs::read_to_string(&last_file).ok().and_then(|text| text.trim().parse().ok());
        let used: HashSet<IpAddr> = self.taken.keys().copied().collect();
        let Some(ip) = next_free(subnet, last, &used) else {
            return Err(CniError::new(code::NO_ADDRESS, format!("no IP addresses available in range set: {subnet}")));
        };
        let write = || {
            File::create_new(self.dir.join(name_of(ip, owner)))?;
            fs::write(&last_file, ip.to_string())
        };
        write().map_err(|e| CniError::new(code::IO, format!("record address {ip} in {}: {e}", self.dir.display())))?;
        self.taken.insert(ip, owner.clone());
        Ok(ip)
    }

    /// The addresses of an attachment.
    pub fn of(&self, owner: &Attachment) -> Vec<IpAddr> {
        self.taken.iter().filter(|(_, who)| *who == owner).map(|(ip, _)| *ip).collect()
    }

    pub fn owners(&self) -> HashSet<Attachment> {
        self.taken.values().cloned().collect()
    }

    /// Gives back an attachment's addresses. Nothing to give back is no error.
    pub fn release(&mut self, owner: &Attachment) -> Result<(), CniError> {
        for ip in self.of(owner) {
            let path = self.dir.join(name_of(ip, owner));
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(CniError::new(code::IO, format!("remove {}: {e}", path.display())));
                }
                _ => self.taken.remove(&ip),
            };
        }
        Ok(())
    }

    /// Notes that the attachment has host ports, so that only those cost a look at the packet filter later.
    pub fn note_ports(&self, owner: &Attachment) -> Result<(), CniError> {
        for ip in self.of(owner) {
            let path = self.dir.join(name_of(ip, owner));
            fs::write(&path, "ports").map_err(|e| CniError::new(code::IO, format!("write {}: {e}", path.display())))?;
        }
        Ok(())
    }

    pub fn has_ports(&self, owner: &Attachment) -> bool {
        self.of(owner).iter().any(|ip| fs::metadata(self.dir.join(name_of(*ip, owner))).is_ok_and(|m| m.len() > 0))
    }
}

fn name_of(ip: IpAddr, owner: &Attachment) -> String {
    format!("{ip}@{}@{}", owner.container_id, owner.ifname)
}

fn parse_name(name: &str) -> Option<(IpAddr, Attachment)> {
    let mut parts = name.splitn(3, '@');
    let ip = parts.next()?.parse().ok()?;
    let (container_id, ifname) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    Some((ip, Attachment { container_id, ifname }))
}

/// The first free address after `last`, round and round. Network, gateway and (in IPv4) broadcast addresses are not given.
fn next_free(subnet: &IpNet, last: Option<IpAddr>, used: &HashSet<IpAddr>) -> Option<IpAddr> {
    let bits = u32::from(subnet.max_prefix_len() - subnet.prefix_len());
    let base = number(subnet.network());
    let end = if bits >= 128 { u128::MAX } else { (1u128 << bits) - 1 };
    let end = if subnet.addr().is_ipv4() { end.checked_sub(1)? } else { end };
    let first = 2;
    if end < first {
        return None;
    }
    let start = last.filter(|ip| subnet.contains(ip)).map_or(first, |ip| number(ip) - base + 1);
    let start = if start > end || start < first { first } else { start };
    // More steps than there are used addresses are never needed.
    let steps = (end - first + 1).min(used.len() as u128 + 1);
    let mut offset = start;
    for _ in 0..steps {
        let ip = address(base + offset, subnet.addr().is_ipv4());
        if !used.contains(&ip) {
            return Some(ip);
        }
        offset = if offset == end { first } else { offset + 1 };
    }
    None
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

fn address(number: u128, v4: bool) -> IpAddr {
    if v4 { IpAddr::V4(Ipv4Addr::from(number as u32)) } else { IpAddr::V6(Ipv6Addr::from(number)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str) -> Attachment {
        Attachment { container_id: name.into(), ifname: "eth0".into() }
    }

    #[test]
    fn addresses_are_given_once_and_not_soon_again() {
        let dir = tempfile::tempdir().unwrap();
        let subnet = ["10.244.0.0/29".parse().unwrap()];
        let open = || Ipam::open(dir.path(), "net").unwrap();
        let allocate = |name: &str| open().allocate(&owner(name), &subnet).map(|ips| ips[0].to_string());
        for (name, expected) in [("a", "10.244.0.2"), ("b", "10.244.0.3"), ("a", "10.244.0.2"), ("c", "10.244.0.4")] {
            assert_eq!(allocate(name).unwrap(), expected, "{name}");
        }
        open().release(&owner("a")).unwrap();
        open().release(&owner("a")).unwrap();
        for (name, expected) in [("d", "10.244.0.5"), ("e", "10.244.0.6"), ("f", "10.244.0.2")] {
            assert_eq!(allocate(name).unwrap(), expected, "{name}");
        }
        assert_eq!(allocate("g").unwrap_err().code, code::NO_ADDRESS);
    }

    #[test]
    fn both_families() {
        let dir = tempfile::tempdir().unwrap();
        let subnets = ["10.244.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()];
        let ips = Ipam::open(dir.path(), "net").unwrap().allocate(&owner("a"), &subnets).unwrap();
        assert_eq!(ips.iter().map(IpAddr::to_string).collect::<Vec<_>>(), ["10.244.0.2", "fd00::2"]);
        assert_eq!(Ipam::open(dir.path(), "net").unwrap().owners(), HashSet::from([owner("a")]));
    }

    #[test]
    fn tiny_subnets_have_no_address() {
        for subnet in ["10.0.0.0/32", "10.0.0.0/31", "10.0.0.0/30", "fd00::/128", "fd00::/127"] {
            let expected = (subnet == "10.0.0.0/30").then(|| "10.0.0.2".parse::<IpAddr>().unwrap());
            assert_eq!(next_free(&subnet.parse().unwrap(), None, &HashSet::new()), expected, "{subnet}");
        }
    }
}
