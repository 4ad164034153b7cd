//! One flow through all hooks, step by step as one would write it down.

use mesh_common::{Address, BackendState, Counter, Direction, FlowKey, Port, Protocol, Reason};

use super::world::{DEVICE, End, Route, SECOND, World, plain};
use crate::{
    PacketHook, PacketStep, PacketVerdict, direct,
    packet::open::forget,
    sim::{
        SimPacket,
        wire::{self, Datagram, tcp},
    },
    tests::address,
    track,
};

pub(super) fn ends(frame: &[u8]) -> (End, End) {
    let seen = wire::parse(frame).unwrap();
    (seen.source, seen.destination)
}

#[test]
fn node_port_to_a_remote_pod_and_back() {
    let world = World::new(Route::DeviceToRemote, Protocol::Tcp, false, 1);
    let end = |text: &str, port| {
        let address: core::net::Ipv4Addr = text.parse().unwrap();
        (Address::from(address), Port::new(port))
    };
    let (client, frontend) = (end("198.0.0.7", 40_000), end("96.0.0.5", 80));
    let (backend, source) = (end("10.0.1.1", 8080), end("172.0.0.2", 40_000));
    assert_eq!((world.client(), world.frontend()), (client, frontend));

    let frame = Datagram::tcp(client, frontend, tcp::SYN).frame();
    let (verdict, frame) = world.hook((PacketHook::FromDevice, DEVICE), &frame);
    assert_eq!(
        (verdict, ends(&frame)),
        (PacketVerdict::Forward, (client, backend))
    );
    let (verdict, frame) = world.hook((PacketHook::ToDevice, DEVICE), &frame);
    assert_eq!(
        (verdict, ends(&frame)),
        (PacketVerdict::Forward, (source, backend))
    );

    let frame = Datagram::tcp(backend, source, tcp::SYN | tcp::ACK).frame();
    let (verdict, frame) = world.hook((PacketHook::FromDevice, DEVICE), &frame);
    assert_eq!(
        (verdict, ends(&frame)),
        (PacketVerdict::Forward, (backend, client))
    );
    let (verdict, frame) = world.hook((PacketHook::ToDevice, DEVICE), &frame);
    assert_eq!(
        (verdict, ends(&frame)),
        (PacketVerdict::Forward, (frontend, client))
    );

    assert_eq!(world.flows(), (4, 0), "half-open");
    let frame = Datagram::tcp(client, frontend, tcp::ACK).frame();
    let (verdict, frame) = world.hook((PacketHook::FromDevice, DEVICE), &frame);
    assert_eq!(
        (verdict, ends(&frame)),
        (PacketVerdict::Forward, (client, backend))
    );
    assert_eq!(
        world.flows(),
        (0, 4),
        "confirmed by the packet after the answer"
    );
    let (verdict, frame) = world.hook((PacketHook::ToDevice, DEVICE), &frame);
    assert_eq!(
        (verdict, ends(&frame)),
        (PacketVerdict::Forward, (source, backend))
    );
    assert_eq!(world.sim.counted(Counter::FlowOpened), 1);
}

/// Whether a TCP packet has its whole checksum or leaves it to a device to finish: it is right in the end, after every hook.
#[test]
fn whole_checksums_and_those_that_a_device_finishes() {
    for (v6, is_partial) in [(false, false), (false, true), (true, false), (true, true)] {
        let finish = |frame| {
            if is_partial {
                wire::finish(frame).unwrap()
            } else {
                frame
            }
        };
        for route in [Route::PodToLocal, Route::Hairpin] {
            let world = World::new(route, Protocol::Tcp, v6, 1);
            let seen = world.request(tcp::SYN, &plain());
            world.reply(seen, tcp::SYN | tcp::ACK, &plain());
            world.request(tcp::ACK, &plain());
            let datagram = Datagram::tcp(world.client(), world.frontend(), tcp::ACK);
            let mut packet = SimPacket::new(finish(datagram.frame()), 0);
            packet.is_partial = is_partial;
            for (hook, interface) in route.there() {
                packet.interface = interface;
                let mut state = direct(&packet, hook).expect("nothing is unusual about it");
                let step = track(&world.sim, &mut packet, &mut state);
                assert!(matches!(step, PacketStep::Done(_)), "{step:?} at {hook:?}");
                assert_eq!(wire::check(&finish(packet.bytes.clone())), Ok(()));
            }
            assert_eq!(ends(&packet.bytes).1, world.backend(1));
        }
    }
}

/// What each route leaves in the tables, and what the backend sees. Until the backend has spoken a flow stays half-open,
/// wherever its entries lie.
#[test]
fn every_route() {
    for route in Route::ALL {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for (v6, quick) in [(false, false), (false, true), (true, false), (true, true)] {
                let mut world = World::new(route, protocol, v6, 3);
                world.sim.has_quick_lines = quick;
                let looks = plain();
                let ends = world.request(tcp::SYN, &looks);
                let client = if route.has_source() {
                    (world.source(), world.client().1)
                } else {
                    world.client()
                };
                assert_eq!(ends.0, client, "{route:?}");
                let entries = match route {
                    Route::PodToLocal | Route::PodToRemote => 2,
                    Route::DeviceToLocal => 3,
                    Route::DeviceToRemote | Route::Hairpin => 4,
                };
                assert_eq!(world.flows(), (entries, 0), "{route:?}");
                assert_eq!(world.request(tcp::ACK, &looks), ends);
                assert_eq!(world.flows(), (entries, 0), "{route:?}");
                world.reply(ends, tcp::SYN | tcp::ACK, &looks);
                assert_eq!(world.flows(), (entries, 0), "{route:?}");
                assert_eq!(world.request(tcp::ACK, &looks), ends);
                assert_eq!(world.flows(), (0, entries), "{route:?}");
                world.reply(ends, tcp::ACK, &looks);
            }
        }
    }
}

/// After both have closed, the same ports are a new connection; the table does not grow.
#[test]
fn a_port_is_used_again() {
    for route in Route::ALL {
        let world = World::new(route, Protocol::Tcp, false, 1);
        for _ in 0..3 {
            let ends = world.request(tcp::SYN, &plain());
            world.reply(ends, tcp::SYN | tcp::ACK, &plain());
            world.request(tcp::ACK, &plain());
            world.request(tcp::FIN | tcp::ACK, &plain());
            world.reply(ends, tcp::FIN | tcp::ACK, &plain());
            world.request(tcp::ACK, &plain());
        }
        assert_eq!(world.sim.counted(Counter::FlowOpened), 3, "{route:?}");
        let (opening, flows) = world.flows();
        assert!(opening + flows <= 4, "{route:?}: {opening} and {flows}");
    }
}

/// The client calls the backend itself, from the port of a connection through the Service that has ended: what the backend
/// says is not that one's reply.
#[test]
fn a_port_is_used_again_without_the_service() {
    for last in [tcp::RST, tcp::FIN | tcp::ACK] {
        let world = World::new(Route::PodToLocal, Protocol::Tcp, false, 1);
        let (client, backend) = world.request(tcp::SYN, &plain());
        world.reply((client, backend), tcp::SYN | tcp::ACK, &plain());
        world.request(tcp::ACK, &plain());
        world.request(last, &plain());
        if last != tcp::RST {
            world.reply((client, backend), last, &plain());
        }
        let there = Route::PodToLocal.there();
        let asked = Datagram::tcp(client, backend, tcp::SYN).frame();
        assert_eq!(world.send(there, asked.clone()), asked);
        assert_eq!(world.flows(), (0, 0));
        let answer = Datagram::tcp(backend, client, tcp::SYN | tcp::ACK).frame();
        assert_eq!(world.send(Route::PodToLocal.back(), answer.clone()), answer);
    }
}

#[test]
fn a_reset_ends_a_flow_and_a_stranger_s_does_not() {
    let world = World::new(Route::DeviceToRemote, Protocol::Tcp, false, 1);
    let ends = world.request(tcp::SYN, &plain());
    world.reply(ends, tcp::SYN | tcp::ACK, &plain());
    world.request(tcp::ACK, &plain());
    world.request(tcp::RST, &plain());
    // The backend did not believe it: the connection goes on.
    world.reply(ends, tcp::ACK, &plain());
    world.request(tcp::ACK, &plain());
    world.request(tcp::SYN, &plain());
    assert_eq!(world.sim.counted(Counter::FlowOpened), 1);
    world.reply(ends, tcp::RST, &plain());
    world.request(tcp::SYN, &plain());
    assert_eq!(world.sim.counted(Counter::FlowOpened), 2);
}

/// A backend that is gone: TCP is told, datagrams find another.
#[test]
fn the_backend_goes_away() {
    for v6 in [false, true] {
        let mut world = World::new(Route::PodToLocal, Protocol::Tcp, v6, 1);
        let ends = world.request(tcp::SYN, &plain());
        world.reply(ends, tcp::SYN | tcp::ACK, &plain());
        world.put_backend(1, BackendState::Draining);
        world.request(tcp::ACK, &plain());
        world.put_backend(1, BackendState::Gone);
        let frame = Datagram::tcp(world.client(), world.frontend(), tcp::ACK).frame();
        let (verdict, _) = world.hook(world.route.there()[0], &frame);
        assert_eq!(verdict, PacketVerdict::Reflect(Reason::BackendGone));

        let mut world = World::new(Route::PodToLocal, Protocol::Udp, v6, 1);
        let ends = world.request(0, &plain());
        world.reply(ends, 0, &plain());
        assert_eq!(world.request(0, &plain()), ends);
        world.publish(&[2]);
        assert_eq!(
            world.request(0, &plain()),
            ends,
            "draining keeps what it has"
        );
        world.put_backend(1, BackendState::Gone);
        assert_eq!(world.request(0, &plain()).1, world.backend(2));
        assert_eq!(world.flows(), (2, 0));
    }
}

/// An id that is another backend's by now ends the flow; one of tables that were replaced says nothing.
#[test]
fn an_id_of_other_tables() {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let mut world = World::new(Route::PodToLocal, protocol, false, 1);
        let ends = world.request(tcp::SYN, &plain());
        world.reply(ends, tcp::SYN | tcp::ACK, &plain());
        world.publish(&[2]);
        world.sim.trusts_ids = false;
        let other = world.sim.backends[&2];
        for held in [None, Some(other)] {
            world.sim.backends.remove(&1);
            world.sim.backends.extend(held.map(|other| (1, other)));
            assert_eq!(world.request(tcp::ACK, &plain()), ends);
        }
        world.sim.trusts_ids = true;
        if protocol == Protocol::Udp {
            assert_eq!(world.request(0, &plain()).1, world.backend(2));
            continue;
        }
        let frame = Datagram::tcp(world.client(), world.frontend(), tcp::ACK).frame();
        let (verdict, _) = world.hook(world.route.there()[0], &frame);
        assert_eq!(verdict, PacketVerdict::Reflect(Reason::BackendGone));
    }
}

/// Silence ends what a datagram began.
#[test]
fn a_silent_datagram_flow_chooses_anew() {
    let mut world = World::new(Route::PodToRemote, Protocol::Udp, false, 1);
    let (_, first) = world.request(0, &plain());
    world.publish(&[2]);
    world.sim.clock.set(world.sim.clock.get() + 179 * SECOND);
    assert_eq!(world.request(0, &plain()).1, first);
    world.sim.clock.set(world.sim.clock.get() + 180 * SECOND);
    assert_eq!(world.request(0, &plain()).1, world.backend(2));
}

/// Each route with entries that lie together, and with such as do not.
fn together_and_apart() -> impl Iterator<Item = (Route, bool)> {
    let routes = Route::ALL.into_iter();
    routes.flat_map(|it| [(it, true), (it, false)])
}

/// Where `flows` is full, a flow that needs no source goes on half-open; one that does is refused.
#[test]
fn flows_are_full() {
    for (route, quick) in together_and_apart() {
        for room in 0..4 {
            let mut world = World::new(route, Protocol::Tcp, false, 1);
            (world.sim.flows_capacity, world.sim.has_quick_lines) = (room, quick);
            let ends = world.request(tcp::SYN, &plain());
            world.reply(ends, tcp::SYN | tcp::ACK, &plain());
            let frame = Datagram::tcp(world.client(), world.frontend(), tcp::ACK).frame();
            let (verdict, _) = world.hook(route.there()[0], &frame);
            let entries = world.flows();
            let needed = match route {
                Route::PodToLocal | Route::PodToRemote => 2,
                Route::DeviceToLocal => 3,
                Route::DeviceToRemote | Route::Hairpin => 4,
            };
            if room >= needed {
                assert_eq!(verdict, PacketVerdict::Forward);
            } else if route.has_source() {
                assert_eq!(verdict, PacketVerdict::Reflect(Reason::FlowsFull));
                assert_eq!(entries, (0, 0), "{route:?} with room for {room}");
            } else {
                assert_eq!(verdict, PacketVerdict::Forward);
                assert_eq!(entries, (needed, 0), "{route:?} with room for {room}");
                world.reply(ends, tcp::ACK, &plain());
                assert_eq!(world.request(tcp::ACK, &plain()), ends);
            }
        }
    }
}

/// No room for a new flow: all of it is refused, none of it is left.
#[test]
fn opening_is_full() {
    for (route, quick) in together_and_apart() {
        let needed = match route {
            Route::PodToLocal | Route::PodToRemote => 2,
            Route::DeviceToLocal | Route::DeviceToRemote | Route::Hairpin => 3,
        };
        for room in 0..needed {
            let mut world = World::new(route, Protocol::Udp, false, 1);
            (world.sim.opening_capacity, world.sim.has_quick_lines) = (room, quick);
            let frame = Datagram::udp(world.client(), world.frontend()).frame();
            let (verdict, _) = world.hook(route.there()[0], &frame);
            assert_eq!(verdict, PacketVerdict::Drop(Reason::FlowsFull));
            assert_eq!(world.flows(), (0, 0), "{route:?} with room for {room}");
        }
    }
    let mut world = World::new(Route::DeviceToRemote, Protocol::Udp, false, 1);
    world.sim.opening_capacity = 3;
    let frame = Datagram::udp(world.client(), world.frontend()).frame();
    let (_, frame) = world.hook(world.route.there()[0], &frame);
    let (verdict, _) = world.hook(world.route.there()[1], &frame);
    assert_eq!(verdict, PacketVerdict::Drop(Reason::FlowsFull));
}

#[test]
fn nothing_is_left_of_a_forgotten_flow() {
    for route in Route::ALL {
        for is_confirmed in [false, true] {
            let world = World::new(route, Protocol::Tcp, true, 2);
            let ends = world.request(tcp::SYN, &plain());
            if is_confirmed {
                world.reply(ends, tcp::SYN | tcp::ACK, &plain());
                world.request(tcp::ACK, &plain());
            }
            let (client, frontend) = (world.client(), world.frontend());
            let request = FlowKey::new(Direction::Ingress, Protocol::Tcp, client, frontend);
            let value =
                crate::FlowEntry::value(&crate::Tables::flow(&world.sim, &request).unwrap());
            forget(&world.sim, &request, &value);
            assert_eq!(world.flows(), (0, 0), "{route:?}");
        }
    }
}

/// A backend that has gone since the set was written.
#[test]
fn the_first_choice_is_gone() {
    for gone in [1, 2] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let mut world = World::new(Route::DeviceToRemote, protocol, false, 2);
            world.put_backend(gone, BackendState::Gone);
            let (_, backend) = world.request(tcp::SYN, &plain());
            assert_eq!(backend, world.backend(3 - gone));
            assert_eq!(world.flows(), (4, 0));
        }
    }
}

/// One client port talks to one backend by two frontends: the replies could not be told apart.
#[test]
fn two_frontends_and_one_backend() {
    let mut world = World::new(Route::PodToLocal, Protocol::Udp, false, 1);
    let other = (address(false, 96, 6), Port::new(80));
    let key = |address| mesh_common::FrontendKey::new(address, Port::new(80), 17);
    let value = world.sim.frontends[&key(world.frontend().0)];
    world.sim.frontends.insert(key(other.0), value);
    let (_, first) = world.request(0, &plain());
    let frame = Datagram::udp(world.client(), other).frame();
    let (verdict, _) = world.hook(world.route.there()[0], &frame);
    assert_eq!(verdict, PacketVerdict::Reflect(Reason::TupleInUse));
    world.publish(&[1, 2]);
    let (verdict, frame) = world.hook(world.route.there()[0], &frame);
    assert_eq!(verdict, PacketVerdict::Forward);
    assert_ne!(ends(&frame).1, first);
}
