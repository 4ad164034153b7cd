//! Flows that the kernel's own conntrack (nf_conntrack) translates: asked of it by netlink. Only those whose destination
//! is rewritten are of interest, as kube-proxy's rules do it.

use std::io;

use mesh_common::{Address, Port, Protocol};

use super::{
    Request, Socket, attributes, flag,
    message::{Attributes, read_u16},
};

/// From uapi/linux/netfilter/nfnetlink_conntrack.h: subsystem 1, and CT_GET and CT_NEW in it.
const GET: u16 = 1 << 8 | 1;
const NEW: u16 = 1 << 8;

/// nfgenmsg: family (0 is all), version, resource.
pub(super) const BODY: [u8; 4] = [0; 4];

/// Attributes of a flow.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const STATUS: u16 = 3;
const TIMEOUT: u16 = 7;
/// Of a tuple.
const ADDRESSES: u16 = 1;
const PROTOCOL: u16 = 2;
/// Of a tuple's addresses: source and destination, IPv4 and IPv6.
const SOURCES: [u16; 2] = [1, 3];
const DESTINATIONS: [u16; 2] = [2, 4];
/// Of a tuple's protocol.
const NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;

/// Bits of the status.
const ASSURED: u32 = 1 << 2;
const SOURCE_REWRITTEN: u32 = 1 << 4;
pub(super) const DESTINATION_REWRITTEN: u32 = 1 << 5;

/// A flow whose destination is rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Translated {
    pub(crate) protocol: Protocol,
    /// Who sent the first packet.
    pub(crate) client: (Address, Port),
    /// Where it was sent to.
    pub(crate) frontend: (Address, Port),
    /// Where it went.
    pub(crate) backend: (Address, Port),
    /// Whom the backend answers: the client, or what stands for it.
    pub(crate) answered: (Address, Port),
    /// Both sides have spoken for a while.
    pub(crate) is_assured: bool,
    /// Seconds of silence until it is forgotten.
    pub(crate) timeout: u32,
}

/// Every such flow of this thread's namespace. A kernel that has no conntrack has none.
pub(crate) fn translated(mut see: impl FnMut(Translated)) -> io::Result<()> {
    each(|body| {
        if let Some(flow) = parse(body) {
            see(flow);
        }
    })
}

/// How many flows are translated in any way: the source's port too may be another, so that two flows do not mix.
pub(crate) fn count_translated() -> io::Result<u64> {
    let mut count = 0;
    each(|body| {
        let status = number(attributes(body, BODY.len()), STATUS).unwrap_or(0);
        count += u64::from(status & (SOURCE_REWRITTEN | DESTINATION_REWRITTEN) != 0);
    })?;
    Ok(count)
}

fn each(see: impl FnMut(&[u8])) -> io::Result<()> {
    let request = Request::new(GET, flag::DUMP, &BODY);
    let result = Socket::netfilter().and_then(|mut socket| socket.each(request, NEW, see));
    match result {
        Err(error) if is_without(&error) => Ok(()),
        result => result.map(drop),
    }
}

/// nfnetlink says EINVAL for a subsystem that it does not have.
fn is_without(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT)
    )
}

fn parse(body: &[u8]) -> Option<Translated> {
    let flow = attributes(body, BODY.len());
    let status = number(flow, STATUS)?;
    if status & DESTINATION_REWRITTEN == 0 {
        return None;
    }
    let (original, reply) = (tuple(flow.nested(ORIGINAL))?, tuple(flow.nested(REPLY))?);
    Some(Translated {
        protocol: original.protocol,
        client: original.source,
        frontend: original.destination,
        backend: reply.source,
        answered: reply.destination,
        is_assured: status & ASSURED != 0,
        timeout: number(flow, TIMEOUT).unwrap_or(0),
    })
}

struct Tuple {
    protocol: Protocol,
    source: (Address, Port),
    destination: (Address, Port),
}

fn tuple(tuple: Attributes<'_>) -> Option<Tuple> {
    let (addresses, protocol) = (tuple.nested(ADDRESSES), tuple.nested(PROTOCOL));
    let number = *protocol.get(NUMBER)?.first()?;
    let all = [Protocol::Tcp, Protocol::Udp];
    let port = |kind| Some(Port::from_be(read_u16(protocol.get(kind)?, 0)?));
    Some(Tuple {
        protocol: all.into_iter().find(|it| it.number() == number)?,
        source: (address(addresses, SOURCES)?, port(SOURCE_PORT)?),
        destination: (address(addresses, DESTINATIONS)?, port(DESTINATION_PORT)?),
    })
}

fn address(addresses: Attributes<'_>, [v4, v6]: [u16; 2]) -> Option<Address> {
    if let Some(bytes) = addresses.get(v4) {
        let bytes: [u8; 4] = bytes.try_into().ok()?;
        return Some(std::net::IpAddr::from(bytes).into());
    }
    let bytes: [u8; 16] = addresses.get(v6)?.try_into().ok()?;
    Some(std::net::IpAddr::from(bytes).into())
}

/// Unlike those of the routing family, numbers of this one are in network order.
fn number(attributes: Attributes<'_>, kind: u16) -> Option<u32> {
    attributes.number(kind).map(u32::from_be)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::messages;

    fn tuple(request: Request, kind: u16, ends: [([u8; 4], u16); 2]) -> Request {
        let [(source, source_port), (destination, destination_port)] = ends;
        request.with_nested(kind, |tuple| {
            tuple
                .with_nested(ADDRESSES, |it| it.with(1, &source).with(2, &destination))
                .with_nested(PROTOCOL, |it| {
                    it.with(NUMBER, &[17])
                        .with(SOURCE_PORT, &source_port.to_be_bytes())
                        .with(DESTINATION_PORT, &destination_port.to_be_bytes())
                })
        })
    }

    fn flow(status: u32) -> Option<Translated> {
        let (client, vip) = (([10, 0, 0, 1], 4000), ([10, 96, 0, 10], 53));
        let (backend, node) = (([10, 0, 1, 9], 5353), ([192, 168, 0, 1], 4001));
        let request = tuple(Request::new(NEW, 0, &BODY), ORIGINAL, [client, vip]);
        let request = tuple(request, REPLY, [backend, node])
            .with(STATUS, &status.to_be_bytes())
            .with(TIMEOUT, &77_u32.to_be_bytes());
        let bytes = request.finish(1);
        messages(&bytes).next().and_then(|it| parse(it.body))
    }

    #[test]
    fn a_flow_is_read() {
        let end =
            |address: [u8; 4], port| (std::net::IpAddr::from(address).into(), Port::new(port));
        let expected = Translated {
            protocol: Protocol::Udp,
            client: end([10, 0, 0, 1], 4000),
            frontend: end([10, 96, 0, 10], 53),
            backend: end([10, 0, 1, 9], 5353),
            answered: end([192, 168, 0, 1], 4001),
            is_assured: true,
            timeout: 77,
        };
        assert_eq!(flow(DESTINATION_REWRITTEN | ASSURED), Some(expected));
        assert_eq!(flow(ASSURED), None);
    }
}
