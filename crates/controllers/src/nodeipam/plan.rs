//! Which part of the cluster's address ranges belongs to which node (pkg/controller/nodeipam/ipam/cidrset). Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// One cluster range cut into node ranges of equal size.
#[derive(Debug)]
pub struct Ranges {
    cluster: IpNet,
    node_mask: u8,
    used: Vec<u64>,
    count: usize,
    next: usize,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    #[error("the mask of node ranges, /{node_mask}, must be longer than that of {cluster} by 0 to 16 bits")]
    Mask { cluster: IpNet, node_mask: u8 },
    #[error("{range} is not a node range within {cluster}")]
    Outside { range: String, cluster: IpNet },
    #[error("there are no remaining node ranges within {0}")]
    Full(IpNet),
}

impl Ranges {
    pub fn new(cluster: IpNet, node_mask: u8) -> Result<Self, RangeError> {
        let cluster = cluster.trunc();
        let bits = node_mask.checked_sub(cluster.prefix_len()).filter(|&bits| bits <= 16 && node_mask <= cluster.max_prefix_len());
        let bits = bits.ok_or(RangeError::Mask { cluster, node_mask })?;
        let count = 1 << bits;
        Ok(Self { cluster, node_mask, used: vec![0; usize::div_ceil(count, 64)], count, next: 0 })
    }

    /// Takes the next free range, going round.
    pub fn allocate(&mut self) -> Result<IpNet, RangeError> {
        let free = (0..self.count).map(|offset| (self.next + offset) % self.count).find(|&index| !self.is_used(index));
        let index = free.ok_or(RangeError::Full(self.cluster))?;
        self.set(index, true);
        self.next = (index + 1) % self.count;
        Ok(self.range(index))
    }

    /// Marks a range that a node has already.
    pub fn occupy(&mut self, range: &str) -> Result<(), RangeError> {
        let index = self.index(range)?;
        self.set(index, true);
        Ok(())
    }

    pub fn release(&mut self, range: &str) -> Result<(), RangeError> {
        let index = self.index(range)?;
        self.set(index, false);
        Ok(())
    }

    fn is_used(&self, index: usize) -> bool {
        self.used[index / 64] & (1 << (index % 64)) != 0
    }

    fn set(&mut self, index: usize, used: bool) {
        let bit = 1 << (index % 64);
        if used {
            self.used[index / 64] |= bit;
        } else {
            self.used[index / 64] &= !bit;
        }
    }

    fn range(&self, index: usize) -> IpNet {
        let shift = u32::from(self.cluster.max_prefix_len() - self.node_mask);
        let address = match self.cluster.addr() {
            IpAddr::V4(base) => IpAddr::V4(Ipv4Addr::from(u32::from(base) + u32::try_from((index as u64) << shift).unwrap_or(u32::MAX))),
            IpAddr::V6(base) => IpAddr::V6(Ipv6Addr::from(u128::from(base) + ((index as u128) << shift))),
        };
        IpNet::new(address, self.node_mask).expect("the mask was checked when the ranges were made")
    }

    fn index(&self, range: &str) -> Result<usize, RangeError> {
        let outside = || RangeError::Outside { range: range.to_owned(), cluster: self.cluster };
        let net: IpNet = range.parse().map_err(|_| outside())?;
        if !self.cluster.contains(&net) || net.prefix_len() != self.node_mask {
            return Err(outside());
        }
        let shift = u32::from(self.cluster.max_prefix_len() - self.node_mask);
        let index = match (net.addr(), self.cluster.addr()) {
            (IpAddr::V4(address), IpAddr::V4(base)) => u128::from(u32::from(address) - u32::from(base)) >> shift,
            (IpAddr::V6(address), IpAddr::V6(base)) => (u128::from(address) - u128::from(base)) >> shift,
            _ => return Err(outside()),
        };
        usize::try_from(index).map_err(|_| outside())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(cluster: &str, mask: u8) -> Ranges {
        Ranges::new(cluster.parse().expect("a range"), mask).expect("valid")
    }

    #[test]
    fn allocates_until_full() {
        let mut ranges = ranges("10.244.0.0/22", 24);
        ranges.occupy("10.244.1.0/24").expect("within");
        let mut take = || ranges.allocate().map(|range| range.to_string());
        assert_eq!(take(), Ok("10.244.0.0/24".into()));
        assert_eq!(take(), Ok("10.244.2.0/24".into()));
        assert_eq!(take(), Ok("10.244.3.0/24".into()));
        assert!(matches!(take(), Err(RangeError::Full(_))));
        ranges.release("10.244.2.0/24").expect("within");
        assert_eq!(ranges.allocate().map(|range| range.to_string()), Ok("10.244.2.0/24".into()));
    }

    #[test]
    fn six_and_bounds() {
        let mut six = ranges("fd00:1::/48", 64);
        assert_eq!(six.allocate().map(|range| range.to_string()), Ok("fd00:1::/64".into()));
        assert_eq!(six.allocate().map(|range| range.to_string()), Ok("fd00:1:0:1::/64".into()));
        assert!(Ranges::new("10.0.0.0/24".parse().expect("a range"), 16).is_err());
        assert!(Ranges::new("10.0.0.0/4".parse().expect("a range"), 24).is_err());
        let mut four = ranges("10.244.0.0/16", 24);
        for wrong in ["10.245.0.0/24", "10.244.1.0/25", "fd00::/24", "x"] {
            assert!(four.occupy(wrong).is_err(), "{wrong}");
        }
    }
}
