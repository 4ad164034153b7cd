//! Flows that another load balancer began, and ports that it gave away.

use mesh_common::{Direction, FlowKey, Protocol};

use super::{
    scenarios::ends,
    world::{DEVICE, Route, SECOND, World},
};
use crate::{
    FOREIGN_SILENCE, PacketHook, PacketVerdict,
    sim::wire::{Datagram, tcp},
};

#[test]
fn a_flow_is_left_until_silence() {
    let world = World::new(Route::DeviceToRemote, Protocol::Udp, false, 1);
    let (client, frontend) = (world.client(), world.frontend());
    let key = FlowKey::new(Direction::Ingress, Protocol::Udp, client, frontend);
    world.sim.clock.set(1000 * SECOND);
    world.sim.foreign.borrow_mut().insert(key, 990);
    let frame = Datagram::udp(client, frontend).frame();
    let (verdict, seen) = world.hook((PacketHook::FromDevice, DEVICE), &frame);
    assert_eq!(
        (verdict, ends(&seen)),
        (PacketVerdict::Pass, (client, frontend))
    );
    assert_eq!(world.flows(), (0, 0));
    let after = 1000 + u64::from(FOREIGN_SILENCE);
    world.sim.clock.set(after * SECOND);
    let (verdict, _) = world.hook((PacketHook::FromDevice, DEVICE), &frame);
    assert_eq!(verdict, PacketVerdict::Forward);
}

#[test]
fn a_port_that_is_given_away_is_not_taken() {
    let world = World::new(Route::DeviceToRemote, Protocol::Tcp, false, 1);
    let (client, frontend) = (world.client(), world.frontend());
    let frame = Datagram::tcp(client, frontend, tcp::SYN).frame();
    let (_, frame) = world.hook((PacketHook::FromDevice, DEVICE), &frame);
    let (_, backend) = ends(&frame);
    let node = ends(&world.hook((PacketHook::ToDevice, DEVICE), &frame).1).0;
    assert_eq!(node.1, client.1, "its own port, where it is free");

    let world = World::new(Route::DeviceToRemote, Protocol::Tcp, false, 1);
    let taken = FlowKey::new(Direction::Ingress, Protocol::Tcp, backend, node);
    world.sim.foreign.borrow_mut().insert(taken, 1);
    let frame = Datagram::tcp(client, frontend, tcp::SYN).frame();
    let (_, frame) = world.hook((PacketHook::FromDevice, DEVICE), &frame);
    let (source, _) = ends(&world.hook((PacketHook::ToDevice, DEVICE), &frame).1);
    assert_eq!(source.0, node.0);
    assert_ne!(source.1, node.1);
}
