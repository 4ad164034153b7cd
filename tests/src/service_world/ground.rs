//! What worlds stand on: hosts outside that route to a node, and a node as real ones are.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use service_model::{Ground, PodPlace};

use super::{Side, TARGETS};
use crate::{
    lab::{Node, Pod, netns},
    place::Place,
};

/// What hosts outside route to their node: the Services' range, and what load balancers and external IPs are taken from.
const ROUTED: [&str; 6] = [
    "10.96.0.0/16",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "fd00:10:96::/112",
    "2001:db8:1::/64",
    "2001:db8:2::/64",
];

fn place_of(pod: &Pod) -> Result<PodPlace> {
    let address = pod.address();
    let (Some(v4), Some(v6)) = (address.v4, address.v6) else {
        bail!("{} has one family", pod.name());
    };
    Ok(PodPlace {
        node: pod.node().to_owned(),
        v4: v4.into(),
        v6: v6.into(),
    })
}

pub(super) fn route(outside: &Node, node: &Node) -> Result<()> {
    leave_ports(&outside.host())?;
    let address = node.address();
    for range in ROUTED {
        let via: Option<IpAddr> = match range.contains(':') {
            true => address.v6.map(Into::into),
            false => address.v4.map(Into::into),
        };
        let via = via.context("both families")?;
        outside.host().ip(&format!("route add {range} via {via}"))?;
    }
    Ok(())
}

/// A client's own port stands for it where it is hidden: no process of the node shall choose the same one.
pub(super) fn leave_ports(client: &Place) -> Result<()> {
    let ports = [("ipv4/ip_local_port_range", "2048 29999")];
    client.within(|| netns::sysctls(&ports))
}

/// As every real node has one, a default route; it ends at a bridge without ports. And the kernel would tell one host of
/// at most one refusal a second.
pub(super) fn make_real(node: &Node) -> Result<()> {
    let host = node.host();
    host.ip("link add nowhere type bridge")?;
    host.ip("link set nowhere up")?;
    host.ip("route add default dev nowhere")?;
    host.ip("-6 route add default dev nowhere")?;
    let unlimited = [("ipv4/icmp_ratelimit", "0"), ("ipv6/icmp/ratelimit", "0")];
    host.within(|| netns::sysctls(&unlimited))
}

/// The nodes are in a zone each.
pub(super) fn of(sides: &[Side]) -> Result<Ground> {
    let pods = sides.iter().flat_map(|side| &side.pods);
    let outside = sides.iter().flat_map(|side| side.outside.address().all());
    let nodes = sides.iter().zip(["a", "b"]);
    let nodes = nodes.map(|(side, zone)| service_model::Node {
        name: side.node.name().to_owned(),
        zone: Some(zone.to_owned()),
        addresses: side.node.address().all().collect(),
    });
    Ok(Ground {
        nodes: nodes.collect(),
        places: pods.map(place_of).collect::<Result<_>>()?,
        targets: TARGETS.to_vec(),
        outside: outside.collect(),
        is_wild: false,
    })
}
