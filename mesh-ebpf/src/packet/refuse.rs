//! Stage Refuse: the packet becomes the answer that tells its sender that nobody is there: for TCP a reset (RFC 9293,
//! 3.10.7.1), for UDP ICMP's port unreachable (RFC 792; RFC 4443, 3.1). It goes back by the interface it came from.

use mesh_common::{Address, Port};

use super::{
    checksum::Sum,
    limit::may_answer,
    parse::{ICMP, ICMPV6},
    state::{Family, Fragment, PacketState, PacketStep, PacketVerdict, drop, tcp},
};
use crate::{Broken, Env, Packet};

const HOP_LIMIT: u8 = 64;
const TCP_HEADER: u32 = 20;
const ICMP_HEADER: u32 = 8;

/// Most 32-bit words of the packet that an ICMP error shows: an IPv6 header with some extension headers and the ports.
const MOST_WORDS: u32 = 24;

#[inline(always)]
pub(super) fn stage<E: Env, P: Packet>(
    env: &E,
    packet: &mut P,
    state: &mut PacketState,
) -> PacketStep {
    let answered = match (state.is_tcp(), state.fragment) {
        // A later part of what was refused, and a reset, are not answered (RFC 9293; RFC 1122, 3.2.2).
        (_, Fragment::Later) => return drop(state.reason),
        (true, _) if state.tcp_flags & tcp::RST != 0 => return drop(state.reason),
        (true, _) => reset(packet, state),
        (false, _) if !may_answer(env) => return drop(state.reason),
        (false, _) => unreachable(packet, state),
    };
    match answered {
        Ok(()) => PacketStep::Done(PacketVerdict::Reflect(state.reason)),
        // There is no answer that fits, or no memory for one.
        Err(Broken) => drop(state.reason),
    }
}

/// From where the packet was to go, back to where it came from.
struct Ends {
    source: (Address, Port),
    destination: (Address, Port),
}

impl Ends {
    #[inline(always)]
    const fn of(state: &PacketState) -> Self {
        Self {
            source: state.key.destination(),
            destination: state.key.source(),
        }
    }
}

/// Sequence number and acknowledgement of the reset.
#[inline(always)]
fn numbers<P: Packet>(packet: &P, state: &PacketState) -> Result<(u32, u32, u8), Broken> {
    let transport = u32::from(state.transport);
    let header = packet.load::<16>(transport).ok_or(Broken)?;
    let word = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    if state.tcp_flags & tcp::ACK != 0 {
        return Ok((word(8), 0, tcp::RST));
    }
    let network = packet.network();
    let end = match state.family {
        Family::V4 => {
            let total = packet.load::<2>(network + 2).ok_or(Broken)?;
            network + u32::from(u16::from_be_bytes(total))
        }
        Family::V6 => {
            let payload = packet.load::<2>(network + 4).ok_or(Broken)?;
            network + 40 + u32::from(u16::from_be_bytes(payload))
        }
    };
    let header_length = u32::from(header[12] >> 4) * 4;
    let data = end.saturating_sub(transport + header_length);
    let flag = |flag| u32::from(state.tcp_flags & flag != 0);
    let acknowledged = word(4)
        .wrapping_add(data)
        .wrapping_add(flag(tcp::SYN))
        .wrapping_add(flag(tcp::FIN));
    Ok((0, acknowledged, tcp::RST | tcp::ACK))
}

#[inline(always)]
fn reset<P: Packet>(packet: &mut P, state: &PacketState) -> Result<(), Broken> {
    let (sequence, acknowledged, flags) = numbers(packet, state)?;
    let ends = Ends::of(state);
    let is_v4 = state.family == Family::V4;
    let network = packet.network();
    let transport = network + header_length(state.family);
    packet.truncate(transport + TCP_HEADER)?;
    turn(packet)?;
    write_ip(packet, state, &ends, 6, TCP_HEADER as u16)?;
    let sum = Sum::EMPTY
        .address(is_v4, ends.source.0)
        .address(is_v4, ends.destination.0)
        .word(u32::from_ne_bytes([0, 6, 0, TCP_HEADER as u8]))
        .word(ports_word(&ends))
        .word(sequence.to_be())
        .word(acknowledged.to_be())
        .word(u32::from_ne_bytes([0x50, flags, 0, 0]));
    let mut header = [0; 20];
    header[..4].copy_from_slice(&ports_word(&ends).to_ne_bytes());
    header[4..8].copy_from_slice(&sequence.to_be_bytes());
    header[8..12].copy_from_slice(&acknowledged.to_be_bytes());
    header[12] = 0x50;
    header[13] = flags;
    header[16..18].copy_from_slice(&sum.finish().to_ne_bytes());
    packet.store(transport, &header)
}

#[inline(always)]
const fn header_length(family: Family) -> u32 {
    match family {
        Family::V4 => 20,
        Family::V6 => 40,
    }
}

/// Source and destination port as a transport header has them.
#[inline(always)]
const fn ports_word(ends: &Ends) -> u32 {
    let source = ends.source.1.to_be().to_ne_bytes();
    let destination = ends.destination.1.to_be().to_ne_bytes();
    u32::from_ne_bytes([source[0], source[1], destination[0], destination[1]])
}

#[inline(always)]
fn unreachable<P: Packet>(packet: &mut P, state: &PacketState) -> Result<(), Broken> {
    let ends = Ends::of(state);
    let is_v4 = state.family == Family::V4;
    let network = packet.network();
    let shown = u32::from(state.transport) + 8 - network;
    if shown > MOST_WORDS * 4 {
        return Err(Broken);
    }
    // Type and code of "port unreachable".
    let (protocol, kind) = if is_v4 {
        (ICMP, [3, 3, 0, 0])
    } else {
        (ICMPV6, [1, 4, 0, 0])
    };
    let mut sum = Sum::EMPTY.word(u32::from_ne_bytes(kind));
    let length = shown + ICMP_HEADER;
    if !is_v4 {
        sum = sum
            .address(false, ends.source.0)
            .address(false, ends.destination.0)
            .word(u32::from_ne_bytes([0, ICMPV6, 0, length as u8]));
    }
    for word in 0..MOST_WORDS {
        if word * 4 >= shown {
            break;
        }
        let bytes = packet.load::<4>(network + word * 4).ok_or(Broken)?;
        sum = sum.word(u32::from_ne_bytes(bytes));
    }
    packet.truncate(network + shown)?;
    packet.insert(header_length(state.family) + ICMP_HEADER)?;
    turn(packet)?;
    write_ip(packet, state, &ends, protocol, length as u16)?;
    let checksum = sum.finish().to_ne_bytes();
    let header = [kind[0], kind[1], checksum[0], checksum[1], 0, 0, 0, 0];
    packet.store(network + header_length(state.family), &header)
}

/// The frame goes back to who sent it, where packets are in frames.
#[inline(always)]
fn turn<P: Packet>(packet: &mut P) -> Result<(), Broken> {
    if packet.network() == 0 {
        return Ok(());
    }
    packet.swap_link_addresses()
}

#[inline(always)]
fn write_ip<P: Packet>(
    packet: &mut P,
    state: &PacketState,
    ends: &Ends,
    protocol: u8,
    payload: u16,
) -> Result<(), Broken> {
    let network = packet.network();
    match state.family {
        Family::V4 => {
            let header = v4_header(ends, protocol, payload);
            packet.store(network, &header)
        }
        Family::V6 => {
            let [high, low] = payload.to_be_bytes();
            packet.store(network, &[0x60, 0, 0, 0, high, low, protocol, HOP_LIMIT])?;
            packet.store_words(network + 8, &ends.source.0.words())?;
            packet.store_words(network + 24, &ends.destination.0.words())
        }
    }
}

#[inline(always)]
fn v4_header(ends: &Ends, protocol: u8, payload: u16) -> [u8; 20] {
    let [high, low] = (payload + 20).to_be_bytes();
    let (source, destination) = (ends.source.0.v4_word(), ends.destination.0.v4_word());
    // Identification 0 and "don't fragment" (RFC 6864, 4.1).
    let first = [0x45, 0, high, low];
    let second = [0, 0, 0x40, 0];
    let third = [HOP_LIMIT, protocol, 0, 0];
    let checksum = Sum::EMPTY
        .word(u32::from_ne_bytes(first))
        .word(u32::from_ne_bytes(second))
        .word(u32::from_ne_bytes(third))
        .word(source)
        .word(destination)
        .finish()
        .to_ne_bytes();
    let (source, destination) = (source.to_ne_bytes(), destination.to_ne_bytes());
    let mut header = [0; 20];
    header[..4].copy_from_slice(&first);
    header[4..8].copy_from_slice(&second);
    header[8..10].copy_from_slice(&third[..2]);
    header[10..12].copy_from_slice(&checksum);
    header[12..16].copy_from_slice(&source);
    header[16..].copy_from_slice(&destination);
    header
}
