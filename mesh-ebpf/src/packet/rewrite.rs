//! Stage Rewrite: the new address and port go into the packet, with every checksum that covers them. In: the target.
//! Ingress hooks rewrite the destination, egress hooks the source.

use mesh_common::{Address, Direction, FragmentKey, FragmentPorts, Port, Reason};

use super::{
    checksum::Difference,
    state::{Family, Fragment, PacketState, PacketStep, PacketVerdict, drop},
};
use crate::{Broken, Covers, Env, Packet};

#[inline(always)]
pub(super) fn stage<E: Env, P: Packet>(
    env: &E,
    packet: &mut P,
    state: &mut PacketState,
) -> PacketStep {
    if state.fragment == Fragment::First {
        let key = FragmentKey::new(
            state.key.direction(),
            state.key.protocol(),
            state.key.source().0,
            state.key.destination().0,
            state.fragment_id,
        );
        env.set_fragment(&key, &FragmentPorts::of(&state.key, state.fragment_id));
    }
    match write(packet, state) {
        Ok(()) => PacketStep::Done(PacketVerdict::Forward),
        Err(Broken) => drop(Reason::Inconsistent),
    }
}

#[inline(always)]
fn write<P: Packet>(packet: &mut P, state: &PacketState) -> Result<(), Broken> {
    let is_v4 = state.family == Family::V4;
    let side = Side::rewritten(state.key.direction());
    let (address, port) = match side {
        Side::Destination => state.key.destination(),
        Side::Source => state.key.source(),
    };
    let difference = Difference::of_addresses(is_v4, address, state.target.0);
    if state.fragment == Fragment::Later {
        return write_address(packet, state, side, difference);
    }
    // Checksums first: for that the offsets are certain.
    update_checksums(packet, state, difference, port)?;
    if state.transport as u32 == packet.network() + header_length(state.family) {
        return write_all(packet, state, side, difference);
    }
    write_address(packet, state, side, difference)?;
    if port == state.target.1 {
        return Ok(());
    }
    let at = if side == Side::Source { 0 } else { 2 };
    let target = state.target.1.to_be().to_ne_bytes();
    packet.store(u32::from(state.transport) + at, &target)
}

/// Of an IP header without options.
const fn header_length(family: Family) -> u32 {
    match family {
        Family::V4 => 20,
        Family::V6 => 40,
    }
}

/// Addresses and ports lie side by side, and the checksum before them: one call of a helper.
#[inline(always)]
fn write_all<P: Packet>(
    packet: &mut P,
    state: &PacketState,
    side: Side,
    difference: Difference,
) -> Result<(), Broken> {
    let ((source, source_port), (destination, port)) = match side {
        Side::Source => (state.target, state.key.destination()),
        Side::Destination => (state.key.source(), state.target),
    };
    let network = packet.network();
    let [i, j] = source_port.to_be().to_ne_bytes();
    let [k, l] = port.to_be().to_ne_bytes();
    if state.family == Family::V4 {
        let checksum = difference.apply(state.checksum).to_ne_bytes();
        let [a, b, c, d] = source.v4_word().to_ne_bytes();
        let [e, f, g, h] = destination.v4_word().to_ne_bytes();
        let bytes = [checksum[0], checksum[1], a, b, c, d, e, f, g, h, i, j, k, l];
        return packet.store(network + 10, &bytes);
    }
    let mut bytes = [0; 20];
    bytes[16..].copy_from_slice(&[i, j, k, l]);
    match side {
        Side::Source => {
            packet.store(network + 8, &v6_bytes(source))?;
            packet.store(network + 40, &[i, j, k, l])
        }
        Side::Destination => {
            bytes[..16].copy_from_slice(&v6_bytes(destination));
            packet.store(network + 24, &bytes)
        }
    }
}

/// Source or destination.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
}

impl Side {
    #[inline(always)]
    pub(super) const fn rewritten(direction: Direction) -> Self {
        match direction {
            Direction::Ingress => Self::Destination,
            Direction::Egress => Self::Source,
        }
    }
}

/// Puts the target's address into the IP header. `difference` is between the addresses.
#[inline(always)]
pub(super) fn write_address<P: Packet>(
    packet: &mut P,
    state: &PacketState,
    side: Side,
    difference: Difference,
) -> Result<(), Broken> {
    let network = packet.network();
    match state.family {
        Family::V4 => {
            let checksum = difference.apply(state.checksum).to_ne_bytes();
            let (mut source, mut destination) = (state.key.source().0, state.key.destination().0);
            match side {
                Side::Source => source = state.target.0,
                Side::Destination => destination = state.target.0,
            }
            let [a, b, c, d] = source.v4_word().to_ne_bytes();
            let [e, f, g, h] = destination.v4_word().to_ne_bytes();
            // Checksum and both addresses lie side by side: one call of a helper instead of two.
            let bytes = [checksum[0], checksum[1], a, b, c, d, e, f, g, h];
            packet.store(network + 10, &bytes)
        }
        Family::V6 => {
            let at = if side == Side::Source { 8 } else { 24 };
            packet.store(network + at, &v6_bytes(state.target.0))
        }
    }
}

/// An address as an IPv6 header has it.
#[inline(always)]
pub(super) fn v6_bytes(address: Address) -> [u8; 16] {
    let [a, b, c, d] = address.words().map(u32::to_ne_bytes);
    [
        a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2],
        d[3],
    ]
}

/// Where a transport's checksum is, and whether 0 means that there is none.
#[inline(always)]
pub(super) const fn checksum_place(is_tcp: bool) -> (u32, bool) {
    if is_tcp { (16, false) } else { (6, true) }
}

#[inline(always)]
fn update_checksums<P: Packet>(
    packet: &mut P,
    state: &PacketState,
    difference: Difference,
    port: Port,
) -> Result<(), Broken> {
    let (checksum, optional) = checksum_place(state.is_tcp());
    let place = u32::from(state.transport) + checksum;
    let covers = Covers::pseudo_header(state.family);
    packet.update_checksum(place, difference, covers, optional)?;
    if port == state.target.1 {
        return Ok(());
    }
    let difference = Difference::of_ports(port, state.target.1);
    packet.update_checksum(place, difference, Covers::Payload, optional)
}
