//! Traffic policies: who is led to this node's endpoints alone, by which address and from where.

use mesh_common::{Address, FrontendKey, FrontendValue, Protocol, Reason, ServiceWord, SetWord};
use proptest::prelude::*;

use super::world::{Route, SERVICE, World, any_route, plain};
use crate::{PacketHook, PacketVerdict, packet::tests::scenarios::ends, sim::wire::tcp};

const LOCAL: u32 = SERVICE + 1;
const LOCAL_SLOT: u32 = 4000;

/// A Service whose first endpoint, or none, is on this node.
fn world(route: Route, protocol: Protocol, v6: bool, external: bool, here: bool) -> World {
    let mut world = World::new(route, protocol, v6, 3);
    let (address, port) = world.frontend();
    let value = FrontendValue::new(SERVICE, SERVICE, LOCAL);
    let value = if external { value.external() } else { value };
    let key = FrontendKey::new(address, port, protocol.number());
    world.sim.frontends.insert(key, value);
    world.sim.slots.insert(LOCAL_SLOT, 1);
    let word = SetWord::new(LOCAL_SLOT, u32::from(here));
    world.sim.sets.insert(LOCAL, word);
    world
}

/// Whether the policy Local counts: everywhere at a ClusterIP, at other addresses for who comes by a device.
fn is_narrow(route: Route, external: bool) -> bool {
    !external || route.there()[0].0 == PacketHook::FromDevice
}

proptest! {
    #[test]
    fn local_endpoints_alone(
        route in any_route(), v6: bool, is_tcp: bool, external: bool, here: bool, affinity: bool,
        client in 1024_u16..,
    ) {
        prop_assume!(route != Route::Hairpin);
        let protocol = if is_tcp { Protocol::Tcp } else { Protocol::Udp };
        let mut world = world(route, protocol, v6, external, here);
        if affinity {
            world.sim.services.insert(SERVICE, ServiceWord::new(60));
        }
        let mut from = world.client();
        from.1 = mesh_common::Port::new(client);
        let frame = plain().on(world.datagram(from, world.frontend(), tcp::SYN)).frame();
        let (verdict, seen) = world.hook(route.there()[0], &frame);
        if is_narrow(route, external) && !here {
            prop_assert_eq!(verdict, PacketVerdict::Reflect(Reason::NoLocalEndpoints));
            return Ok(());
        }
        prop_assert_eq!(verdict, PacketVerdict::Forward);
        let (_, to) = ends(&seen);
        if is_narrow(route, external) {
            prop_assert_eq!(to, world.backend(1));
        }
    }
}

/// Who was led elsewhere by an address without the policy is led to this node by one with it.
#[test]
fn affinity_does_not_leave_the_node() {
    for external in [false, true] {
        let route = Route::DeviceToLocal;
        let mut world = world(route, Protocol::Tcp, false, external, true);
        world.sim.services.insert(SERVICE, ServiceWord::new(60));
        let (address, port) = world.frontend();
        let wide = FrontendKey::new(address, mesh_common::Port::new(81), 6);
        let value = FrontendValue::new(SERVICE, SERVICE, 0);
        world.sim.frontends.insert(wide, value);
        for client in 2000..2100 {
            for number in [81, port.get()] {
                let own = mesh_common::Port::new(client + 1000 * u16::from(number == 81));
                let from = (world.client().0, own);
                let to = (address, mesh_common::Port::new(number));
                let frame = world.datagram(from, to, tcp::SYN).frame();
                let (verdict, seen) = world.hook(route.there()[0], &frame);
                assert_eq!(verdict, PacketVerdict::Forward);
                assert!(number == 81 || ends(&seen).1 == world.backend(1));
            }
            world
                .sim
                .affinity
                .borrow_mut()
                .retain(|key, _| key.service() & mesh_common::LOCAL_CHOICE == 0);
        }
    }
}

/// A Service without any endpoint has none, wherever they would have to be.
#[test]
fn nobody_at_all_is_another_reason() {
    let route = Route::DeviceToLocal;
    let mut world = world(route, Protocol::Tcp, false, true, false);
    world.publish(&[]);
    let frame = world
        .datagram(world.client(), world.frontend(), tcp::SYN)
        .frame();
    let (verdict, _) = world.hook(route.there()[0], &frame);
    assert_eq!(verdict, PacketVerdict::Reflect(Reason::NoEndpoints));
}

/// What the host alone has at a loopback address no packet reaches, whatever it says of where it goes.
#[test]
fn loopback_is_no_packets_destination() {
    for v6 in [false, true] {
        let mut world = World::new(Route::DeviceToLocal, Protocol::Tcp, v6, 3);
        let to = (Address::LOOPBACK[usize::from(v6)], world.frontend().1);
        let key = FrontendKey::new(to.0, to.1, Protocol::Tcp.number());
        let value = FrontendValue::new(SERVICE, SERVICE, 0)
            .external()
            .for_host();
        world.sim.frontends.insert(key, value);
        let frame = plain()
            .on(world.datagram(world.client(), to, tcp::SYN))
            .frame();
        let (verdict, seen) = world.hook(Route::DeviceToLocal.there()[0], &frame);
        assert_eq!(verdict, PacketVerdict::Pass);
        assert_eq!(ends(&seen).1, to);
    }
}
