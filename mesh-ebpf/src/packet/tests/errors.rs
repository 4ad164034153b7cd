//! ICMP errors: whoever gets one finds in it the packet that he himself has sent.

use mesh_common::{Address, Protocol, Reason};
use proptest::prelude::*;

use super::world::{End, Route, World, any_looks, any_protocol, any_route, plain};
use crate::{
    PacketVerdict,
    sim::wire::{self, Error, tcp},
    tests::address,
};

/// A flow whose packets have gone both ways; its client and backend as the backend sees them.
fn flow(route: Route, protocol: Protocol, v6: bool) -> (World, (End, End)) {
    let world = World::new(route, protocol, v6, 3);
    let ends = world.request(tcp::SYN, &plain());
    world.reply(ends, tcp::SYN | tcp::ACK, &plain());
    assert_eq!(world.request(tcp::ACK, &plain()), ends);
    (world, ends)
}

fn any_error() -> impl Strategy<Value = Error> {
    prop_oneof![
        (1280_u16..1500).prop_map(Error::TooBig),
        Just(Error::PortUnreachable),
        Just(Error::TimeExceeded),
    ]
}

/// What a receiver of an error reads: who speaks, to whom, and the ends of the packet that it is about.
fn read(frame: &[u8]) -> (Address, Address, End, End) {
    let seen = wire::parse(frame).unwrap();
    let inner = wire::parse(&wire::frame(seen.about.unwrap())).unwrap();
    (
        seen.source.0,
        seen.destination.0,
        inner.source,
        inner.destination,
    )
}

proptest! {
    /// A router behind the node, or the backend itself, has trouble with a request.
    #[test]
    fn about_a_request(
        route in any_route(), protocol in any_protocol(), v6: bool, error in any_error(), looks in any_looks(),
        shown in 0_usize..300, by_router: bool,
    ) {
        let (world, (client, backend)) = flow(route, protocol, v6);
        let about = looks.within_an_error().on(world.datagram(client, backend, tcp::ACK)).packet();
        let shown = (wire::parse(&wire::frame(about.clone())).unwrap().transport - wire::ETHERNET + 8).max(shown);
        let router = address(v6, 10, 0x0900);
        let from = if by_router { router } else { backend.0 };
        let frame = error.frame(from, client.0, &about, shown);
        let got = read(&world.send(route.back(), frame));
        // The backend shows itself as the frontend.
        let speaker = if by_router { router } else { world.frontend().0 };
        prop_assert_eq!(got, (speaker, world.client().0, world.client(), world.frontend()));
    }

    /// A router on the client's side, or the client itself, has trouble with a reply.
    #[test]
    fn about_a_reply(
        route in any_route(), protocol in any_protocol(), v6: bool, error in any_error(), looks in any_looks(),
        shown in 0_usize..300, by_router: bool,
    ) {
        let (world, (client, backend)) = flow(route, protocol, v6);
        let about = looks.within_an_error().on(world.datagram(world.frontend(), world.client(), tcp::ACK)).packet();
        let shown = (wire::parse(&wire::frame(about.clone())).unwrap().transport - wire::ETHERNET + 8).max(shown);
        let router = address(v6, 198, 0x0900);
        let from = if by_router { router } else { world.client().0 };
        let frame = error.frame(from, world.frontend().0, &about, shown);
        let got = read(&world.send(route.there(), frame));
        let speaker = if by_router { router } else { client.0 };
        prop_assert_eq!(got, (speaker, backend.0, backend, client));
    }

    /// The node itself has trouble with a request, after its destination was rewritten.
    #[test]
    fn by_the_node_itself(
        route in any_route(), protocol in any_protocol(), v6: bool, error in any_error(), looks in any_looks(),
    ) {
        let (world, (_, backend)) = flow(route, protocol, v6);
        let about = looks.within_an_error().on(world.datagram(world.client(), backend, tcp::ACK)).packet();
        let node = address(v6, 172, 99);
        let frame = error.frame(node, world.client().0, &about, 1000);
        let (verdict, frame) = world.hook(route.back()[1], &frame);
        prop_assert_eq!(verdict, PacketVerdict::Forward);
        prop_assert_eq!(wire::check(&frame), Ok(()));
        prop_assert_eq!(read(&frame), (node, world.client().0, world.client(), world.frontend()));
    }

    /// More extension headers than are walked within an error: not ours.
    #[test]
    fn about_too_many_headers(route in any_route(), protocol in any_protocol(), error in any_error(), more in 4_usize..9) {
        let (world, (client, backend)) = flow(route, protocol, true);
        let mut about = world.datagram(client, backend, tcp::ACK);
        about.extensions = std::vec![(wire::extension::DESTINATION, 0); more];
        let frame = error.frame(backend.0, client.0, &about.packet(), 1000);
        for place in route.back() {
            prop_assert_eq!(world.hook(place, &frame).0, PacketVerdict::Pass);
        }
    }

    /// An error that shows too little, or is about a stranger, is not ours.
    #[test]
    fn about_nothing_of_ours(
        route in any_route(), protocol in any_protocol(), v6: bool, error in any_error(), shown in 0_usize..24,
        place in 0_usize..2, is_stranger: bool,
    ) {
        let (world, (client, backend)) = flow(route, protocol, v6);
        let stranger = (address(v6, 11, 1), client.1);
        let to = if is_stranger { stranger } else { backend };
        let about = world.datagram(client, to, tcp::ACK).packet();
        // IPv4's header is 20 bytes, and the ports are 4.
        let shown = if is_stranger { 100 } else { shown.min(23) };
        let frame = error.frame(to.0, client.0, &about, shown);
        let (verdict, _) = world.hook(route.back()[place], &frame);
        prop_assert_eq!(verdict, PacketVerdict::Pass);
        prop_assert_eq!(world.sim.counted(mesh_common::Counter::Dropped(Reason::Inconsistent)), 0);
    }

    /// An error that is sent to another address than the packet it shows came from is a lie.
    #[test]
    fn to_somebody_else(route in any_route(), protocol in any_protocol(), v6: bool, error in any_error(), back: bool) {
        let (world, (client, backend)) = flow(route, protocol, v6);
        let (from, about, way) = if back {
            (backend, world.datagram(client, backend, tcp::ACK), route.back())
        } else {
            (world.client(), world.datagram(world.frontend(), world.client(), tcp::ACK), route.there())
        };
        let frame = error.frame(from.0, address(v6, 11, 9), &about.packet(), 1000);
        let (verdict, _) = world.hook(way[0], &frame);
        prop_assert_eq!(verdict, PacketVerdict::Pass);
    }
}

/// Nothing but errors is looked into.
#[test]
fn an_echo_is_between_hosts() {
    for v6 in [false, true] {
        let (world, (client, backend)) = flow(Route::DeviceToRemote, Protocol::Udp, v6);
        let mut message = std::vec![if v6 { 128 } else { 8 }, 0, 0, 0, 0, 1, 0, 1];
        message.extend(world.datagram(client, backend, 0).packet());
        let frame = wire::frame(wire::icmp_packet(backend.0, client.0, message));
        for place in world.route.back() {
            assert_eq!(world.hook(place, &frame).0, PacketVerdict::Pass);
        }
    }
}
