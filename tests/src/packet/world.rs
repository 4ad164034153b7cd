//! A node's tables for packets: Services of every kind that the packet path tells apart, and the ends of flows to them.

use std::net::{Ipv4Addr, Ipv6Addr};

use mesh_common::{
    Address, Backend, BackendState, BackendWord, FrontendKey, FrontendValue, Interface, Port,
    Protocol, ServiceWord, SetWord, SourceRangeKey,
};
use mesh_ebpf::{IcmpLimit, sim::Sim};

/// An address and a port.
pub(super) type End = (Address, Port);

/// Packets are tried on the loopback interface.
const LOOPBACK: u32 = 1;
/// The number by which flows choose.
const SEED: u32 = 77;
const SERVICE_PORT: u16 = 80;
const NODE_PORT: u16 = 30_080;
const BACKEND_PORT: u16 = 8080;
const BACKENDS: u32 = 3;

/// The tables, and what is in them.
#[derive(Clone, Debug)]
pub struct PacketWorld {
    /// The tables.
    pub sim: Sim,
}

/// An address of a family: the network says what it is for.
pub(super) fn address(v6: bool, net: u8, host: u32) -> Address {
    let [_, b, c, d] = host.to_be_bytes();
    if v6 {
        return Ipv6Addr::from([0xfd, net, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b, c, d]).into();
    }
    Ipv4Addr::new(net, b, c, d).into()
}

impl PacketWorld {
    /// Has backends, a NodePort and a load balancer's address with source ranges.
    pub const PLAIN: u32 = 1;
    /// Has no backends.
    pub const EMPTY: u32 = 2;
    /// Has session affinity.
    pub const STICKY: u32 = 3;
    /// Has one backend, the pod at `pod(true)`.
    pub const OWN: u32 = 4;
    /// Has one backend, which a test takes away.
    pub const BRIEF: u32 = 5;

    /// With so many Services in both families; the first five differ.
    #[must_use]
    pub fn new(services: u32) -> Self {
        let mut sim = Sim {
            icmp_limit: IcmpLimit {
                interval: 0,
                burst: 0,
            },
            host: SEED,
            ..Sim::default()
        };
        let node = |v6| Self::node(v6);
        let addresses = Interface::new(node(false), node(true));
        sim.interfaces.insert(LOOPBACK, addresses);
        let mut world = Self { sim };
        for v6 in [false, true] {
            for service in 1..=services {
                world.add(v6, service);
            }
            world.open(v6);
        }
        world
    }

    /// By what flows choose their backends.
    #[must_use]
    pub const fn seed() -> u32 {
        SEED
    }

    /// The node's address.
    #[must_use]
    pub fn node(v6: bool) -> Address {
        address(v6, 172, 9)
    }

    /// A Service's ClusterIP and port.
    #[must_use]
    pub fn cluster(v6: bool, service: u32) -> End {
        (address(v6, 96, service), Port::new(SERVICE_PORT))
    }

    /// The NodePort of `PLAIN`.
    #[must_use]
    pub fn node_port(v6: bool) -> End {
        (Self::node(v6), Port::new(NODE_PORT))
    }

    /// The load balancer's address of `PLAIN`, which is open to `outside(v6, 1)` alone.
    #[must_use]
    pub fn balancer(v6: bool) -> End {
        (address(v6, 203, 1), Port::new(SERVICE_PORT))
    }

    /// A pod of the node: one that is a backend of `OWN`, or one that is none.
    #[must_use]
    pub fn pod(v6: bool, is_backend: bool) -> Address {
        if is_backend {
            Self::backend_address(v6, Self::OWN, 0)
        } else {
            address(v6, 10, 0x00ff_0001)
        }
    }

    /// A backend of a Service, by its place.
    #[must_use]
    pub fn backend(v6: bool, service: u32, place: u32) -> End {
        (
            Self::backend_address(v6, service, place),
            Port::new(BACKEND_PORT),
        )
    }

    /// Leaves a Service one backend to choose.
    pub fn choose_only(&mut self, v6: bool, service: u32, place: u32) {
        let id = Self::id(v6, service);
        let word = SetWord::new(id * BACKENDS + place, 1);
        self.sim.sets.insert(id, word);
    }

    /// A client outside.
    #[must_use]
    pub fn outside(v6: bool, number: u32) -> Address {
        address(v6, 198, number)
    }

    fn backend_address(v6: bool, service: u32, place: u32) -> Address {
        address(v6, 10, service * 4 + place + 1)
    }

    const fn id(v6: bool, service: u32) -> u32 {
        2 * service + v6 as u32
    }

    fn add(&mut self, v6: bool, service: u32) {
        let id = Self::id(v6, service);
        let (address, port) = Self::cluster(v6, service);
        let value = FrontendValue::new(id, id, 0);
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let key = FrontendKey::new(address, port, protocol.number());
            self.sim.frontends.insert(key, value);
        }
        let whole = FrontendKey::whole_address(address);
        self.sim.frontends.insert(whole, FrontendValue::refuse());
        let seconds = if service == Self::STICKY { 600 } else { 0 };
        self.sim.services.insert(id, ServiceWord::new(seconds));
        let count = match service {
            Self::EMPTY => 0,
            Self::OWN | Self::BRIEF => 1,
            _ => BACKENDS,
        };
        for place in 0..count {
            let backend = id * BACKENDS + place;
            self.sim.slots.insert(backend, backend);
            self.put_backend(v6, service, place, BackendState::Ready);
        }
        let word = SetWord::new(id * BACKENDS, count);
        self.sim.sets.insert(id, word);
    }

    /// Writes a backend's state.
    pub fn put_backend(&mut self, v6: bool, service: u32, place: u32, state: BackendState) {
        let id = Self::id(v6, service) * BACKENDS + place;
        let address = Self::backend_address(v6, service, place);
        let word = BackendWord::new(Port::new(BACKEND_PORT), state, 1);
        self.sim.backends.insert(id, Backend::new(address, word));
    }

    /// The frontends of `PLAIN` for clients outside.
    fn open(&mut self, v6: bool) {
        let id = Self::id(v6, Self::PLAIN);
        let value = FrontendValue::new(id, id, 0).external();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let key = |(address, port)| FrontendKey::new(address, port, protocol.number());
            self.sim.frontends.insert(key(Self::node_port(v6)), value);
            let ranged = value.with_source_ranges();
            self.sim.frontends.insert(key(Self::balancer(v6)), ranged);
        }
        let range = SourceRangeKey::new(id, Self::outside(v6, 1), 128);
        self.sim.source_ranges.insert(range);
    }
}
