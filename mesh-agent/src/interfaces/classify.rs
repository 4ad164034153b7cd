//! What each interface is to the node: a local pod's host-side interface, a device, or of a kind that the packet path
//! cannot serve. In comes a snapshot and what `--device` says, out go `Interfaces`; nothing else counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use mesh_ebpf::LinkHeader;

use super::snapshot::{ETHERNET, LOOPBACK, Link, Snapshot, WITHOUT_HEADER, global};

/// What people ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The names that `--device` gives; None if it was not given.
    pub devices: Option<Vec<String>>,
}

/// The node's interfaces by their part in the packet path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// Host-side interfaces of local pods, by index.
    pub pods: BTreeMap<u32, PodLink>,
    /// The node's devices, by index.
    pub devices: BTreeMap<u32, Device>,
    /// Interfaces that may matter and are not served, by name.
    pub others: BTreeMap<String, Unserved>,
    /// Names that `--device` gives and no interface has.
    pub unknown_devices: Vec<String>,
}

/// The host's end of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodLink {
    /// The interface's name.
    pub name: String,
    /// The id that this namespace has for the pod's; None for a virtual machine's tap.
    pub nsid: Option<i32>,
    /// The pod's addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// Counts pods as they were first seen: the newest has the highest. An index or a name can be used again, this not.
    pub first_seen: u64,
}

/// An interface by which the node is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// The interface's name.
    pub name: String,
    /// What its packets begin with.
    pub header: LinkHeader,
    /// Its global addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// The primary one of IPv4, which translated sources get.
    pub v4: Option<Ipv4Addr>,
    /// The primary one of IPv6.
    pub v6: Option<Ipv6Addr>,
}

/// Why an interface is neither pod nor device although one might take it for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unserved {
    /// Its pods answer by another way than a veth.
    #[error(
        "pods behind a {0} have no interface of their own on the host; sockets in them are served, packets are not"
    )]
    PodKind(&'static str),
    /// InfiniBand and the like.
    #[error(
        "its packets have a link header that is not Ethernet's; what comes in by it is not served as a NodePort"
    )]
    OtherHeader,
    /// A bridge of pods: its ports are served.
    #[error(
        "it is a bridge that local pods are ports of; they are served, and the node is not reached by it"
    )]
    PodBridge,
}

/// What a kind of link means for pods behind it.
const OTHER_POD_KINDS: [&str; 5] = ["macvlan", "macvtap", "ipvlan", "ipvtap", "netkit"];

/// Decides each interface's part.
#[must_use]
pub fn classify(snapshot: &Snapshot, options: &Options) -> Interfaces {
    let asked = |link: &Link| match &options.devices {
        Some(names) => names.contains(&link.name),
        None => false,
    };
    let mut found = Interfaces::default();
    for (&index, link) in &snapshot.links {
        if !asked(link) && is_pod(snapshot, index, link) {
            found.pods.insert(index, pod(snapshot, link));
        }
    }
    let bridges: BTreeSet<u32> = found
        .pods
        .keys()
        .filter_map(|index| snapshot.links.get(index)?.master)
        .collect();
    for (&index, link) in &snapshot.links {
        if found.pods.contains_key(&index) {
            continue;
        }
        let part = match &options.devices {
            Some(_) if asked(link) => named(link),
            Some(_) => other_pods(link).map_or(Part::None, Part::Other),
            None => found_by_itself(snapshot, index, link, bridges.contains(&index)),
        };
        match part {
            Part::Device(header) => {
                let device = device(snapshot, index, link, header);
                found.devices.insert(index, device);
            }
            Part::Other(why) => drop(found.others.insert(link.name.clone(), why)),
            Part::None => {}
        }
    }
    found.unknown_devices = unknown(snapshot, options);
    found
}

enum Part {
    Device(LinkHeader),
    Other(Unserved),
    None,
}

/// A veth into another namespace, or a virtual machine's tap. A veth that carries a global address and leads to a port of
/// a bridge is the node's own uplink: the node is a container itself. (The host's side of a pod may carry the gateway's
/// address, but leads to the pod's own interface.)
fn is_pod(snapshot: &Snapshot, index: u32, link: &Link) -> bool {
    match (link.kind.as_str(), link.nsid) {
        ("veth", Some(_)) => {
            let carries = global(&snapshot.addresses, index).next().is_some();
            !(carries && link.peer_is_port)
        }
        ("tun", _) => link.hardware == ETHERNET,
        _ => false,
    }
}

fn pod(snapshot: &Snapshot, link: &Link) -> PodLink {
    let addresses = link
        .nsid
        .and_then(|nsid| peer_addresses(snapshot, link, nsid));
    PodLink {
        name: link.name.clone(),
        nsid: link.nsid,
        addresses: addresses.unwrap_or_default(),
        first_seen: 0,
    }
}

/// What the peer carries; None if that namespace could not be asked. Other links in a pod (a bridge of containers in
/// it) have addresses that many pods share.
fn peer_addresses(snapshot: &Snapshot, link: &Link, nsid: i32) -> Option<BTreeSet<IpAddr>> {
    let addresses = snapshot.peers.get(&nsid)?;
    Some(global(addresses, link.peer?).collect())
}

fn other_pods(link: &Link) -> Option<Unserved> {
    let kind = OTHER_POD_KINDS.iter().find(|kind| **kind == link.kind)?;
    // Without a peer elsewhere it is the host's own interface of that kind.
    link.nsid.map(|_| Unserved::PodKind(kind))
}

fn named(link: &Link) -> Part {
    match link.hardware {
        ETHERNET => Part::Device(LinkHeader::Ethernet),
        hardware if WITHOUT_HEADER.contains(&hardware) => Part::Device(LinkHeader::None),
        _ => Part::Other(Unserved::OtherHeader),
    }
}

fn found_by_itself(snapshot: &Snapshot, index: u32, link: &Link, has_pods: bool) -> Part {
    if let Some(why) = other_pods(link) {
        return Part::Other(why);
    }
    let carries = global(&snapshot.addresses, index).next().is_some();
    match link.hardware {
        _ if !link.up || !carries => Part::None,
        LOOPBACK => Part::None,
        _ if has_pods => Part::Other(Unserved::PodBridge),
        _ => named(link),
    }
}

fn device(snapshot: &Snapshot, index: u32, link: &Link, header: LinkHeader) -> Device {
    let mut device = Device {
        name: link.name.clone(),
        header,
        ..Default::default()
    };
    for address in global(&snapshot.addresses, index) {
        device.addresses.insert(address);
        match address {
            IpAddr::V4(v4) => drop(device.v4.get_or_insert(v4)),
            IpAddr::V6(v6) => drop(device.v6.get_or_insert(v6)),
        }
    }
    device
}

fn unknown(snapshot: &Snapshot, options: &Options) -> Vec<String> {
    let exists = |name: &String| snapshot.links.values().any(|link| link.name == *name);
    let names = options.devices.iter().flatten();
    names.filter(|name| !exists(name)).cloned().collect()
}

impl Interfaces {
    /// The node's own addresses.
    #[must_use]
    pub fn node_addresses(&self) -> BTreeSet<IpAddr> {
        let all = self.devices.values();
        all.flat_map(|device| device.addresses.iter().copied())
            .collect()
    }
}

#[cfg(test)]
mod tests;
