//! What is over must not be taken for what comes after it with the same numbers: ids of backends, and ports.

use mesh_common::{BackendState, Protocol};

use super::world::{Route, World, plain};
use crate::{
    PacketVerdict,
    sim::wire::{self, tcp},
};

/// An id and an address that belong to another Service's backend now.
#[test]
fn a_flow_does_not_follow_an_id_that_was_given_out_again() {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let mut world = World::new(Route::PodToLocal, protocol, false, 1);
        let ends = world.request(tcp::SYN, &plain());
        world.reply(ends, tcp::SYN | tcp::ACK, &plain());
        world.request(tcp::ACK, &plain());
        world.publish(&[]);
        world.put_backend(1, BackendState::Gone);
        world.give_out_again(1);
        let datagram = world.datagram(world.client(), world.frontend(), tcp::ACK);
        let (verdict, _) = world.hook(world.route.there()[0], &datagram.frame());
        assert!(
            matches!(verdict, PacketVerdict::Reflect(_)),
            "{protocol:?}: {verdict:?}"
        );
    }
}

/// The client calls a backend by its own address, from a port from which it called the Service before.
#[test]
fn replies_to_a_direct_call_are_left_alone() {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let world = World::new(Route::PodToLocal, protocol, false, 1);
        let ends = world.request(tcp::SYN, &plain());
        world.reply(ends, tcp::SYN | tcp::ACK, &plain());
        world.request(tcp::ACK, &plain());
        world.request(tcp::FIN | tcp::ACK, &plain());
        world.reply(ends, tcp::FIN | tcp::ACK, &plain());
        let (client, backend) = (world.client(), world.backend(1));
        let direct = world.datagram(client, backend, tcp::SYN).frame();
        assert_eq!(world.send(world.route.there(), direct.clone()), direct);
        let answer = world.datagram(backend, client, tcp::SYN | tcp::ACK).frame();
        let back = world.send(world.route.back(), answer.clone());
        let seen = wire::parse(&back).unwrap();
        assert_eq!(seen.source, backend, "{protocol:?}");
    }
}
