//! Packets in parts: the first has the ports, the others follow it, and what has no first goes to no backend.

use std::vec::Vec;

use mesh_common::{Protocol, Reason};
use proptest::prelude::*;

use super::world::{World, any_looks, any_protocol, any_route, plain};
use crate::{
    PacketVerdict,
    sim::wire::{self, Datagram, tcp},
};

/// What arrives of a packet's fragments when each goes the whole way.
fn send_parts(world: &World, way: [(crate::PacketHook, u32); 2], parts: Vec<Vec<u8>>) -> Vec<u8> {
    let parts: Vec<Vec<u8>> = parts
        .into_iter()
        .map(|part| world.send(way, part))
        .collect();
    wire::reassemble(&parts).expect("no part is lost")
}

fn big(datagram: Datagram, size: usize, id: u32) -> Datagram {
    let mut datagram = datagram;
    datagram.payload = (0..size).map(|number| number as u8).collect();
    datagram.id = id;
    datagram
}

proptest! {
    /// Requests and replies in parts, of a new flow and of one that is known.
    #[test]
    fn in_order(
        route in any_route(), protocol in any_protocol(), v6: bool, looks in any_looks(), size in 100_usize..400,
        eights in 3_usize..20, id: u32,
    ) {
        let world = World::new(route, protocol, v6, 2);
        for (flags, answer) in [(tcp::SYN, tcp::SYN | tcp::ACK), (tcp::ACK, tcp::ACK)] {
            let datagram = looks.on(world.datagram(world.client(), world.frontend(), flags));
            let parts = big(datagram, size, id).fragments(eights * 8);
            let whole = send_parts(&world, route.there(), parts);
            prop_assert_eq!(wire::check(&whole), Ok(()));
            let request = wire::parse(&whole).unwrap();
            prop_assert_eq!(request.source, world.request(tcp::ACK, &plain()).0);

            let datagram = looks.on(world.datagram(request.destination, request.source, answer));
            let parts = big(datagram, size, id).fragments(eights * 8);
            let whole = send_parts(&world, route.back(), parts);
            prop_assert_eq!(wire::check(&whole), Ok(()));
            let reply = wire::parse(&whole).unwrap();
            prop_assert_eq!((reply.source, reply.destination), (world.frontend(), world.client()));
        }
        prop_assert_eq!(world.dropped(), 0);
    }

    /// A later part before the first would go to nobody: it is dropped, and once the first was there it goes through.
    #[test]
    fn out_of_order(route in any_route(), protocol in any_protocol(), v6: bool, looks in any_looks(), id: u32) {
        let world = World::new(route, protocol, v6, 2);
        let datagram = looks.on(world.datagram(world.client(), world.frontend(), tcp::SYN));
        let parts = big(datagram, 200, id).fragments(64);
        let (verdict, _) = world.hook(route.there()[0], &parts[1]);
        prop_assert_eq!(verdict, PacketVerdict::Drop(Reason::FragmentWithoutFirst));
        prop_assert_eq!(world.flows(), (0, 0));
        world.send(route.there(), parts[0].clone());
        world.send(route.there(), parts[2].clone());
        world.send(route.there(), parts[1].clone());

        let other = looks.on(world.datagram(world.client(), world.frontend(), tcp::SYN));
        let parts = big(other, 200, id.wrapping_add(1)).fragments(64);
        let (verdict, _) = world.hook(route.there()[0], &parts[1]);
        prop_assert_eq!(verdict, PacketVerdict::Drop(Reason::FragmentWithoutFirst));
    }
}

/// Parts of a stranger's packets go on, with or without their first.
#[test]
fn of_strangers() {
    for v6 in [false, true] {
        let world = World::new(super::world::Route::DeviceToRemote, Protocol::Udp, v6, 1);
        let stranger = (crate::tests::address(v6, 11, 1), world.frontend().1);
        let datagram = big(world.datagram(world.client(), stranger, 0), 200, 5);
        for part in datagram.fragments(64).iter().rev() {
            for place in world.route.there() {
                assert_eq!(world.hook(place, part).0, PacketVerdict::Pass);
            }
        }
        assert!(world.sim.fragments.borrow().is_empty());
    }
}
