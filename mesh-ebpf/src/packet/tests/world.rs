//! A node with two pods and a device, one Service, and packets on their way through the hooks. Each step is judged:
//! checksums, which bytes changed, what was counted.

use std::{vec, vec::Vec};

use mesh_common::{
    Address, Backend, BackendState, BackendWord, Counter, FrontendKey, FrontendValue, Interface,
    Port, Protocol, Reason, ServiceWord, SetWord,
};
use proptest::prelude::*;

use crate::{
    PacketHook, PacketVerdict,
    packet::extension::MOST_INNER,
    sim::{
        Sim, SimPacket,
        wire::{self, Datagram, ETHERNET, extension},
    },
    tests::address,
};

pub(super) const SERVICE: u32 = 3;
pub(super) const SECOND: u64 = 1_000_000_000;
const FIRST_SLOT: u32 = 3000;

/// Numbers of interfaces.
pub(super) const DEVICE: u32 = 2;
pub(super) const CLIENT_POD: u32 = 10;
pub(super) const SERVER_POD: u32 = 11;

pub(super) type End = (Address, Port);
type Place = (PacketHook, u32);

/// Which way a flow goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    PodToLocal,
    PodToRemote,
    DeviceToLocal,
    DeviceToRemote,
    Hairpin,
}

impl Route {
    pub(super) const ALL: [Self; 5] = [
        Self::PodToLocal,
        Self::PodToRemote,
        Self::DeviceToLocal,
        Self::DeviceToRemote,
        Self::Hairpin,
    ];

    const fn interfaces(self) -> (u32, u32) {
        match self {
            Self::PodToLocal => (CLIENT_POD, SERVER_POD),
            Self::PodToRemote => (CLIENT_POD, DEVICE),
            Self::DeviceToLocal => (DEVICE, SERVER_POD),
            Self::DeviceToRemote => (DEVICE, DEVICE),
            Self::Hairpin => (SERVER_POD, SERVER_POD),
        }
    }

    /// The hooks that a request meets.
    pub(super) const fn there(self) -> [Place; 2] {
        let (from, to) = self.interfaces();
        [ingress(from), egress(to)]
    }

    /// The hooks that a reply meets.
    pub(super) const fn back(self) -> [Place; 2] {
        let (from, to) = self.interfaces();
        [ingress(to), egress(from)]
    }

    /// Whether an address of the node stands for the client.
    pub(super) const fn has_source(self) -> bool {
        matches!(self, Self::DeviceToRemote | Self::Hairpin)
    }
}

const fn ingress(interface: u32) -> Place {
    match interface {
        DEVICE => (PacketHook::FromDevice, interface),
        _ => (PacketHook::FromPod, interface),
    }
}

const fn egress(interface: u32) -> Place {
    match interface {
        DEVICE => (PacketHook::ToDevice, interface),
        _ => (PacketHook::ToPod, interface),
    }
}

pub(super) fn any_route() -> impl Strategy<Value = Route> {
    (0..Route::ALL.len()).prop_map(|place| Route::ALL[place])
}

pub(super) fn any_protocol() -> impl Strategy<Value = Protocol> {
    any::<bool>().prop_map(|tcp| if tcp { Protocol::Tcp } else { Protocol::Udp })
}

/// What a packet may have beside addresses and ports.
#[derive(Clone, Debug)]
pub(super) struct Looks {
    payload: Vec<u8>,
    option_words: u8,
    extensions: Vec<(u8, u8)>,
    no_checksum: bool,
}

pub(super) fn any_looks() -> impl Strategy<Value = Looks> {
    let numbers = [
        extension::HOP_BY_HOP,
        extension::ROUTING,
        extension::AUTHENTICATION,
        extension::DESTINATION,
    ];
    let header =
        (0..numbers.len(), 0_u8..3).prop_map(move |(place, units)| (numbers[place], units));
    (
        proptest::collection::vec(any::<u8>(), 0..80),
        0_u8..=10,
        proptest::collection::vec(header, 0..5),
        proptest::bool::weighted(0.1),
    )
        .prop_map(|(payload, option_words, extensions, no_checksum)| Looks {
            payload,
            option_words,
            extensions,
            no_checksum,
        })
}

impl Looks {
    /// With no more extension headers than are walked within an error.
    pub(super) fn within_an_error(mut self) -> Self {
        self.extensions.truncate(MOST_INNER as usize);
        self
    }

    pub(super) fn on(&self, mut datagram: Datagram) -> Datagram {
        datagram.payload.clone_from(&self.payload);
        datagram.option_words = self.option_words;
        datagram.extensions.clone_from(&self.extensions);
        datagram.no_checksum = self.no_checksum && datagram.protocol == Protocol::Udp;
        datagram
    }
}

#[derive(Clone)]
pub(super) struct World {
    pub(super) sim: Sim,
    pub(super) v6: bool,
    pub(super) route: Route,
    pub(super) protocol: Protocol,
}

impl World {
    /// A Service with so many endpoints where the route ends.
    pub(super) fn new(route: Route, protocol: Protocol, v6: bool, backends: u32) -> Self {
        let mut world = Self {
            sim: Sim::default(),
            v6,
            route,
            protocol,
        };
        world.sim.host = 77;
        world.sim.clock.set(1000 * SECOND);
        for interface in [DEVICE, CLIENT_POD, SERVER_POD] {
            let own = |v6| address(v6, 172, interface);
            let addresses = Interface::new(own(false), own(true));
            world.sim.interfaces.insert(interface, addresses);
        }
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let (address, port) = world.frontend();
            let key = FrontendKey::new(address, port, protocol.number());
            let value = FrontendValue::new(SERVICE, SERVICE, 0);
            world.sim.frontends.insert(key, value);
        }
        let whole = FrontendKey::whole_address(world.frontend().0);
        world.sim.frontends.insert(whole, FrontendValue::refuse());
        world.sim.services.insert(SERVICE, ServiceWord::new(0));
        let backends = if route == Route::Hairpin { 1 } else { backends };
        world.publish(&(1..=backends).collect::<Vec<_>>());
        world
    }

    /// The set is these; others that were in it drain.
    pub(super) fn publish(&mut self, ids: &[u32]) {
        let known: Vec<u32> = self.sim.backends.keys().copied().collect();
        for id in known {
            self.put_backend(id, BackendState::Draining);
        }
        for (slot, id) in (FIRST_SLOT..).zip(ids) {
            self.put_backend(*id, BackendState::Ready);
            self.sim.slots.insert(slot, *id);
        }
        let word = SetWord::new(FIRST_SLOT, ids.len() as u32);
        self.sim.sets.insert(SERVICE, word);
    }

    pub(super) fn put_backend(&mut self, id: u32, state: BackendState) {
        let (address, port) = self.backend(id);
        let word = BackendWord::new(port, state, 1);
        self.sim.backends.insert(id, Backend::new(address, word));
    }

    /// The id is that of another Service's backend at the same place.
    pub(super) fn give_out_again(&mut self, id: u32) {
        let (address, port) = self.backend(id);
        let word = BackendWord::new(port, BackendState::Ready, 2);
        self.sim.backends.insert(id, Backend::new(address, word));
    }

    /// Where a backend is; of a hairpin it is the client.
    pub(super) fn backend(&self, id: u32) -> End {
        (address(self.v6, 10, 0x0100 + id), Port::new(8080))
    }

    pub(super) fn frontend(&self) -> End {
        (address(self.v6, 96, 5), Port::new(80))
    }

    pub(super) fn client(&self) -> End {
        let address = match self.route {
            Route::PodToLocal | Route::PodToRemote => address(self.v6, 10, 0x0200),
            Route::DeviceToLocal | Route::DeviceToRemote => address(self.v6, 198, 7),
            Route::Hairpin => self.backend(1).0,
        };
        (address, Port::new(40_000))
    }

    /// The address that stands for clients, where one does.
    pub(super) fn source(&self) -> Address {
        address(self.v6, 172, self.route.interfaces().1)
    }

    /// A packet of the world's protocol; flags are TCP's.
    pub(super) fn datagram(&self, from: End, to: End, flags: u8) -> Datagram {
        match self.protocol {
            Protocol::Tcp => Datagram::tcp(from, to, flags),
            Protocol::Udp => Datagram::udp(from, to),
        }
    }

    /// All drops so far.
    pub(super) fn dropped(&self) -> u64 {
        let dropped = |reason: &Reason| self.sim.counted(Counter::Dropped(*reason));
        Reason::ALL.iter().map(dropped).sum()
    }

    /// One hook. What always holds is checked here.
    pub(super) fn hook(&self, (hook, interface): Place, frame: &[u8]) -> (PacketVerdict, Vec<u8>) {
        let before = self.dropped();
        let mut packet = SimPacket::new(frame.to_vec(), interface);
        let verdict = packet.pass(hook, &self.sim);
        let counted = self.dropped() - before;
        match verdict {
            PacketVerdict::Pass => assert_eq!((packet.bytes.as_slice(), counted), (frame, 0)),
            PacketVerdict::Drop(_) => assert_eq!((packet.bytes.as_slice(), counted), (frame, 1)),
            PacketVerdict::Reflect(_) => assert_eq!(counted, 1),
            PacketVerdict::Forward => {
                assert_eq!(counted, 0);
                assert_eq!(packet.bytes.len(), frame.len());
                ensure_planned(hook, frame, &packet.bytes);
            }
        }
        (verdict, packet.bytes)
    }

    /// All hooks of a way; nothing may stop the packet.
    pub(super) fn send(&self, way: [Place; 2], frame: Vec<u8>) -> Vec<u8> {
        way.into_iter().fold(frame, |frame, place| {
            let (verdict, bytes) = self.hook(place, &frame);
            assert!(
                matches!(verdict, PacketVerdict::Pass | PacketVerdict::Forward),
                "{verdict:?} at {place:?}"
            );
            assert_eq!(wire::check(&bytes), Ok(()), "after {place:?}");
            bytes
        })
    }

    /// A request on its whole way; gives who the backend takes for the client, and the backend.
    pub(super) fn request(&self, flags: u8, looks: &Looks) -> (End, End) {
        let datagram = self.datagram(self.client(), self.frontend(), flags);
        let frame = self.send(self.route.there(), looks.on(datagram).frame());
        let seen = wire::parse(&frame).expect("it was one before");
        (seen.source, seen.destination)
    }

    /// A reply on its whole way; the client must see its frontend.
    pub(super) fn reply(&self, (client, backend): (End, End), flags: u8, looks: &Looks) {
        let datagram = self.datagram(backend, client, flags);
        let frame = self.send(self.route.back(), looks.on(datagram).frame());
        let seen = wire::parse(&frame).expect("it was one before");
        assert_eq!(
            (seen.source, seen.destination),
            (self.frontend(), self.client())
        );
    }

    /// Entries of both flow tables.
    pub(super) fn flows(&self) -> (usize, usize) {
        (
            self.sim.opening.borrow().len(),
            self.sim.flows.borrow().len(),
        )
    }
}

/// Plain looks.
pub(super) fn plain() -> Looks {
    Looks {
        payload: b"plain".to_vec(),
        option_words: 0,
        extensions: vec![],
        no_checksum: false,
    }
}

/// Of a packet that is no ICMP error only one end and the checksums that cover it may differ.
fn ensure_planned(hook: PacketHook, before: &[u8], after: &[u8]) {
    let seen = wire::parse(before).expect("what is forwarded can be read");
    if seen.about.is_some() {
        return;
    }
    let is_ingress = matches!(hook, PacketHook::FromPod | PacketHook::FromDevice);
    let is_v4 = before[ETHERNET] >> 4 == 4;
    let (address, checksum) = match (is_v4, is_ingress) {
        (true, true) => (30..34, 24..26),
        (true, false) => (26..30, 24..26),
        (false, true) => (38..54, 0..0),
        (false, false) => (22..38, 0..0),
    };
    let port = seen.transport + if is_ingress { 2 } else { 0 };
    let sum = seen.transport + if seen.protocol == 6 { 16 } else { 6 };
    for (place, (old, new)) in before.iter().zip(after).enumerate() {
        let is_transport = !seen.is_later
            && ((port..port + 2).contains(&place) || (sum..sum + 2).contains(&place));
        let planned = address.contains(&place) || checksum.contains(&place) || is_transport;
        assert!(old == new || planned, "byte {place} differs at {hook:?}");
    }
}
