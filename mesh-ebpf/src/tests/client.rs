//! Who a client at a socket is, when nobody but its own connections told.

use mesh_common::{
    Address, AffinityKey, Client, ClientAddresses, FrontendKey, FrontendValue, Port, Protocol,
    Reason, SourceRangeKey,
};

use super::{SERVICE_PORT, World, address};
use crate::{Verdict, connect, established, sim::SimConnection};

const NETNS: u64 = 7;
const SERVICE: u32 = 3;

fn pod(v6: bool, number: u32) -> Address {
    address(v6, 10, 0x0900 + number)
}

fn answer(world: &World, own: Address, peer: Address) {
    let connection = SimConnection {
        own,
        peer,
        netns_cookie: NETNS,
    };
    established(&world.sim, &connection);
}

/// The client's address, as a call asks for it.
fn known(world: &World, v6: bool) -> Option<Address> {
    let learned = world.sim.learned_clients.borrow();
    learned.get(&NETNS).and_then(|it| it.address(!v6))
}

#[test]
fn an_answered_connection_shows_who_the_client_is() {
    for v6 in [false, true] {
        let world = World::new(v6, SERVICE, 8, 10);
        let mut first = world.socket(Protocol::Tcp, SERVICE, 1);
        assert_eq!(connect(&world.sim, &mut first), Verdict::Forward);
        answer(&world, pod(v6, 2), first.peer.0);
        assert_eq!(known(&world, v6), Some(pod(v6, 2)));
        assert_eq!(known(&world, !v6), None);
        // What it had by its namespace it keeps, by its address from now on.
        let mut second = world.socket(Protocol::Tcp, SERVICE, 2);
        assert_eq!(connect(&world.sim, &mut second), Verdict::Forward);
        assert_eq!(first.peer, second.peer);
        let key = AffinityKey::new(Client::from_address(pod(v6, 2)), SERVICE);
        let backend = world.sim.affinity.borrow()[&key].backend();
        assert_eq!(backend, world.backend_of(&first));
    }
}

#[test]
fn source_ranges_are_decided_at_the_socket_from_then_on() {
    for v6 in [false, true] {
        let mut world = World::new(v6, SERVICE, 2, 0);
        let ip = world.cluster_ip(SERVICE);
        let key = FrontendKey::new(ip, Port::new(SERVICE_PORT), Protocol::Tcp.number());
        let value = FrontendValue::new(SERVICE, SERVICE, 0).with_source_ranges();
        world.sim.frontends.insert(key, value);
        let verdict = |world: &World| {
            let mut socket = world.socket(Protocol::Tcp, SERVICE, 1);
            connect(&world.sim, &mut socket)
        };
        assert_eq!(verdict(&world), Verdict::Pass);
        answer(&world, pod(v6, 2), ip);
        let refused = Verdict::Refuse(Reason::SourceNotAllowed);
        assert_eq!(verdict(&world), refused);
        let range = SourceRangeKey::new(SERVICE, pod(v6, 2), 128);
        world.sim.source_ranges.insert(range);
        assert_eq!(verdict(&world), Verdict::Forward);
        // Which of two addresses it will use is left to the packet path.
        answer(&world, pod(v6, 3), ip);
        assert_eq!(verdict(&world), Verdict::Pass);
    }
}

#[test]
fn what_the_agent_knows_goes_before() {
    let mut world = World::new(false, SERVICE, 2, 10);
    answer(&world, pod(false, 2), pod(false, 9));
    let several = ClientAddresses::new(NETNS, Address::UNSPECIFIED, pod(true, 4));
    world.sim.clients.insert(NETNS, several);
    answer(&world, pod(true, 5), pod(true, 9));
    assert_eq!(known(&world, true), None, "nothing is learned any more");
    let mut socket = world.socket(Protocol::Tcp, SERVICE, 1);
    assert_eq!(connect(&world.sim, &mut socket), Verdict::Forward);
    let by_namespace = AffinityKey::new(Client::from_netns_cookie(NETNS), SERVICE);
    assert!(world.sim.affinity.borrow().contains_key(&by_namespace));
    // An element that was reused while it was read is another namespace's.
    let other = ClientAddresses::new(NETNS + 1, pod(false, 8), pod(true, 8));
    world.sim.clients.insert(NETNS, other);
    let mut socket = world.socket(Protocol::Tcp, SERVICE, 2);
    assert_eq!(connect(&world.sim, &mut socket), Verdict::Forward);
    let by_address = AffinityKey::new(Client::from_address(pod(false, 2)), SERVICE);
    assert!(world.sim.affinity.borrow().contains_key(&by_address));
}

#[test]
fn within_a_host_nothing_is_learned() {
    let world = World::new(false, SERVICE, 2, 0);
    let own = ["127.0.0.1", "169.254.3.4", "::1", "fe80::2", "0.0.0.0"];
    for own in own {
        let own: core::net::IpAddr = own.parse().unwrap();
        answer(&world, own.into(), pod(false, 9));
    }
    answer(&world, pod(false, 2), pod(false, 2));
    assert!(world.sim.learned_clients.borrow().is_empty());
}
