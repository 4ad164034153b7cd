//! Refusals: the sender is told at once, by the bytes that a host without a listener would send.

use std::vec::Vec;

use mesh_common::{Counter, Port, Protocol, Reason};
use proptest::prelude::*;

use super::world::{Route, World, any_looks, any_route, plain};
use crate::{
    PacketVerdict,
    sim::wire::{self, Datagram, ETHERNET, tcp},
};

/// Bytes as a hex dump has them, spaces for the eye.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let digit = |byte: u8| (byte as char).to_digit(16).unwrap() as u8;
    digits
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

fn refused(v6: bool, datagram: &Datagram) -> Vec<u8> {
    let world = World::new(Route::PodToLocal, datagram.protocol, v6, 0);
    let (verdict, frame) = world.hook(world.route.there()[0], &datagram.frame());
    assert_eq!(verdict, PacketVerdict::Reflect(Reason::NoEndpoints));
    assert_eq!(wire::check(&frame), Ok(()));
    frame
}

/// From 10.0.2.0:40000 to 96.0.0.5:80.
#[test]
fn bytes_of_a_reset() {
    let world = World::new(Route::PodToLocal, Protocol::Tcp, false, 0);
    let syn = Datagram::tcp(world.client(), world.frontend(), tcp::SYN);
    assert_eq!(
        refused(false, &syn),
        hex("020000000002 020000000001 0800
             4500 0028 0000 4000 4006 cecb 60000005 0a000200
             0050 9c40 00000000 01020305 5014 0000 a334 0000")
    );
    // What is acknowledged is where the sender has got to.
    let data = Datagram::tcp(world.client(), world.frontend(), tcp::SYN).with(b"12345");
    assert_eq!(refused(false, &data)[42..46], [1, 2, 3, 10]);
}

#[test]
fn bytes_of_port_unreachable() {
    let world = World::new(Route::PodToLocal, Protocol::Udp, false, 0);
    let datagram = Datagram::udp(world.client(), world.frontend()).with(b"lost");
    let asked = datagram.packet();
    let frame = refused(false, &datagram);
    let head =
        hex("020000000002 020000000001 0800 4500 0038 0000 4000 4001 cec0 60000005 0a000200 0303");
    assert_eq!(frame[..36], head);
    assert_eq!(frame[38..42], [0; 4]);
    assert_eq!(frame[42..], asked[..28]);
}

#[test]
fn of_ipv6() {
    let world = World::new(Route::PodToLocal, Protocol::Udp, true, 0);
    let datagram = Datagram::udp(world.client(), world.frontend()).with(b"lost");
    let frame = refused(true, &datagram);
    assert_eq!(
        frame[ETHERNET..ETHERNET + 8],
        [0x60, 0, 0, 0, 0, 56, 58, 64]
    );
    assert_eq!(frame[54..56], [1, 4]);
    assert_eq!(frame[62..], datagram.packet()[..48]);

    let frame = refused(
        true,
        &Datagram::tcp(world.client(), world.frontend(), tcp::SYN),
    );
    assert_eq!(frame[ETHERNET..ETHERNET + 8], [0x60, 0, 0, 0, 0, 20, 6, 64]);
    assert_eq!(frame.len(), 74);
}

/// A reset is not answered, or two hosts would talk for ever.
#[test]
fn a_reset_to_a_backend_that_is_gone() {
    let mut world = World::new(Route::PodToLocal, Protocol::Tcp, false, 1);
    world.request(tcp::SYN, &plain());
    world.put_backend(1, mesh_common::BackendState::Gone);
    let (client, frontend) = (world.client(), world.frontend());
    let reset = Datagram::tcp(client, frontend, tcp::RST).frame();
    let (verdict, _) = world.hook(world.route.there()[0], &reset);
    assert_eq!(verdict, PacketVerdict::Drop(Reason::BackendGone));
    // A reset of an acknowledged segment takes its number from the acknowledgement.
    let data = Datagram::tcp(client, frontend, tcp::ACK)
        .with(b"data")
        .frame();
    let (verdict, frame) = world.hook(world.route.there()[0], &data);
    assert_eq!(verdict, PacketVerdict::Reflect(Reason::BackendGone));
    assert_eq!(frame[38..48], [5, 6, 7, 8, 0, 0, 0, 0, 0x50, tcp::RST]);
}

/// What is one too many is dropped for the reason for which it would have been answered; resets go on.
#[test]
fn a_flood_of_datagrams_is_not_answered_by_another() {
    for v6 in [false, true] {
        let world = World::new(Route::PodToLocal, Protocol::Udp, v6, 0);
        let hook = world.route.there()[0];
        let udp = Datagram::udp(world.client(), world.frontend()).frame();
        let burst = u64::from(world.sim.icmp_limit.burst);
        let answered = || world.hook(hook, &udp).0 == PacketVerdict::Reflect(Reason::NoEndpoints);
        assert_eq!((0..1000).filter(|_| answered()).count() as u64, burst);
        let (verdict, _) = world.hook(hook, &udp);
        assert_eq!(verdict, PacketVerdict::Drop(Reason::NoEndpoints));
        let counted = world.sim.counted(Counter::Dropped(Reason::NoEndpoints));
        assert_eq!(counted, 1001, "each counts once, answered or not");
        world.sim.clock.set(world.sim.clock.get() + 10_000_000);
        assert_eq!((0..1000).filter(|_| answered()).count(), 10);
    }
    let world = World::new(Route::PodToLocal, Protocol::Tcp, false, 0);
    let syn = Datagram::tcp(world.client(), world.frontend(), tcp::SYN).frame();
    for _ in 0..1000 {
        let (verdict, _) = world.hook(world.route.there()[0], &syn);
        assert_eq!(verdict, PacketVerdict::Reflect(Reason::NoEndpoints));
    }
}

proptest! {
    /// Whatever a request looks like, it is answered from where it went to, or dropped for the same reason.
    #[test]
    fn every_look_is_refused(
        route in any_route(), v6: bool, is_tcp: bool, looks in any_looks(), other_port: bool,
    ) {
        let protocol = if is_tcp { Protocol::Tcp } else { Protocol::Udp };
        let mut world = World::new(route, protocol, v6, 1);
        world.publish(&[]);
        let mut to = world.frontend();
        let mut reason = Reason::NoEndpoints;
        if other_port {
            to.1 = Port::new(81);
            reason = Reason::NoSuchPort;
        }
        let datagram = looks.on(world.datagram(world.client(), to, tcp::SYN));
        let frame = datagram.frame();
        let headers = wire::parse(&frame).unwrap().transport - ETHERNET;
        let (verdict, answer) = world.hook(route.there()[0], &frame);
        if !is_tcp && headers + 8 > 96 {
            prop_assert_eq!(verdict, PacketVerdict::Drop(reason));
            return Ok(());
        }
        prop_assert_eq!(verdict, PacketVerdict::Reflect(reason));
        prop_assert_eq!(wire::check(&answer), Ok(()));
        prop_assert_eq!(&answer[..6], &frame[6..12]);
        prop_assert_eq!(&answer[6..12], &frame[..6]);
        let seen = wire::parse(&answer).unwrap();
        prop_assert_eq!((seen.source.0, seen.destination.0), (to.0, world.client().0));
        if is_tcp {
            prop_assert_eq!((seen.source.1, seen.destination.1), (to.1, world.client().1));
            let length = looks.on(world.datagram(to, to, 0)).payload.len() as u32;
            let acknowledged = 0x0102_0304_u32 + length + 1;
            let place = seen.transport;
            prop_assert_eq!(&answer[place + 4..place + 8], &[0; 4]);
            prop_assert_eq!(&answer[place + 8..place + 12], &acknowledged.to_be_bytes());
            prop_assert_eq!(answer[place + 13], tcp::RST | tcp::ACK);
        } else {
            prop_assert_eq!(seen.about.unwrap(), &frame[ETHERNET..ETHERNET + headers + 8]);
        }
        prop_assert_eq!(world.flows(), (0, 0));
    }
}
