//! Stage Parse: headers in, the tuple out. What does not have one that can be translated passes; what should have one,
//! because a Service's address is its destination, and has not is dropped.

use mesh_common::{Address, Direction, FlowKey, FragmentKey, FrontendKey, Port, Protocol, Reason};

use super::{
    extension::{self, Upper},
    header,
    state::{Family, Fragment, PASS, PacketHook, PacketStage, PacketState, PacketStep, drop},
};
use crate::{Env, Packet};

/// IP protocol numbers.
pub(super) const ICMP: u8 = 1;
pub(super) const ICMPV6: u8 = 58;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;

/// IPv4's "more fragments", in the word that has the fragment's offset too.
pub(super) const MORE_FRAGMENTS: u16 = 0x2000;
pub(super) const OFFSET: u16 = 0x1fff;

#[inline(always)]
pub(super) fn stage<E: Env, P: Packet>(env: &E, packet: &P, state: &mut PacketState) -> PacketStep {
    match packet.family() {
        Some(Family::V4) => v4(env, packet, state),
        Some(Family::V6) => v6(env, packet, state),
        None => PASS,
    }
}

/// The addresses of a header, and what follows it.
struct Headers {
    source: Address,
    destination: Address,
    upper: Upper,
}

impl Headers {
    /// The tuple at a hook, with these source and destination ports.
    #[inline(always)]
    const fn tuple(
        &self,
        hook: PacketHook,
        protocol: Protocol,
        (source, destination): (Port, Port),
    ) -> FlowKey {
        FlowKey::new(
            hook.direction(),
            protocol,
            (self.source, source),
            (self.destination, destination),
        )
    }
}

#[inline(always)]
fn v4<E: Env, P: Packet>(env: &E, packet: &P, state: &mut PacketState) -> PacketStep {
    let network = packet.network();
    // What is no IPv4 header the stack drops by itself.
    let Some(header) = packet.load::<20>(network) else {
        return PASS;
    };
    let Some(length) = header::v4_length(&header) else {
        return PASS;
    };
    let word = u16::from_be_bytes([header[6], header[7]]);
    let fragment = match (word & OFFSET, word & MORE_FRAGMENTS) {
        (0, 0) => Fragment::Whole,
        (0, _) => Fragment::First,
        _ => Fragment::Later,
    };
    state.family = Family::V4;
    state.third = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
    state.fragment = fragment;
    state.fragment_id = u32::from(u16::from_be_bytes([header[4], header[5]]));
    let (source, destination) = header::v4_addresses(&header);
    let headers = Headers {
        source,
        destination,
        upper: Upper {
            protocol: header[9],
            offset: network + length,
        },
    };
    let total = u32::from(u16::from_be_bytes([header[2], header[3]]));
    // Longer than 64 KiB, which only happens inside a host, has length 0.
    let end = if total == 0 {
        packet.length()
    } else {
        network + total
    };
    transport(env, packet, state, &headers, end)
}

#[inline(always)]
fn v6<E: Env, P: Packet>(env: &E, packet: &P, state: &mut PacketState) -> PacketStep {
    let network = packet.network();
    let Some(header) = packet.load::<40>(network) else {
        return PASS;
    };
    if header[0] >> 4 != 6 {
        return PASS;
    }
    state.family = Family::V6;
    let (source, destination) = header::v6_addresses(&header);
    let payload = u32::from(u16::from_be_bytes([header[4], header[5]]));
    let end = if payload == 0 {
        packet.length()
    } else {
        network + 40 + payload
    };
    let first = Upper {
        protocol: header[6],
        offset: network + 40,
    };
    let Some(walked) = extension::walk::<{ extension::MOST }, P>(packet, first) else {
        return broken(env, state, destination, Reason::Malformed);
    };
    state.fragment = walked.fragment;
    state.fragment_id = walked.fragment_id;
    let headers = Headers {
        source,
        destination,
        upper: walked.upper,
    };
    transport(env, packet, state, &headers, end)
}

#[inline(always)]
fn transport<E: Env, P: Packet>(
    env: &E,
    packet: &P,
    state: &mut PacketState,
    headers: &Headers,
    end: u32,
) -> PacketStep {
    let offset = headers.upper.offset;
    state.transport = offset as u16;
    let (protocol, least) = match headers.upper.protocol {
        TCP => (Protocol::Tcp, 20),
        UDP => (Protocol::Udp, 8),
        ICMP | ICMPV6 => return icmp(packet, state, headers),
        _ => return PASS,
    };
    if state.fragment == Fragment::Later {
        return later(env, state, headers, protocol);
    }
    if offset + least > end || end > packet.length() {
        return broken(env, state, headers.destination, Reason::Malformed);
    }
    let Some((ports, flags)) = first_bytes(packet, offset, protocol) else {
        return broken(env, state, headers.destination, Reason::Malformed);
    };
    state.tcp_flags = flags;
    let source = Port::from_be(u16::from_ne_bytes([ports[0], ports[1]]));
    let destination = Port::from_be(u16::from_ne_bytes([ports[2], ports[3]]));
    state.key = headers.tuple(state.hook, protocol, (source, destination));
    PacketStep::Next(PacketStage::Conntrack)
}

/// The ports, and TCP's flags; in one read, since each is the call of a helper. None if they contradict themselves.
#[inline(always)]
fn first_bytes<P: Packet>(packet: &P, offset: u32, protocol: Protocol) -> Option<([u8; 4], u8)> {
    match protocol {
        Protocol::Udp => Some((packet.load::<4>(offset)?, 0)),
        Protocol::Tcp => {
            let header = packet.load::<14>(offset)?;
            let [a, b, c, d, .., length, flags] = header;
            (length >> 4 >= 5).then_some(([a, b, c, d], flags))
        }
    }
}

/// A part of a packet goes where its first part went.
#[inline(always)]
fn later<E: Env>(
    env: &E,
    state: &mut PacketState,
    headers: &Headers,
    protocol: Protocol,
) -> PacketStep {
    let key = FragmentKey::new(
        state.hook.direction(),
        protocol.number(),
        headers.source,
        headers.destination,
        state.fragment_id,
    );
    let found = env.fragment(&key);
    let Some((source, destination)) = found.and_then(|found| found.ports(state.fragment_id)) else {
        return broken(
            env,
            state,
            headers.destination,
            Reason::FragmentWithoutFirst,
        );
    };
    state.key = headers.tuple(state.hook, protocol, (source, destination));
    PacketStep::Next(PacketStage::Conntrack)
}

/// Errors are about flows; everything else of ICMP is between hosts.
#[inline(always)]
fn icmp<P: Packet>(packet: &P, state: &mut PacketState, headers: &Headers) -> PacketStep {
    if state.fragment == Fragment::Later {
        return PASS;
    }
    let Some([kind]) = packet.load::<1>(headers.upper.offset) else {
        return PASS;
    };
    let is_error = match (headers.upper.protocol, state.family) {
        // Destination unreachable, source quench, time exceeded, parameter problem (RFC 792).
        (ICMP, Family::V4) => matches!(kind, 3 | 4 | 11 | 12),
        // RFC 4443, 2.1: unreachable, too big, time exceeded, parameter problem.
        (ICMPV6, Family::V6) => matches!(kind, 1..=4),
        _ => false,
    };
    if !is_error {
        return PASS;
    }
    let nothing = Port::from_be(0);
    state.key = headers.tuple(state.hook, Protocol::Udp, (nothing, nothing));
    PacketStep::Next(PacketStage::Icmp)
}

/// A packet to a ClusterIP that cannot be translated would go to nobody.
#[inline(always)]
fn broken<E: Env>(
    env: &E,
    state: &PacketState,
    destination: Address,
    reason: Reason,
) -> PacketStep {
    if state.hook.direction() == Direction::Ingress
        && env
            .frontend(&FrontendKey::whole_address(destination))
            .is_some()
    {
        return drop(reason);
    }
    PASS
}
