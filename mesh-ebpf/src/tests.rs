//! Laws of the socket path, as properties over random tables.

use std::{
    collections::{BTreeMap, BTreeSet},
    vec,
    vec::Vec,
};

use mesh_common::{
    Address, Backend, BackendState, BackendWord, Client, Counter, FrontendKey, FrontendValue,
    PEER_WAYS, PEERS, Port, Protocol, Reason, ServiceWord, SetWord, peer_place,
};
use proptest::prelude::*;

use crate::{
    Tables, Verdict, connect, getpeername, recvmsg, release, sendmsg,
    sim::{Sim, SimSocket},
};

mod client;
mod foreign;
mod host;

const SERVICE_PORT: u16 = 80;
const SECOND: u64 = 1_000_000_000;

/// An address, or its v6 sibling.
pub(crate) fn address(v6: bool, net: u8, host: u32) -> Address {
    let [a, b, c, d] = host.to_be_bytes();
    if v6 {
        return core::net::Ipv6Addr::from([0xfd, net, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d])
            .into();
    }
    core::net::Ipv4Addr::new(net, b, c, d).into()
}

struct World {
    sim: Sim,
    v6: bool,
}

impl World {
    /// One service with `backends` ready endpoints, the set at a base of its own.
    fn new(v6: bool, service: u32, backends: u32, affinity_seconds: u32) -> Self {
        let mut world = Self {
            sim: Sim::default(),
            v6,
        };
        world.add_service(service, backends, affinity_seconds);
        world
    }

    fn add_service(&mut self, service: u32, backends: u32, affinity_seconds: u32) {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let key = FrontendKey::new(
                self.cluster_ip(service),
                Port::new(SERVICE_PORT),
                protocol.number(),
            );
            self.sim
                .frontends
                .insert(key, FrontendValue::new(service, service, 0));
        }
        let whole = FrontendKey::whole_address(self.cluster_ip(service));
        self.sim.frontends.insert(whole, FrontendValue::refuse());
        self.sim
            .services
            .insert(service, ServiceWord::new(affinity_seconds));
        let base = service * 1000;
        for place in 0..backends {
            let id = base + place + 1;
            self.sim.slots.insert(base + place, id);
            self.put_backend(id, BackendState::Ready, 1);
        }
        self.sim.sets.insert(service, SetWord::new(base, backends));
    }

    fn put_backend(&mut self, id: u32, state: BackendState, generation: u32) {
        let word = BackendWord::new(Port::new(8080), state, generation);
        self.sim
            .backends
            .insert(id, Backend::new(address(self.v6, 10, id), word));
    }

    fn cluster_ip(&self, service: u32) -> Address {
        address(self.v6, 96, service)
    }

    fn backend_of(&self, socket: &SimSocket) -> u32 {
        let found = self
            .sim
            .backends
            .iter()
            .find(|(_, backend)| backend.address() == socket.peer.0);
        *found.expect("the peer is a backend").0
    }

    fn socket(&self, protocol: Protocol, service: u32, cookie: u64) -> SimSocket {
        SimSocket {
            own_port: Port::new(40_000),
            peer: (self.cluster_ip(service), Port::new(SERVICE_PORT)),
            protocol: Some(protocol),
            cookie,
            client: Client::from_netns_cookie(7),
            is_in_host: false,
        }
    }

    fn refused(&self) -> u64 {
        Reason::ALL
            .iter()
            .map(|reason| self.sim.counted(Counter::Refused(*reason)))
            .sum()
    }
}

proptest! {
    /// Whatever is forwarded goes to a ready backend of the Service, and the way back shows the Service again.
    #[test]
    fn connect_and_back(v6: bool, backends in 1_u32..20, seed: u64, affinity in 0_u32..3) {
        let world = World::new(v6, 3, backends, affinity);
        world.sim.seed.set(seed);
        let mut socket = world.socket(Protocol::Tcp, 3, 11);
        let asked = socket.peer;
        prop_assert_eq!(connect(&world.sim, &mut socket), Verdict::Forward);
        prop_assert!((3001..3001 + backends).contains(&world.backend_of(&socket)));
        prop_assert_eq!(socket.peer.1, Port::new(8080));
        getpeername(&world.sim, &mut socket);
        prop_assert_eq!(socket.peer, asked);
        // Where the socket is, for who looks for it when the backend is gone.
        prop_assert!(world.sim.peers.borrow().values().all(|peer| peer.netns() == 7));
        release(&world.sim, 11, Some(Protocol::Tcp));
        prop_assert!(world.sim.peer_cookies.borrow().is_empty());
        prop_assert_eq!(world.sim.counted(Counter::Forwarded), 1);
        prop_assert_eq!(world.refused(), 0);
    }

    /// At a socket the client is inside: a ClusterIP has the internal policy, every other address all endpoints.
    #[test]
    fn policies_at_the_socket(external: bool, here: bool, affinity in 0_u32..2, seed: u64) {
        let mut world = World::new(false, 3, 5, affinity);
        world.sim.seed.set(seed);
        let key = FrontendKey::new(world.cluster_ip(3), Port::new(SERVICE_PORT), 6);
        let value = FrontendValue::new(3, 3, 4);
        let value = if external { value.external() } else { value };
        world.sim.frontends.insert(key, value);
        world.sim.slots.insert(90_000, 3002);
        world.sim.sets.insert(4, SetWord::new(90_000, u32::from(here)));
        let mut socket = world.socket(Protocol::Tcp, 3, 11);
        let verdict = connect(&world.sim, &mut socket);
        match (external, here) {
            (true, _) => prop_assert_eq!(verdict, Verdict::Forward),
            (false, true) => {
                prop_assert_eq!(verdict, Verdict::Forward);
                prop_assert_eq!(world.backend_of(&socket), 3002);
            }
            (false, false) => {
                prop_assert_eq!(verdict, Verdict::Refuse(Reason::NoLocalEndpoints));
                prop_assert_eq!(world.sim.counted(Counter::Refused(Reason::NoLocalEndpoints)), 1);
            }
        }
    }

    /// What is not a Service's goes on untouched and is counted nowhere.
    #[test]
    fn strangers_pass(v6: bool, host in 100_u32.., port: u16, protocol in 0_u8..3) {
        let world = World::new(v6, 3, 2, 0);
        let mut socket = world.socket(Protocol::Tcp, 3, 11);
        socket.peer = (address(v6, 11, host), Port::new(port));
        socket.protocol = [None, Some(Protocol::Tcp), Some(Protocol::Udp)][usize::from(protocol)];
        let before = socket.clone();
        prop_assert_eq!(connect(&world.sim, &mut socket), Verdict::Pass);
        prop_assert_eq!(sendmsg(&world.sim, &mut socket), Verdict::Pass);
        prop_assert_eq!(&socket, &before);
        prop_assert!(world.sim.counts.borrow().is_empty());
        prop_assert!(world.sim.sockets.borrow().is_empty());
    }

    /// A refusal leaves the call untouched and adds to exactly one reason.
    #[test]
    fn refusals_are_counted_once(v6: bool, udp: bool, port in 1_u16.., backends in 0_u32..2) {
        let world = World::new(v6, 3, backends, 0);
        let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
        let mut socket = world.socket(protocol, 3, 11);
        socket.peer.1 = Port::new(port);
        let before = socket.clone();
        let expected = match (port == SERVICE_PORT, backends) {
            (true, 0) => Verdict::Refuse(Reason::NoEndpoints),
            (true, _) => Verdict::Forward,
            (false, _) => Verdict::Refuse(Reason::NoSuchPort),
        };
        prop_assert_eq!(connect(&world.sim, &mut socket), expected);
        if expected != Verdict::Forward {
            prop_assert_eq!(&socket, &before);
            prop_assert_eq!(world.refused(), 1);
        }
    }

    /// A client with affinity stays until the timeout, counted from its last connection, or until its backend is not
    /// ready any more.
    #[test]
    fn affinity_holds(v6: bool, seed: u64, pauses in proptest::collection::vec(0_u64..20, 1..20)) {
        let mut world = World::new(v6, 3, 8, 10);
        world.sim.seed.set(seed);
        let mut socket = world.socket(Protocol::Tcp, 3, 1);
        prop_assert_eq!(connect(&world.sim, &mut socket), Verdict::Forward);
        let mut last = world.backend_of(&socket);
        for (cookie, pause) in (2..).zip(pauses) {
            world.sim.clock.set(world.sim.clock.get() + pause * SECOND);
            let mut socket = world.socket(Protocol::Tcp, 3, cookie);
            prop_assert_eq!(connect(&world.sim, &mut socket), Verdict::Forward);
            let now = world.backend_of(&socket);
            if pause < 10 {
                prop_assert_eq!(now, last);
            }
            last = now;
        }
        world.put_backend(last, BackendState::Draining, 1);
        let others: Vec<u32> = (3001..3009).filter(|id| *id != last).collect();
        for (place, id) in (3000..).zip(&others) {
            world.sim.slots.insert(place, *id);
        }
        world.sim.sets.insert(3, SetWord::new(3000, 7));
        let mut socket = world.socket(Protocol::Tcp, 3, 99);
        prop_assert_eq!(connect(&world.sim, &mut socket), Verdict::Forward);
        prop_assert!(others.contains(&world.backend_of(&socket)));
    }

    /// An unconnected socket keeps its backend per frontend while the backend is there; replies show the frontend; and
    /// nothing is left of it when it is closed.
    #[test]
    fn datagrams_stick(
        v6: bool,
        seed: u64,
        steps in proptest::collection::vec((1_u32..5, 0_u32..8), 1..60),
    ) {
        let mut world = World::new(v6, 1, 4, 0);
        for service in 2..5 {
            world.add_service(service, 4, 0);
        }
        world.sim.seed.set(seed);
        let mut generations = [1_u32; 5000];
        let mut kept = [None; 5];
        for (service, gone) in steps {
            if gone < 4 {
                // The backend's endpoint goes and its id is given to another endpoint at once.
                let id = service * 1000 + gone + 1;
                generations[id as usize] += 1;
                world.put_backend(id, BackendState::Ready, generations[id as usize]);
                if kept[service as usize] == Some(id) {
                    kept[service as usize] = None;
                }
            }
            let mut socket = world.socket(Protocol::Udp, service, 5);
            let asked = socket.peer;
            prop_assert_eq!(sendmsg(&world.sim, &mut socket), Verdict::Forward);
            let chosen = world.backend_of(&socket);
            if let Some(before) = kept[service as usize] {
                prop_assert_eq!(chosen, before);
            }
            kept[service as usize] = Some(chosen);
            recvmsg(&world.sim, &mut socket);
            prop_assert_eq!(socket.peer, asked);
        }
        release(&world.sim, 5, Some(Protocol::Udp));
        prop_assert!(world.sim.sockets.borrow().is_empty());
    }

    /// However full `sockets` is: a datagram is refused rather than sent without a way back, a connection is made.
    #[test]
    fn full_sockets(v6: bool, capacity in 0_usize..4) {
        let mut world = World::new(v6, 3, 2, 0);
        world.sim.sockets_capacity = capacity;
        let mut datagram = world.socket(Protocol::Udp, 3, 5);
        let asked = datagram.peer;
        match sendmsg(&world.sim, &mut datagram) {
            Verdict::Forward => {
                recvmsg(&world.sim, &mut datagram);
                prop_assert_eq!(datagram.peer, asked);
            }
            other @ (Verdict::Pass | Verdict::Refuse(_)) => {
                prop_assert_eq!(other, Verdict::Refuse(Reason::SocketsFull));
            }
        }
        world.sim.sockets_capacity = 0;
        let mut socket = world.socket(Protocol::Tcp, 3, 6);
        for way in 0..PEER_WAYS {
            world.sim.set_peer_cookie(peer_place(6, way), 6 + u64::from(PEERS));
        }
        prop_assert_eq!(connect(&world.sim, &mut socket), Verdict::Forward);
        prop_assert_eq!(world.sim.counted(Counter::PeerForgotten), 1);
        // It is another socket that is forgotten.
        let asked = world.socket(Protocol::Tcp, 3, 6).peer;
        getpeername(&world.sim, &mut socket);
        prop_assert_eq!(socket.peer, asked);
    }

    /// An address that goes from one Service to another takes no socket along.
    #[test]
    fn a_choice_is_for_one_service(v6: bool, seed: u64) {
        let mut world = World::new(v6, 1, 3, 0);
        world.add_service(4, 3, 0);
        world.sim.seed.set(seed);
        let mut first = world.socket(Protocol::Udp, 1, 5);
        let asked = first.peer;
        prop_assert_eq!(sendmsg(&world.sim, &mut first), Verdict::Forward);
        let keys = [1, 4].map(|service| {
            let (address, port) = world.socket(Protocol::Udp, service, 5).peer;
            FrontendKey::new(address, port, Protocol::Udp.number())
        });
        let other = world.sim.frontends[&keys[1]];
        world.sim.frontends.insert(keys[0], other);
        let mut second = world.socket(Protocol::Udp, 4, 5);
        second.peer = asked;
        prop_assert_eq!(sendmsg(&world.sim, &mut second), Verdict::Forward);
        prop_assert!((4001..4004).contains(&world.backend_of(&second)));
    }

    /// A UDP socket that was connected to a Service and then to something else shows the latter.
    #[test]
    fn a_socket_that_is_connected_anew_forgets_its_service(v6: bool) {
        let world = World::new(v6, 1, 3, 0);
        let mut socket = world.socket(Protocol::Udp, 1, 5);
        prop_assert_eq!(connect(&world.sim, &mut socket), Verdict::Forward);
        let backend = socket.peer;
        prop_assert_eq!(connect(&world.sim, &mut socket), Verdict::Pass);
        getpeername(&world.sim, &mut socket);
        prop_assert_eq!(socket.peer, backend);
    }

    /// Sockets whose cookies share their places never see each other's Service, however they come and go: those that
    /// found no place see their backend, and the last always sees its Service.
    #[test]
    fn peers_do_not_mix(v6: bool, steps in proptest::collection::vec((0_u64..9, 1_u32..5, any::<bool>()), 1..60)) {
        let mut world = World::new(v6, 1, 3, 0);
        for service in 2..5 {
            world.add_service(service, 3, 0);
        }
        let mut open = BTreeMap::new();
        for (number, service, close) in steps {
            let cookie = 1 + number * u64::from(PEERS);
            if close {
                release(&world.sim, cookie, Some(Protocol::Tcp));
                open.remove(&cookie);
            } else {
                let mut socket = world.socket(Protocol::Tcp, service, cookie);
                let asked = socket.peer;
                prop_assert_eq!(connect(&world.sim, &mut socket), Verdict::Forward);
                open.insert(cookie, (socket.clone(), asked));
                getpeername(&world.sim, &mut socket);
                prop_assert_eq!(socket.peer, asked);
            }
            for (socket, asked) in open.values() {
                let mut shown = socket.clone();
                getpeername(&world.sim, &mut shown);
                prop_assert!(shown.peer == *asked || shown.peer == socket.peer);
            }
        }
        for cookie in open.into_keys() {
            release(&world.sim, cookie, Some(Protocol::Tcp));
        }
        prop_assert!(world.sim.peer_cookies.borrow().is_empty());
        prop_assert!(world.sim.sockets.borrow().is_empty());
    }

    /// v4 and v6 differ in nothing but the addresses.
    #[test]
    fn families_are_alike(seed: u64, backends in 0_u32..6, port in 79_u16..82, affinity in 0_u32..2) {
        let verdicts = [false, true].map(|v6| {
            let world = World::new(v6, 3, backends, affinity);
            world.sim.seed.set(seed);
            let mut socket = world.socket(Protocol::Tcp, 3, 11);
            socket.peer.1 = Port::new(port);
            let verdict = connect(&world.sim, &mut socket);
            let backend = (verdict == Verdict::Forward).then(|| world.backend_of(&socket));
            (verdict, backend, world.sim.counts.borrow().clone())
        });
        prop_assert_eq!(&verdicts[0], &verdicts[1]);
    }

    /// Tables of nonsense never panic, and never forward to an address that is no backend's.
    #[test]
    fn nonsense_is_refused(
        seed: u64,
        words in proptest::collection::vec(any::<u64>(), 4),
        backends in proptest::collection::vec((any::<u32>(), any::<u64>()), 0..4),
    ) {
        let mut world = World::new(false, 3, 0, 0);
        world.sim.seed.set(seed);
        world.sim.sets.insert(3, SetWord::from_word(words[0]));
        world.sim.services.insert(3, ServiceWord::from_word(words[1]));
        let base = SetWord::from_word(words[0]).base();
        for (place, (id, word)) in backends.iter().enumerate() {
            world.sim.slots.insert(base.wrapping_add(place as u32), *id);
            let backend = Backend::new(address(false, 10, *id), BackendWord::from_word(*word));
            world.sim.backends.insert(*id, backend);
        }
        let known: BTreeSet<Address> = world.sim.backends.values().map(|backend| backend.address()).collect();
        let mut socket = world.socket(Protocol::Tcp, 3, 11);
        match connect(&world.sim, &mut socket) {
            Verdict::Forward => prop_assert!(known.contains(&socket.peer.0)),
            other @ (Verdict::Pass | Verdict::Refuse(_)) => prop_assert_ne!(other, Verdict::Pass),
        }
    }
}

/// Two Services before one backend: each reply shows the Service that was asked last.
#[test]
fn shared_backends_show_who_was_asked() {
    let mut world = World::new(false, 1, 1, 0);
    world.add_service(2, 1, 0);
    world.sim.slots.insert(2000, 1001);
    for service in [1, 2, 1, 1, 2, 1] {
        let mut socket = world.socket(Protocol::Udp, service, 5);
        let asked = socket.peer;
        assert_eq!(sendmsg(&world.sim, &mut socket), Verdict::Forward);
        assert_eq!(world.backend_of(&socket), 1001);
        recvmsg(&world.sim, &mut socket);
        assert_eq!(socket.peer, asked);
    }
    release(&world.sim, 5, Some(Protocol::Udp));
    assert!(world.sim.sockets.borrow().is_empty());
}

/// Each backend gets its share: chi-square over 10 backends, 9 degrees of freedom, p below 1e-9.
#[test]
fn choice_is_uniform() {
    let world = World::new(false, 3, 10, 0);
    let mut counts = vec![0_u32; 10];
    for cookie in 1..=100_000 {
        let mut socket = world.socket(Protocol::Tcp, 3, cookie);
        assert_eq!(connect(&world.sim, &mut socket), Verdict::Forward);
        counts[(world.backend_of(&socket) - 3001) as usize] += 1;
    }
    let expected = 10_000.0;
    let chi_square: f64 = counts
        .iter()
        .map(|count| (f64::from(*count) - expected).powi(2) / expected)
        .sum();
    assert!(chi_square < 62.0, "chi-square {chi_square} of {counts:?}");
}

/// More entries than one walk takes: the rest hangs from a closed head, for the agent to sweep.
#[test]
fn what_release_leaves_is_marked() {
    let mut world = World::new(false, 1, 1, 0);
    for service in 2..=200 {
        world.add_service(service, 1, 0);
    }
    for service in 1..=200 {
        let mut socket = world.socket(Protocol::Udp, service, 5);
        assert_eq!(sendmsg(&world.sim, &mut socket), Verdict::Forward);
    }
    release(&world.sim, 5, Some(Protocol::Udp));
    let left = world.sim.sockets.borrow().clone();
    let head = left.get(&mesh_common::SocketKey::head(5)).expect("a head");
    assert_eq!(head.entry().closed, 1);
    assert_eq!(left.len(), 401 - 257 + 1);
}
