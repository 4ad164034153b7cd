//! Stage Icmp: an error about a packet of a flow. It goes the way of the replies to that packet, so it is rewritten as
//! they are, outside and inside: outside its destination or source, inside the other end. Without it no path MTU would
//! be found behind a Service.

use mesh_common::{Address, Direction, FlowKey, Port, Protocol, Reason};

use super::{
    checksum::Difference,
    extension::{self, Upper},
    header,
    parse::{ICMP, ICMPV6, OFFSET},
    rewrite::{Side, checksum_place, write_address},
    state::{Family, Fragment, PASS, PacketState, PacketStep, PacketVerdict, drop},
};
use crate::{Broken, Covers, Env, FlowEntry, Packet};

/// The packet that the error is about, as far as the error has it.
struct Inner {
    source: (Address, Port),
    destination: (Address, Port),
    protocol: Protocol,
    /// Offset of its IP header.
    network: u32,
    /// Offset of its transport header.
    transport: u32,
    /// Its IPv4 header's checksum.
    checksum: u16,
}

#[inline(always)]
pub(super) fn stage<E: Env, P: Packet>(
    env: &E,
    packet: &mut P,
    state: &mut PacketState,
) -> PacketStep {
    let Some(inner) = read(packet, state) else {
        return PASS;
    };
    let direction = state.hook.direction();
    let key = FlowKey::new(direction, inner.protocol, inner.destination, inner.source);
    let Some(found) = env.flow(&key) else {
        return PASS;
    };
    let value = found.value();
    let target = value.target();
    // An error goes to whom the packet came from, or it is about nothing that was sent.
    let is_answer = state.key.destination().0 == key.destination().0;
    if !is_answer || target.1.to_be() == 0 {
        return PASS;
    }
    state.target = target;
    let outer = match direction {
        Direction::Ingress => Some((Side::Destination, state.key.destination().0)),
        // A router on the way speaks for itself; the flow's end speaks as what stands for it.
        Direction::Egress if state.key.source().0 == key.source().0 => {
            Some((Side::Source, key.source().0))
        }
        Direction::Egress => None,
    };
    match write(packet, state, &inner, outer) {
        Ok(()) => PacketStep::Done(PacketVerdict::Forward),
        Err(Broken) => drop(Reason::Inconsistent),
    }
}

#[inline(always)]
fn read<P: Packet>(packet: &P, state: &PacketState) -> Option<Inner> {
    let network = u32::from(state.transport) + 8;
    let (source, destination, upper, checksum) = match state.family {
        Family::V4 => v4(packet, network)?,
        Family::V6 => v6(packet, network)?,
    };
    let protocol = match upper.protocol {
        ICMP | ICMPV6 => return None,
        number => Protocol::from_number(number)?,
    };
    let ports = packet.load::<4>(upper.offset)?;
    let port = |at: usize| Port::from_be(u16::from_ne_bytes([ports[at], ports[at + 1]]));
    Some(Inner {
        source: (source, port(0)),
        destination: (destination, port(2)),
        protocol,
        network,
        transport: upper.offset,
        checksum,
    })
}

#[inline(always)]
fn v4<P: Packet>(packet: &P, network: u32) -> Option<(Address, Address, Upper, u16)> {
    let header = packet.load::<20>(network)?;
    let length = header::v4_length(&header)?;
    // Of a later fragment there are no ports.
    if u16::from_be_bytes([header[6], header[7]]) & OFFSET != 0 {
        return None;
    }
    let (source, destination) = header::v4_addresses(&header);
    let upper = Upper {
        protocol: header[9],
        offset: network + length,
    };
    let checksum = u16::from_ne_bytes([header[10], header[11]]);
    Some((source, destination, upper, checksum))
}

#[inline(always)]
fn v6<P: Packet>(packet: &P, network: u32) -> Option<(Address, Address, Upper, u16)> {
    let header = packet.load::<40>(network)?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let (source, destination) = header::v6_addresses(&header);
    let first = Upper {
        protocol: header[6],
        offset: network + 40,
    };
    let walked = extension::walk::<{ extension::MOST_INNER }, P>(packet, first)?;
    if walked.fragment == Fragment::Later {
        return None;
    }
    Some((source, destination, walked.upper, 0))
}

/// Rewrites the inner end that stands against the outer one: at ingress its source, at egress its destination.
#[inline(always)]
fn write<P: Packet>(
    packet: &mut P,
    state: &PacketState,
    inner: &Inner,
    outer: Option<(Side, Address)>,
) -> Result<(), Broken> {
    let is_v4 = state.family == Family::V4;
    let icmp = u32::from(state.transport) + 2;
    let (address, port) = match state.hook.direction() {
        Direction::Ingress => inner.source,
        Direction::Egress => inner.destination,
    };
    let difference = Difference::of_addresses(is_v4, address, state.target.0);
    write_inner_transport(packet, state, inner, difference, port)?;
    write_inner_address(packet, state, inner, difference)?;
    if let Some((side, from)) = outer {
        let difference = Difference::of_addresses(is_v4, from, state.target.0);
        if !is_v4 {
            let covers = Covers::pseudo_header(state.family);
            packet.update_checksum(icmp, difference, covers, false)?;
        }
        write_address(packet, state, side, difference)?;
    }
    Ok(())
}

#[inline(always)]
fn write_inner_address<P: Packet>(
    packet: &mut P,
    state: &PacketState,
    inner: &Inner,
    difference: Difference,
) -> Result<(), Broken> {
    let is_source = state.hook.direction() == Direction::Ingress;
    match state.family {
        // What the address adds to ICMP's checksum the header's own checksum takes away again.
        Family::V4 => {
            let checksum = difference.apply(inner.checksum).to_ne_bytes();
            packet.store(inner.network + 10, &checksum)?;
            let at = if is_source { 12 } else { 16 };
            packet.store(inner.network + at, &state.target.0.v4_word().to_ne_bytes())
        }
        Family::V6 => {
            let icmp = u32::from(state.transport) + 2;
            packet.update_checksum(icmp, difference, Covers::Payload, false)?;
            let at = if is_source { 8 } else { 24 };
            packet.store_words(inner.network + at, &state.target.0.words())
        }
    }
}

/// The port, and the checksum if the error has that much of the packet; ICMP's own checksum covers both.
#[inline(always)]
fn write_inner_transport<P: Packet>(
    packet: &mut P,
    state: &PacketState,
    inner: &Inner,
    addresses: Difference,
    port: Port,
) -> Result<(), Broken> {
    let icmp = u32::from(state.transport) + 2;
    let ports = Difference::of_ports(port, state.target.1);
    packet.update_checksum(icmp, ports, Covers::Payload, false)?;
    let at = match state.hook.direction() {
        Direction::Ingress => 0,
        Direction::Egress => 2,
    };
    let bytes = state.target.1.to_be().to_ne_bytes();
    packet.store(inner.transport + at, &bytes)?;
    let (place, optional) = checksum_place(inner.protocol == Protocol::Tcp);
    let Some(old) = packet.load::<2>(inner.transport + place) else {
        return Ok(());
    };
    let old = u16::from_ne_bytes(old);
    if optional && old == 0 {
        return Ok(());
    }
    // As in a packet of its own, 0 would say that there is none.
    let new = match ports.apply(addresses.apply(old)) {
        0 if optional => 0xffff,
        new => new,
    };
    let change = Difference::of_halves(old, new);
    packet.update_checksum(icmp, change, Covers::Payload, false)?;
    packet.store(inner.transport + place, &new.to_ne_bytes())
}
