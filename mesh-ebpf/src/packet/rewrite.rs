//! Stage Rewrite: the new address and port go into the packet, with every checksum that covers them. In: the target.
//! Ingress hooks rewrite the destination, egress hooks the source.

use mesh_common::{Direction, FragmentKey, FragmentPorts, Port, Reason};

use super::{
    checksum::Difference,
    direct::{V4_TCP, V6_TCP},
    state::{Family, Fragment, PacketState, PacketStep, PacketVerdict, drop},
};
use crate::{Broken, Covers, Env, Packet};

#[inline(always)]
pub(super) fn stage<E: Env, P: Packet>(
    env: &E,
    packet: &mut P,
    state: &mut PacketState,
) -> PacketStep {
    rewrite(env, packet, state, |_, _| None)
}

/// The same for a packet as `direct::parse` reads it: where its TCP checksum lies is known.
#[inline(always)]
pub(super) fn direct<E: Env, P: Packet>(
    env: &E,
    packet: &mut P,
    state: &mut PacketState,
) -> PacketStep {
    rewrite(env, packet, state, tcp_checksum)
}

#[inline(always)]
fn rewrite<E: Env, P: Packet>(
    env: &E,
    packet: &mut P,
    state: &mut PacketState,
    checksum_of: impl Fn(&P, &PacketState) -> Option<u16>,
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
    match write(packet, state, checksum_of) {
        Ok(()) => PacketStep::Done(PacketVerdict::Forward),
        Err(Broken) => drop(Reason::Inconsistent),
    }
}

#[inline(always)]
fn write<P: Packet>(
    packet: &mut P,
    state: &PacketState,
    checksum_of: impl Fn(&P, &PacketState) -> Option<u16>,
) -> Result<(), Broken> {
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
    update_checksums(packet, state, (difference, port), checksum_of)?;
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
    let ports = u32::from(source_port.to_be()) | u32::from(port.to_be()) << 16;
    if state.family == Family::V4 {
        let third = changed_third(state.third, difference);
        let words = [third, source.v4_word(), destination.v4_word(), ports];
        return packet.store_words(network + 8, &words);
    }
    let [e, f, g, h] = destination.words();
    match side {
        Side::Destination => packet.store_words(network + 24, &[e, f, g, h, ports]),
        Side::Source => {
            let [a, b, c, d] = source.words();
            packet.store_words(network + 8, &[a, b, c, d, e, f, g, h, ports])
        }
    }
}

/// The third word of an IPv4 header with the checksum changed: its last two bytes.
#[inline(always)]
fn changed_third(third: u32, difference: Difference) -> u32 {
    let [a, b, c, d] = third.to_ne_bytes();
    let [c, d] = difference.apply(u16::from_ne_bytes([c, d])).to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
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
            let (mut source, mut destination) = (state.key.source().0, state.key.destination().0);
            match side {
                Side::Source => source = state.target.0,
                Side::Destination => destination = state.target.0,
            }
            let third = changed_third(state.third, difference);
            packet.store_words(
                network + 8,
                &[third, source.v4_word(), destination.v4_word()],
            )
        }
        Family::V6 => {
            let at = if side == Side::Source { 8 } else { 24 };
            packet.store_words(network + at, &state.target.0.words())
        }
    }
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
    (difference, port): (Difference, Port),
    checksum_of: impl Fn(&P, &PacketState) -> Option<u16>,
) -> Result<(), Broken> {
    let (checksum, optional) = checksum_place(state.is_tcp());
    let place = u32::from(state.transport) + checksum;
    let covers = Covers::pseudo_header(state.family);
    let before = checksum_of(packet, state);
    packet.update_checksum(place, difference, covers, optional)?;
    if port == state.target.1 {
        return Ok(());
    }
    // Where a device or the receiver's kernel has yet to finish the sum (CHECKSUM_PARTIAL), as with most TCP that a pod sends
    // by a veth, there is that of addresses alone, not inverted. The kernel changes it the other way, by which it is known,
    // and has nothing to do for ports. A whole one is after the change exactly what the kernel's arithmetic makes of it.
    if let (Some(before), Some(after)) = (before, checksum_of(packet, state))
        && after != difference.apply(before)
    {
        return Ok(());
    }
    let difference = Difference::of_ports(port, state.target.1);
    packet.update_checksum(place, difference, Covers::Payload, optional)
}

/// TCP's, as it lies in memory behind an IP header without options.
#[inline(always)]
fn tcp_checksum<P: Packet>(packet: &P, state: &PacketState) -> Option<u16> {
    if !state.is_tcp() {
        return None;
    }
    let word = match state.family {
        Family::V4 => packet.words::<V4_TCP>()?[V4_TCP - 1],
        Family::V6 => packet.words::<V6_TCP>()?[V6_TCP - 1],
    };
    let [a, b, ..] = word.to_ne_bytes();
    Some(u16::from_ne_bytes([a, b]))
}
