//! What almost every packet is, read where it lies: TCP or UDP, whole, in IPv4 without options or IPv6 without extension
//! headers. In: the packet. Out: the tuple, as stage Parse finds it too; false leaves the packet to that stage.

use mesh_common::{Address, FlowKey, Port, Protocol};

use super::{
    parse::{MORE_FRAGMENTS, OFFSET, TCP, UDP},
    state::{Family, PacketState},
};
use crate::Packet;

/// Words of four bytes up to the ports' end, and to the end of TCP's flags.
const V4_PORTS: usize = 7;
const V4_TCP: usize = 10;
const V6_PORTS: usize = 12;
const V6_TCP: usize = 15;

#[inline(always)]
pub(super) fn parse<P: Packet>(packet: &P, state: &mut PacketState) -> bool {
    match packet.family() {
        Some(Family::V4) => v4(packet, state),
        Some(Family::V6) => v6(packet, state),
        None => false,
    }
}

#[inline(always)]
fn v4<P: Packet>(packet: &P, state: &mut PacketState) -> bool {
    let Some(words) = packet.words::<V4_PORTS>() else {
        return false;
    };
    let [kind, _, length_high, length_low] = words[0].to_ne_bytes();
    let [_, _, fragment_high, fragment_low] = words[1].to_ne_bytes();
    let fragment = u16::from_be_bytes([fragment_high, fragment_low]);
    if kind != 0x45 || fragment & (MORE_FRAGMENTS | OFFSET) != 0 {
        return false;
    }
    let [_, protocol, ..] = words[2].to_ne_bytes();
    let transport = packet.network() + 20;
    let end = packet.network() + u32::from(u16::from_be_bytes([length_high, length_low]));
    let addresses = (
        Address::from_v4_word(words[3]),
        Address::from_v4_word(words[4]),
    );
    let flags = match protocol {
        UDP if transport + 8 <= end && end <= packet.length() => 0,
        TCP if transport + 20 <= end && end <= packet.length() => match packet.words::<V4_TCP>() {
            Some(words) => tcp_flags(words[V4_TCP - 2]),
            None => 0,
        },
        _ => return false,
    };
    if protocol == TCP && flags == 0 {
        return false;
    }
    state.family = Family::V4;
    state.third = words[2];
    known(
        state,
        protocol,
        transport,
        addresses,
        words[V4_PORTS - 2],
        flags,
    );
    true
}

#[inline(always)]
fn v6<P: Packet>(packet: &P, state: &mut PacketState) -> bool {
    let Some(words) = packet.words::<V6_PORTS>() else {
        return false;
    };
    let [version, ..] = words[0].to_ne_bytes();
    let [length_high, length_low, protocol, _] = words[1].to_ne_bytes();
    if version >> 4 != 6 {
        return false;
    }
    let transport = packet.network() + 40;
    let end = transport + u32::from(u16::from_be_bytes([length_high, length_low]));
    let address =
        |at: usize| Address::from_words([words[at], words[at + 1], words[at + 2], words[at + 3]]);
    let addresses = (address(2), address(6));
    let flags = match protocol {
        UDP if transport + 8 <= end && end <= packet.length() => 0,
        TCP if transport + 20 <= end && end <= packet.length() => match packet.words::<V6_TCP>() {
            Some(words) => tcp_flags(words[V6_TCP - 2]),
            None => 0,
        },
        _ => return false,
    };
    if protocol == TCP && flags == 0 {
        return false;
    }
    state.family = Family::V6;
    known(
        state,
        protocol,
        transport,
        addresses,
        words[V6_PORTS - 2],
        flags,
    );
    true
}

/// TCP's flags, from the word of its header that has them; 0 if the header says that it is too short, as for a header
/// without flags.
#[inline(always)]
const fn tcp_flags(word: u32) -> u8 {
    let [length, flags, ..] = word.to_ne_bytes();
    if length >> 4 < 5 { 0 } else { flags }
}

#[inline(always)]
fn known(
    state: &mut PacketState,
    protocol: u8,
    transport: u32,
    (source, destination): (Address, Address),
    ports: u32,
    flags: u8,
) {
    let protocol = if protocol == TCP {
        Protocol::Tcp
    } else {
        Protocol::Udp
    };
    let [a, b, c, d] = ports.to_ne_bytes();
    state.transport = transport as u16;
    state.tcp_flags = flags;
    state.key = FlowKey::new(
        state.hook.direction(),
        protocol,
        (source, Port::from_be(u16::from_ne_bytes([a, b]))),
        (destination, Port::from_be(u16::from_ne_bytes([c, d]))),
    );
}
