//! Laws that hold for every way, family, protocol and look of a packet.

use std::vec::Vec;

use mesh_common::{BackendState, Counter, Port, Protocol, Reason};
use proptest::prelude::*;

use super::world::{
    DEVICE, Route, SECOND, SERVER_POD, World, any_looks, any_protocol, any_route, plain,
};
use crate::{
    PacketHook, PacketVerdict,
    sim::{
        SimPacket,
        wire::{self, Datagram, ETHERNET, tcp},
    },
    tests::address,
};

proptest! {
    /// Whatever a flow's packets look like: the client sees its frontend, the backend one client, and the flow stays
    /// with its backend while backends come and the first is taken out of the set.
    #[test]
    fn forward_and_back(
        route in any_route(), protocol in any_protocol(), v6: bool, backends in 1_u32..20, host: u32, quick: bool,
        looks in any_looks(), pauses in proptest::collection::vec(0_u64..170, 0..6), more in 0_u32..20,
    ) {
        let mut world = World::new(route, protocol, v6, backends);
        (world.sim.host, world.sim.has_quick_lines) = (host, quick);
        let ends = world.request(tcp::SYN, &looks);
        prop_assert!((1..=backends).any(|id| world.backend(id) == ends.1));
        world.reply(ends, tcp::SYN | tcp::ACK, &looks);
        for (number, pause) in pauses.into_iter().enumerate() {
            world.sim.clock.set(world.sim.clock.get() + pause * SECOND);
            if number == 1 && route != Route::Hairpin {
                world.publish(&(50..=50 + more).collect::<Vec<_>>());
            }
            prop_assert_eq!(world.request(tcp::ACK, &looks), ends);
            world.reply(ends, tcp::ACK, &looks);
        }
        prop_assert_eq!(world.dropped(), 0);
        prop_assert_eq!(world.sim.counted(Counter::FlowOpened), 1);
    }

    /// New flows go to backends of the set alone.
    #[test]
    fn a_removed_backend_gets_nothing_new(
        v6: bool, protocol in any_protocol(), backends in 2_u32..10, removed in 1_u32..10, host: u32,
        gone: bool, ports in proptest::collection::btree_set(1024_u16.., 1..30),
    ) {
        let mut world = World::new(Route::PodToRemote, protocol, v6, backends);
        world.sim.host = host;
        world.request(tcp::SYN, &plain());
        let removed = removed % backends + 1;
        world.publish(&(1..=backends).filter(|id| *id != removed).collect::<Vec<_>>());
        if gone {
            world.put_backend(removed, BackendState::Gone);
        }
        for port in ports.into_iter().filter(|port| *port != 40_000) {
            let client = (address(v6, 10, 0x0300), Port::new(port));
            let frame = world.datagram(client, world.frontend(), tcp::SYN).frame();
            let seen = wire::parse(&world.send(world.route.there(), frame)).unwrap();
            prop_assert_ne!(seen.destination, world.backend(removed));
        }
    }

    /// The same client port chooses the same backend, wherever the flow is remembered, and ports spread over all.
    #[test]
    fn the_choice_is_repeatable(v6: bool, backends in 1_u32..5, host: u32) {
        let mut world = World::new(Route::PodToRemote, Protocol::Udp, v6, backends);
        world.sim.host = host;
        let mut chosen = std::collections::BTreeSet::new();
        for port in 2000..2100 {
            let client = (world.client().0, Port::new(port));
            let frame = Datagram::udp(client, world.frontend()).frame();
            let choose = || wire::parse(&world.send(world.route.there(), frame.clone())).unwrap().destination;
            let backend = choose();
            world.sim.opening.borrow_mut().clear();
            prop_assert_eq!(choose(), backend);
            chosen.insert(backend);
        }
        prop_assert_eq!(chosen.len() as u32, backends);
    }

    /// Bytes that mean nothing pass every hook, or are dropped; nothing panics, nothing is rewritten.
    #[test]
    fn garbage_is_never_forwarded(
        bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0_u8..3, hook in 0_usize..4,
    ) {
        let world = World::new(Route::DeviceToRemote, Protocol::Tcp, false, 2);
        let mut bytes = bytes;
        match kind {
            0 => bytes.splice(..0, [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45]).count(),
            1 => bytes.splice(..0, [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60]).count(),
            _ => 0,
        };
        let (verdict, _) = world.hook((PacketHook::ALL[hook], DEVICE), &bytes);
        prop_assert!(matches!(verdict, PacketVerdict::Pass | PacketVerdict::Drop(_)));
        prop_assert_eq!(world.flows(), (0, 0));
    }

    /// A packet of a flow, cut off anywhere and changed anywhere: what is forwarded was a Service's or a flow's, by a
    /// reader that shares no code with the stages.
    #[test]
    fn what_is_forwarded_was_meant_for_it(
        route in any_route(), protocol in any_protocol(), v6: bool, looks in any_looks(), back: bool,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let world = World::new(route, protocol, v6, 2);
        let ends = world.request(tcp::SYN, &plain());
        world.reply(ends, tcp::SYN | tcp::ACK, &plain());
        let (datagram, way) = if back {
            (world.datagram(ends.1, ends.0, tcp::ACK), route.back())
        } else {
            (world.datagram(world.client(), world.frontend(), tcp::ACK), route.there())
        };
        let mut frame = looks.on(datagram).frame();
        for (place, byte) in changes {
            let place = place.index(frame.len());
            frame[place] = byte;
        }
        if let Some(cut) = cut {
            frame.truncate(cut.index(frame.len()));
        }
        for (hook, interface) in way {
            let mut packet = SimPacket::new(frame.clone(), interface);
            let dropped = world.dropped();
            let verdict = packet.pass(hook, &world.sim);
            let counted = world.dropped() - dropped;
            prop_assert_eq!(counted, u64::from(matches!(verdict, PacketVerdict::Drop(_) | PacketVerdict::Reflect(_))));
            match verdict {
                PacketVerdict::Forward => {
                    let seen = wire::parse(&frame).unwrap();
                    let known = [world.frontend(), ends.0, world.client(), world.backend(1), world.backend(2)];
                    prop_assert!(known.iter().any(|(address, _)| *address == seen.destination.0));
                    let packet = packet.bytes.get(ETHERNET..).unwrap();
                    prop_assert_eq!(packet.len(), frame.len() - ETHERNET);
                }
                PacketVerdict::Pass | PacketVerdict::Drop(_) => {
                    prop_assert_eq!(&packet.bytes, &frame);
                }
                PacketVerdict::Reflect(_) => prop_assert!(!back),
            }
            if verdict != PacketVerdict::Forward {
                break;
            }
            frame = packet.bytes;
        }
    }

    /// The result depends on what goes in alone.
    #[test]
    fn the_same_input_gives_the_same_output(
        route in any_route(), protocol in any_protocol(), v6: bool, looks in any_looks(), seed: u64,
    ) {
        let world = World::new(route, protocol, v6, 5);
        world.sim.seed.set(seed);
        let other = world.clone();
        let ends = world.request(tcp::SYN, &looks);
        prop_assert_eq!(other.request(tcp::SYN, &looks), ends);
        prop_assert_eq!(&*world.sim.opening.borrow(), &*other.sim.opening.borrow());
        prop_assert_eq!(&*world.sim.counts.borrow(), &*other.sim.counts.borrow());
    }

    /// A TCP packet in the middle of nothing is not ours, nor is what goes to no Service.
    #[test]
    fn strangers_pass(
        v6: bool, protocol in any_protocol(), flags: u8, looks in any_looks(), hook in 0_usize..4, host in 500_u32..,
    ) {
        let world = World::new(Route::DeviceToRemote, protocol, v6, 2);
        let stranger = (address(v6, 11, host), Port::new(80));
        let to_nobody = looks.on(world.datagram(world.client(), stranger, flags)).frame();
        let place = (PacketHook::ALL[hook], SERVER_POD);
        prop_assert_eq!(world.hook(place, &to_nobody).0, PacketVerdict::Pass);
        if protocol == Protocol::Tcp {
            let middle = looks.on(world.datagram(world.client(), world.frontend(), flags | tcp::ACK)).frame();
            prop_assert_eq!(world.hook(place, &middle).0, PacketVerdict::Pass);
        }
        prop_assert_eq!(world.flows(), (0, 0));
    }

    /// Affinity is keyed by the client's address: its flows from all ports go to one backend while it holds.
    #[test]
    fn a_client_with_affinity_stays(
        v6: bool, protocol in any_protocol(), backends in 1_u32..9,
        ports in proptest::collection::btree_set(1024_u16.., 1..20), pause in 0_u64..20,
    ) {
        let mut world = World::new(Route::PodToRemote, protocol, v6, backends);
        world.sim.services.insert(super::world::SERVICE, mesh_common::ServiceWord::new(10));
        let mut last = None;
        for port in ports {
            let client = (world.client().0, Port::new(port));
            let frame = world.datagram(client, world.frontend(), tcp::SYN).frame();
            let backend = wire::parse(&world.send(world.route.there(), frame)).unwrap().destination;
            if pause < 10 {
                prop_assert_eq!(*last.get_or_insert(backend), backend);
            }
            world.sim.clock.set(world.sim.clock.get() + pause * SECOND);
        }
    }

    /// Whom the source ranges do not name gets nothing, and leaves nothing.
    #[test]
    fn source_ranges_are_kept(v6: bool, protocol in any_protocol(), named: bool, looks in any_looks()) {
        let mut world = World::new(Route::DeviceToLocal, protocol, v6, 1);
        for value in world.sim.frontends.values_mut().filter(|value| !value.is_refuse()) {
            *value = value.external().with_source_ranges();
        }
        let range = if named { world.client().0 } else { address(v6, 198, 8) };
        let range = mesh_common::SourceRangeKey::new(super::world::SERVICE, range, 128);
        world.sim.source_ranges.insert(range);
        let frame = looks.on(world.datagram(world.client(), world.frontend(), tcp::SYN)).frame();
        let (verdict, _) = world.hook(world.route.there()[0], &frame);
        if named {
            prop_assert_eq!(verdict, PacketVerdict::Forward);
        } else {
            prop_assert_eq!(verdict, PacketVerdict::Drop(Reason::SourceNotAllowed));
            prop_assert_eq!(world.flows(), (0, 0));
        }
    }
}
