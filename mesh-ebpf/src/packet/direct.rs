//! What almost every packet is, read where it lies: TCP or UDP, whole, in IPv4 without options or IPv6 without extension
//! headers. In: the packet. Out: the tuple, as stage Parse finds it too; None leaves the packet to that stage.

use mesh_common::{Address, FlowKey, Port, Protocol};

use super::{
    parse::{MORE_FRAGMENTS, OFFSET, TCP, UDP},
    state::{Family, PacketHook, PacketState},
};
use crate::Packet;

/// Words of four bytes up to the ports' end, and to that of TCP's checksum, which is in the word after the flags'.
const V4_PORTS: usize = 7;
pub(super) const V4_TCP: usize = 10;
const V6_PORTS: usize = 12;
pub(super) const V6_TCP: usize = 15;

#[inline(always)]
pub(super) fn parse<P: Packet>(packet: &P, hook: PacketHook) -> Option<PacketState> {
    match packet.family()? {
        Family::V4 => v4(packet, hook),
        Family::V6 => v6(packet, hook),
    }
}

#[inline(always)]
fn v4<P: Packet>(packet: &P, hook: PacketHook) -> Option<PacketState> {
    let words = packet.words::<V4_PORTS>()?;
    let [kind, _, length_high, length_low] = words[0].to_ne_bytes();
    let [_, _, fragment_high, fragment_low] = words[1].to_ne_bytes();
    let fragment = u16::from_be_bytes([fragment_high, fragment_low]);
    if kind != 0x45 || fragment & (MORE_FRAGMENTS | OFFSET) != 0 {
        return None;
    }
    let [_, protocol, ..] = words[2].to_ne_bytes();
    let transport = packet.network() + 20;
    let end = packet.network() + u32::from(u16::from_be_bytes([length_high, length_low]));
    let flags = match protocol {
        UDP if fits(packet, transport + 8, end) => 0,
        TCP if fits(packet, transport + 20, end) => {
            tcp_flags(packet.words::<V4_TCP>()?[V4_TCP - 2])?
        }
        _ => return None,
    };
    let addresses = (
        Address::from_v4_word(words[3]),
        Address::from_v4_word(words[4]),
    );
    let key = tuple(hook, protocol, addresses, words[V4_PORTS - 2]);
    Some(PacketState {
        key,
        third: words[2],
        transport: transport as u16,
        family: Family::V4,
        tcp_flags: flags,
        ..PacketState::new(hook, packet.network() as u16)
    })
}

#[inline(always)]
fn v6<P: Packet>(packet: &P, hook: PacketHook) -> Option<PacketState> {
    let words = packet.words::<V6_PORTS>()?;
    let [version, ..] = words[0].to_ne_bytes();
    let [length_high, length_low, protocol, _] = words[1].to_ne_bytes();
    if version >> 4 != 6 {
        return None;
    }
    let transport = packet.network() + 40;
    let end = transport + u32::from(u16::from_be_bytes([length_high, length_low]));
    let flags = match protocol {
        UDP if fits(packet, transport + 8, end) => 0,
        TCP if fits(packet, transport + 20, end) => {
            tcp_flags(packet.words::<V6_TCP>()?[V6_TCP - 2])?
        }
        _ => return None,
    };
    let address =
        |at: usize| Address::from_words([words[at], words[at + 1], words[at + 2], words[at + 3]]);
    let key = tuple(
        hook,
        protocol,
        (address(2), address(6)),
        words[V6_PORTS - 2],
    );
    Some(PacketState {
        key,
        transport: transport as u16,
        family: Family::V6,
        tcp_flags: flags,
        ..PacketState::new(hook, packet.network() as u16)
    })
}

/// Whether a header that ends at `least` is in the IP packet, which ends at `end`, and that in the frame.
#[inline(always)]
fn fits<P: Packet>(packet: &P, least: u32, end: u32) -> bool {
    least <= end && end <= packet.length()
}

/// TCP's flags, from the word of its header that has them; None if the header says that it is too short.
#[inline(always)]
const fn tcp_flags(word: u32) -> Option<u8> {
    let [length, flags, ..] = word.to_ne_bytes();
    if length >> 4 < 5 { None } else { Some(flags) }
}

#[inline(always)]
fn tuple(
    hook: PacketHook,
    protocol: u8,
    (source, destination): (Address, Address),
    ports: u32,
) -> FlowKey {
    let protocol = if protocol == TCP {
        Protocol::Tcp
    } else {
        Protocol::Udp
    };
    let [a, b, c, d] = ports.to_ne_bytes();
    FlowKey::new(
        hook.direction(),
        protocol,
        (source, Port::from_be(u16::from_ne_bytes([a, b]))),
        (destination, Port::from_be(u16::from_ne_bytes([c, d]))),
    )
}
