//! A tunnel between two nodes: an interface at each, whose packets have no link header.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use super::{
    Address, Node,
    cable::{Cable, Carries, End},
    ip, netns,
};

/// Less than elsewhere: what is too long for it is not sent as it is.
const MTU: u32 = 1400;

/// The tunnel. Its interfaces go when it is dropped.
#[derive(Debug)]
pub struct Tunnel {
    ends: [Node; 2],
    _cable: Cable,
}

impl Tunnel {
    /// The name of its interface at both ends.
    pub const INTERFACE: &'static str = "tun0";

    /// Makes it. A node has one at most.
    pub fn between(one: &Node, two: &Node) -> Result<Self> {
        let (first, second) = (one.host(), two.host());
        let ends = [&first, &second].map(|place| End {
            netns: place.netns(),
            interface: Self::INTERFACE,
        });
        let tunnel = Self {
            _cable: Cable::between(ends, Carries::Packets)?,
            ends: [one.clone(), two.clone()],
        };
        for (place, end) in [(&first, 1), (&second, 2)] {
            netns::within(place.netns(), || ip::batch(&links(end)))?;
        }
        Ok(tunnel)
    }

    /// Its addresses at an end: 172.30.0.1 and fd00:172:30::1, or 2 at the second one.
    #[must_use]
    pub const fn address(end: u8) -> Address {
        Address {
            v4: Some(Ipv4Addr::new(172, 30, 0, end)),
            v6: Some(Ipv6Addr::new(0xfd00, 0x172, 0x30, 0, 0, 0, 0, end as u16)),
        }
    }

    /// From now on the nodes reach each other's pods by it.
    pub fn carry_pods(&self) -> Result<()> {
        let [one, two] = &self.ends;
        for (node, other) in [(one, two), (two, one)] {
            let (v4, v6) = other.pod_ranges();
            let lines =
                [v4, v6].map(|range| format!("route replace {range} dev {}", Self::INTERFACE));
            netns::within(node.host().netns(), || ip::batch(&lines))?;
        }
        Ok(())
    }
}

fn links(end: u8) -> Vec<String> {
    let name = Tunnel::INTERFACE;
    let address = Tunnel::address(end);
    let mut lines = vec![format!("link set {name} mtu {MTU} up")];
    lines.extend(address.v4.map(|v4| format!("addr add {v4}/24 dev {name}")));
    let v6 = address.v6;
    lines.extend(v6.map(|v6| format!("addr add {v6}/64 dev {name} nodad")));
    lines
}
