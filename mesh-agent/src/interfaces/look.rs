//! One look: links, their addresses, then the addresses in every namespace that a link leads to. The links come first,
//! because it is their dump that gives namespaces the ids they are asked by.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::snapshot::{Addresses, Carried, Link, Snapshot, global};
use crate::netlink::{Request, Socket, attributes, flag, kind, read_u16, read_u32};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IFF_UP: u32 = 1;

/// Attributes of links.
mod ifla {
    pub(super) const IFNAME: u16 = 3;
    pub(super) const LINK: u16 = 5;
    pub(super) const MASTER: u16 = 10;
    pub(super) const LINKINFO: u16 = 18;
    pub(super) const INFO_KIND: u16 = 1;
    pub(super) const EXT_MASK: u16 = 29;
    pub(super) const LINK_NETNSID: u16 = 37;
    pub(super) const TARGET_NETNSID: u16 = 46;
    /// RTEXT_FILTER_SKIP_STATS: counters are long and not wanted.
    pub(super) const SKIP_STATS: u32 = 1 << 3;
}

/// Attributes of addresses.
mod ifa {
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const LOCAL: u16 = 2;
    pub(super) const TARGET_NETNSID: u16 = 10;
}

/// Lengths of ifinfomsg and ifaddrmsg.
const LINK_BODY: usize = 16;
const ADDRESS_BODY: usize = 8;

/// Asks the kernel for everything.
pub(super) fn look(socket: &mut Socket) -> io::Result<Snapshot> {
    let request = Request::new(kind::GETLINK, flag::DUMP, &[0; LINK_BODY])
        .with(ifla::EXT_MASK, &ifla::SKIP_STATS.to_ne_bytes());
    let links = socket.dump(&request, kind::NEWLINK)?;
    let mut snapshot = Snapshot {
        links: links.iter().filter_map(|body| link(body)).collect(),
        addresses: addresses(socket, None)?,
        ..Default::default()
    };
    for (&index, link) in &mut snapshot.links {
        if global(&snapshot.addresses, index).next().is_some() {
            link.peer_is_port = peer_is_port(socket, link);
        }
    }
    let lead_to = snapshot.links.values().filter_map(|link| link.nsid);
    for nsid in lead_to.collect::<BTreeSet<_>>() {
        match addresses(socket, Some(nsid)) {
            Ok(found) => drop(snapshot.peers.insert(nsid, found)),
            Err(error) => tracing::debug!(nsid, %error, "a namespace's addresses are not told"),
        }
    }
    Ok(snapshot)
}

/// Asks the peer's namespace. One that may not be asked, or is gone, says no.
fn peer_is_port(socket: &mut Socket, link: &Link) -> bool {
    let (Some(peer), Some(nsid)) = (link.peer, link.nsid) else {
        return false;
    };
    let mut body = [0; LINK_BODY];
    body[4..8].copy_from_slice(&peer.to_ne_bytes());
    let request = Request::new(kind::GETLINK, flag::ACK, &body)
        .with(ifla::TARGET_NETNSID, &nsid.to_ne_bytes())
        .with(ifla::EXT_MASK, &ifla::SKIP_STATS.to_ne_bytes());
    let answer = socket.ask(request).ok().flatten();
    let peer = answer.and_then(|body| self::link(&body));
    peer.is_some_and(|(_, peer)| peer.master.is_some())
}

fn link(body: &[u8]) -> Option<(u32, Link)> {
    let found = attributes(body, LINK_BODY);
    let index = read_u32(body, 4)?;
    let info = found.nested(ifla::LINKINFO);
    let link = Link {
        name: found.text(ifla::IFNAME)?,
        kind: info.text(ifla::INFO_KIND).unwrap_or_default(),
        hardware: read_u16(body, 2)?,
        up: read_u32(body, 8)? & IFF_UP != 0,
        master: found.number(ifla::MASTER),
        peer: found.number(ifla::LINK),
        nsid: found.number(ifla::LINK_NETNSID).map(u32::cast_signed),
        peer_is_port: false,
    };
    Some((index, link))
}

/// Both families one after the other: asked for all at once, the namespace does not count on every kernel.
fn addresses(socket: &mut Socket, nsid: Option<i32>) -> io::Result<Addresses> {
    let mut all = Addresses::new();
    for family in [AF_INET, AF_INET6] {
        let mut body = [0; ADDRESS_BODY];
        body[0] = family;
        let mut request = Request::new(kind::GETADDR, flag::DUMP, &body);
        if let Some(nsid) = nsid {
            request = request.with(ifa::TARGET_NETNSID, &nsid.to_ne_bytes());
        }
        for body in socket.dump(&request, kind::NEWADDR)? {
            // Without IPv6 the kernel answers with every family that it has.
            if let Some((index, carried)) = address(&body).filter(|_| body[0] == family) {
                all.entry(index).or_default().push(carried);
            }
        }
    }
    Ok(all)
}

fn address(body: &[u8]) -> Option<(u32, Carried)> {
    let found = attributes(body, ADDRESS_BODY);
    let value = found.get(ifa::LOCAL).or_else(|| found.get(ifa::ADDRESS))?;
    let address = match *body.first()? {
        AF_INET => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?)),
        AF_INET6 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?)),
        _ => return None,
    };
    let scope = *body.get(3)?;
    Some((read_u32(body, 4)?, Carried { address, scope }))
}
