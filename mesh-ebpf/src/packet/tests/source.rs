//! Sources that stand for clients: never a NodePort, never a port with a socket, never one for two.

use std::{collections::BTreeMap, vec::Vec};

use mesh_common::{Direction, FlowKey, Port, Protocol, Reason};
use proptest::prelude::*;

use super::world::{DEVICE, Route, World, any_protocol, plain};
use crate::{
    PacketHook, PacketVerdict, SnatPorts,
    sim::{SimPacket, wire},
    tests::address,
};

proptest! {
    /// Many clients with one port, few ports to stand for them, and some of those are taken: by sockets, or given away by others.
    #[test]
    fn each_client_has_a_source_of_its_own(
        v6: bool, protocol in any_protocol(), seed: u64, clients in 1_u32..40, backends in 1_u32..3,
        first in 1024_u16..60_000, width in 0_u16..60, hole in 0_u16..70, hole_width in 0_u16..20,
        taken in proptest::collection::btree_set(0_u16..60, 0..10), own in 0_u16..60, loud in 0_u16..60,
    ) {
        let mut world = World::new(Route::DeviceToRemote, protocol, v6, backends);
        world.sim.seed.set(seed);
        let ports = SnatPorts {
            first,
            last: first + width,
            hole_first: first + hole,
            hole_last: first + hole + hole_width,
        };
        world.sim.snat_ports = ports;
        world.sim.quiet_snat_ports = SnatPorts { hole_last: ports.hole_last + loud, ..ports };
        let taken: Vec<u16> = taken.into_iter().map(|port| first + port).collect();
        let mut given = BTreeMap::new();
        for number in 0..clients {
            let client = (address(v6, 198, 100 + number), Port::new(first + own));
            let frame = world.datagram(client, world.frontend(), wire::tcp::SYN).frame();
            let (verdict, frame) = world.hook(world.route.there()[0], &frame);
            prop_assert_eq!(verdict, PacketVerdict::Forward);
            let backend = wire::parse(&frame).unwrap().destination;
            let mut packet = SimPacket::new(frame.clone(), DEVICE);
            for port in &taken {
                let source = (world.source(), Port::new(*port));
                let key = FlowKey::new(Direction::Ingress, protocol, backend, source);
                if port % 2 == 0 {
                    packet.sockets.insert(key);
                } else {
                    world.sim.foreign.borrow_mut().insert(key, 1);
                }
            }
            let dropped = world.dropped();
            match packet.pass(PacketHook::ToDevice, &world.sim) {
                PacketVerdict::Forward => {
                    let seen = wire::parse(&packet.bytes).unwrap();
                    let port = seen.source.1.get();
                    prop_assert_eq!(seen.source.0, world.source());
                    prop_assert!((ports.first..=ports.last).contains(&port));
                    prop_assert!(!(ports.hole_first..=ports.hole_last).contains(&port));
                    prop_assert!(!taken.contains(&port));
                    prop_assert_eq!(given.insert((backend, seen.source), client), None);
                    prop_assert_eq!(wire::check(&packet.bytes), Ok(()));
                }
                verdict @ (PacketVerdict::Pass | PacketVerdict::Drop(_) | PacketVerdict::Reflect(_)) => {
                    prop_assert_eq!(verdict, PacketVerdict::Drop(Reason::SnatPortsExhausted));
                    prop_assert_eq!(&packet.bytes, &frame);
                    prop_assert_eq!(world.dropped(), dropped + 1);
                }
            }
        }
        for ((backend, source), client) in given {
            let flags = wire::tcp::SYN | wire::tcp::ACK;
            let frame = world.send(world.route.back(), world.datagram(backend, source, flags).frame());
            prop_assert_eq!(wire::parse(&frame).unwrap().destination, client);
        }
    }
}

/// The client's own port is kept where it may be.
#[test]
fn the_own_port_first() {
    for v6 in [false, true] {
        let world = World::new(Route::DeviceToRemote, Protocol::Tcp, v6, 1);
        let (source, _) = world.request(wire::tcp::SYN, &plain());
        assert_eq!(source, (world.source(), world.client().1));
    }
}

/// A device without an address of the family: a drop that says so, never an untranslated packet.
#[test]
fn no_address_to_stand_for_the_client() {
    for v6 in [false, true] {
        let mut world = World::new(Route::DeviceToRemote, Protocol::Tcp, v6, 1);
        world.sim.interfaces.clear();
        let syn = world
            .datagram(world.client(), world.frontend(), wire::tcp::SYN)
            .frame();
        let (verdict, frame) = world.hook(world.route.there()[0], &syn);
        assert_eq!(verdict, PacketVerdict::Forward);
        let (verdict, _) = world.hook(world.route.there()[1], &frame);
        assert_eq!(verdict, PacketVerdict::Drop(Reason::NoSourceAddress));
    }
}
