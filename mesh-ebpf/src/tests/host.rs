//! Frontends on loopback addresses: for the host's own clients, and for nobody else.

use mesh_common::{Address, FrontendKey, FrontendValue, Port, Protocol};

use super::{SERVICE_PORT, World};
use crate::{Verdict, connect, sendmsg, sim::SimSocket};

/// A Service of two backends, which the host reaches at its loopback too.
fn world(v6: bool, protocol: Protocol) -> (World, SimSocket) {
    let mut world = World::new(v6, 3, 2, 0);
    let loopback = Address::LOOPBACK[usize::from(v6)];
    let key = FrontendKey::new(loopback, Port::new(SERVICE_PORT), protocol.number());
    let value = FrontendValue::new(3, 3, 0).external().for_host();
    world.sim.frontends.insert(key, value);
    let mut socket = world.socket(protocol, 3, 11);
    socket.peer.0 = loopback;
    (world, socket)
}

#[test]
fn the_host_reaches_its_loopback() {
    for v6 in [false, true] {
        let (world, mut socket) = world(v6, Protocol::Tcp);
        socket.is_in_host = true;
        assert_eq!(connect(&world.sim, &mut socket), Verdict::Forward);
        assert!([3001, 3002].contains(&world.backend_of(&socket)));
        let (world, mut socket) = self::world(v6, Protocol::Udp);
        socket.is_in_host = true;
        assert_eq!(sendmsg(&world.sim, &mut socket), Verdict::Forward);
        assert!([3001, 3002].contains(&world.backend_of(&socket)));
    }
}

#[test]
fn a_pods_loopback_is_its_own() {
    for v6 in [false, true] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let (world, mut socket) = world(v6, protocol);
            let before = socket.clone();
            assert_eq!(connect(&world.sim, &mut socket), Verdict::Pass);
            assert_eq!(sendmsg(&world.sim, &mut socket), Verdict::Pass);
            assert_eq!(socket, before);
            assert!(world.sim.counts.borrow().is_empty());
        }
    }
}
