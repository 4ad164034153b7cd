//! One look at the host's interfaces, as netlink dumps give it: links, their addresses, and the addresses of the
//! namespaces that the peers of links are in. Plain data; what it means is decided in `classify`.

use std::{collections::BTreeMap, net::IpAddr};

/// ARPHRD_ETHER: packets begin with an Ethernet header.
pub(super) const ETHERNET: u16 = 1;
/// ARPHRD_TUNNEL, TUNNEL6, SIT, IPGRE, IP6GRE, PPP, RAWIP and NONE: packets begin with the IP header, as the kernel's
/// dev_is_mac_header_xmit has it.
pub(super) const WITHOUT_HEADER: [u16; 8] = [768, 769, 776, 778, 823, 512, 519, 65534];
/// ARPHRD_LOOPBACK.
pub(super) const LOOPBACK: u16 = 772;

/// RT_SCOPE_LINK: addresses of this scope and narrower ones mean nothing beyond the link.
const SCOPE_LINK: u8 = 253;

/// Everything that was dumped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The links of this namespace by their index.
    pub links: BTreeMap<u32, Link>,
    /// Addresses in this namespace.
    pub addresses: Addresses,
    /// Addresses in the namespaces that links lead to, by the id that this namespace has for them. One that could not
    /// be asked is missing.
    pub peers: BTreeMap<i32, Addresses>,
}

/// Addresses of a namespace by the index of the link that carries them.
pub type Addresses = BTreeMap<u32, Vec<Carried>>;

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// What made it ("veth", "bridge"); empty for hardware.
    pub kind: String,
    /// ARPHRD_*: what its packets begin with.
    pub hardware: u16,
    /// Whether it is administratively up.
    pub up: bool,
    /// The bridge, bond or VRF that it is a port of.
    pub master: Option<u32>,
    /// The index of its peer or lower link, in the namespace `nsid` if there is one.
    pub peer: Option<u32>,
    /// The namespace of its peer, if that is another one than this.
    pub nsid: Option<i32>,
    /// Whether its peer there is a port of a bridge. Asked only of links that carry a global address.
    pub peer_is_port: bool,
}

/// An address on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The link's own address.
    pub address: IpAddr,
    /// RT_SCOPE_*.
    pub scope: u8,
}

impl Carried {
    /// Whether others beyond the link can know it.
    #[must_use]
    pub fn is_global(&self) -> bool {
        self.scope < SCOPE_LINK && !self.address.is_loopback()
    }
}

/// The addresses of a link that others beyond it can know, in the order in which the kernel lists them: primary first.
pub(super) fn global(addresses: &Addresses, index: u32) -> impl Iterator<Item = IpAddr> {
    let carried = addresses.get(&index).map_or(&[][..], Vec::as_slice);
    carried
        .iter()
        .filter(|carried| carried.is_global())
        .map(|carried| carried.address)
}
