//! Who has which address. Node N of a lab is 172.31.0.N and fd00:172:31::N; its pods are 10.N.0.0/16 and
//! fd00:10:N::/64. Service addresses are 10.96.0.0/12 and fd00:10:96::/112, which no node can have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// More would reach into the Services' range.
pub(super) const MOST_NODES: u8 = 64;

/// The families that a node or a pod has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// IPv4 alone; IPv6 is switched off.
    V4,
    /// IPv6 alone.
    V6,
    /// Both.
    Dual,
}

impl Families {
    /// Whether IPv4 is one of them.
    #[must_use]
    pub const fn v4(self) -> bool {
        matches!(self, Self::V4 | Self::Dual)
    }

    /// Whether IPv6 is one of them.
    #[must_use]
    pub const fn v6(self) -> bool {
        matches!(self, Self::V6 | Self::Dual)
    }
}

/// The addresses of a node or a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// IPv4, if it has it.
    pub v4: Option<Ipv4Addr>,
    /// IPv6, if it has it.
    pub v6: Option<Ipv6Addr>,
}

impl Address {
    fn new(families: Families, v4: Ipv4Addr, v6: Ipv6Addr) -> Self {
        Self {
            v4: families.v4().then_some(v4),
            v6: families.v6().then_some(v6),
        }
    }

    /// Each address there is.
    pub fn all(self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.v4.map(IpAddr::V4);
        let v6 = self.v6.map(IpAddr::V6);
        v4.into_iter().chain(v6)
    }
}

pub(super) fn node(index: u8, families: Families) -> Address {
    let v4 = Ipv4Addr::new(172, 31, 0, index);
    let v6 = Ipv6Addr::new(0xfd00, 0x172, 0x31, 0, 0, 0, 0, index.into());
    Address::new(families, v4, v6)
}

/// The pod of this number; the first two hundred and fifty-five are left for gateways and the like.
pub(super) fn pod(index: u8, number: u16, families: Families) -> Address {
    let [high, low] = (number + 0x100).to_be_bytes();
    let v4 = Ipv4Addr::new(10, index, high, low);
    let v6 = Ipv6Addr::new(0xfd00, 0x10, index.into(), 0, 0, 0, 0, number + 0x100);
    Address::new(families, v4, v6)
}

/// What the pods of a node send through.
pub(super) fn gateway(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, index, 0, 1)
}

pub(super) fn pod_ranges(index: u8) -> (String, String) {
    (
        format!("10.{index}.0.0/16"),
        format!("fd00:10:{index:x}::/64"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_lie_in_their_nodes_range() {
        let pod = pod(17, 3, Families::Dual);
        assert_eq!(pod.v4.unwrap().to_string(), "10.17.1.3");
        assert_eq!(pod.v6.unwrap().to_string(), "fd00:10:11::103");
        assert_eq!(pod_ranges(17).1, "fd00:10:11::/64");
    }

    #[test]
    fn families_decide_what_there_is() {
        assert_eq!(node(1, Families::V4).all().count(), 1);
        assert_eq!(node(1, Families::V6).v4, None);
        assert_eq!(node(1, Families::Dual).all().count(), 2);
    }
}
