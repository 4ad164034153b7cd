//! The traits over plain memory: the same datapath in tests, property tests and `mesh-agent trace`.

use core::cell::{Cell, RefCell};
use std::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use mesh_common::{
    Address, AffinityKey, AffinityValue, Backend, BackendId, Client, ClientAddresses, Counter,
    FlowKey, FlowTag, FlowValue, FragmentKey, FragmentPorts, FrontendKey, FrontendValue, Interface,
    LearnedClient, Peer, Port, Protocol, Seen, ServiceId, ServiceWord, SetId, SetWord, SocketKey,
    SocketValue, SourceRangeKey,
};

use crate::{
    Claim, Clock, Connection, FlowEntry, Found, Full, IcmpLimit, NotAdded, NotConfirmed, Place,
    Random, Sink, SnatPorts, Socket, Tables,
    stage::{self, Hook, Stage, State, Step},
};

mod packet;
pub mod wire;

pub use packet::{SimPacket, TracedPacket, trace_packet};

/// Tables, clock, randomness and counters in memory. A table that lacks an index answers as the kernel's would.
#[derive(Clone, Debug)]
pub struct Sim {
    /// `frontends`
    pub frontends: BTreeMap<FrontendKey, FrontendValue>,
    /// `services`, by id
    pub services: BTreeMap<ServiceId, ServiceWord>,
    /// `sets`, by id
    pub sets: BTreeMap<SetId, SetWord>,
    /// `slots`, by index
    pub slots: BTreeMap<u32, BackendId>,
    /// `backends`, by id
    pub backends: BTreeMap<BackendId, Backend>,
    /// `affinity`
    pub affinity: RefCell<BTreeMap<AffinityKey, AffinityValue>>,
    /// `peer_cookies`, the places that are taken
    pub peer_cookies: RefCell<BTreeMap<u32, u64>>,
    /// `peers`, the places that were ever taken
    pub peers: RefCell<BTreeMap<u32, Peer>>,
    /// `sockets`
    pub sockets: RefCell<BTreeMap<SocketKey, SocketValue>>,
    /// Most entries of `sockets`.
    pub sockets_capacity: usize,
    /// `clients`
    pub clients: BTreeMap<u64, ClientAddresses>,
    /// `learned_clients`; nothing is pushed out of it.
    pub learned_clients: RefCell<BTreeMap<u64, LearnedClient>>,
    /// `source_ranges`
    pub source_ranges: BTreeSet<SourceRangeKey>,
    /// `interfaces` and `late_interfaces`
    pub interfaces: BTreeMap<u32, Interface>,
    /// The ports that may stand for clients.
    pub snat_ports: SnatPorts,
    /// Those among them that are taken first.
    pub quiet_snat_ports: SnatPorts,
    /// Whether the backend ids that flows hold are those of these tables.
    pub trusts_ids: bool,
    /// `opening`; nothing is pushed out of it.
    pub opening: RefCell<BTreeMap<FlowKey, FlowValue>>,
    /// Most entries of `opening`, after which there are no more.
    pub opening_capacity: usize,
    /// `flows`
    pub flows: RefCell<BTreeMap<FlowKey, FlowValue>>,
    /// Most entries of `flows`.
    pub flows_capacity: usize,
    /// Whether the entries of a flow lie together.
    pub has_quick_lines: bool,
    /// `fragments`
    pub fragments: RefCell<BTreeMap<FragmentKey, FragmentPorts>>,
    /// `foreign`
    pub foreign: RefCell<BTreeMap<FlowKey, u32>>,
    /// How many ICMP errors are made.
    pub icmp_limit: IcmpLimit,
    /// Until when those that were made are paid for.
    pub icmp_paid: Cell<u64>,
    /// `counters`, those above zero.
    pub counts: RefCell<BTreeMap<Counter, u64>>,
    /// Nanoseconds; advanced by whoever holds the Sim.
    pub clock: Cell<u64>,
    /// State of the random numbers; any value is a fine seed.
    pub seed: Cell<u64>,
    /// The host's own number, by which flows choose.
    pub host: u32,
}

impl Default for Sim {
    fn default() -> Self {
        Self {
            frontends: BTreeMap::new(),
            services: BTreeMap::new(),
            sets: BTreeMap::new(),
            slots: BTreeMap::new(),
            backends: BTreeMap::new(),
            affinity: RefCell::default(),
            peer_cookies: RefCell::default(),
            peers: RefCell::default(),
            sockets: RefCell::default(),
            sockets_capacity: usize::MAX,
            clients: BTreeMap::new(),
            learned_clients: RefCell::default(),
            source_ranges: BTreeSet::new(),
            interfaces: BTreeMap::new(),
            snat_ports: SnatPorts::default(),
            quiet_snat_ports: SnatPorts::default(),
            trusts_ids: true,
            opening: RefCell::default(),
            opening_capacity: usize::MAX,
            flows: RefCell::default(),
            flows_capacity: usize::MAX,
            has_quick_lines: true,
            fragments: RefCell::default(),
            foreign: RefCell::default(),
            icmp_limit: IcmpLimit::default(),
            icmp_paid: Cell::new(0),
            counts: RefCell::default(),
            clock: Cell::new(0),
            seed: Cell::new(0),
            host: 0,
        }
    }
}

impl Sim {
    /// How often something was counted.
    #[must_use]
    pub fn counted(&self, counter: Counter) -> u64 {
        self.counts.borrow().get(&counter).copied().unwrap_or(0)
    }
}

impl Tables for Sim {
    fn frontend(&self, key: &FrontendKey) -> Option<FrontendValue> {
        self.frontends.get(key).copied()
    }

    fn service(&self, id: ServiceId) -> ServiceWord {
        self.services
            .get(&id)
            .copied()
            .unwrap_or(ServiceWord::from_word(0))
    }

    fn set(&self, id: SetId) -> SetWord {
        self.sets.get(&id).copied().unwrap_or(SetWord::EMPTY)
    }

    fn slot(&self, index: u32) -> BackendId {
        self.slots.get(&index).copied().unwrap_or(0)
    }

    fn backend(&self, id: BackendId) -> Option<Backend> {
        self.backends.get(&id).copied()
    }

    fn affinity(&self, key: &AffinityKey) -> Option<AffinityValue> {
        self.affinity.borrow().get(key).copied()
    }

    fn set_affinity(&self, key: &AffinityKey, value: &AffinityValue) {
        self.affinity.borrow_mut().insert(*key, *value);
    }

    fn peer_cookie(&self, place: u32) -> u64 {
        self.peer_cookies.borrow().get(&place).copied().unwrap_or(0)
    }

    fn set_peer_cookie(&self, place: u32, cookie: u64) {
        let mut cookies = self.peer_cookies.borrow_mut();
        match cookie {
            0 => cookies.remove(&place),
            _ => cookies.insert(place, cookie),
        };
    }

    fn peer(&self, place: u32) -> Peer {
        self.peers
            .borrow()
            .get(&place)
            .copied()
            .unwrap_or(Peer::FREE)
    }

    fn set_peer(&self, place: u32, peer: Peer) {
        self.peers.borrow_mut().insert(place, peer);
    }

    fn socket(&self, key: &SocketKey) -> Option<SocketValue> {
        self.sockets.borrow().get(key).copied()
    }

    fn set_socket(&self, key: &SocketKey, value: &SocketValue) -> Result<(), Full> {
        let mut sockets = self.sockets.borrow_mut();
        if sockets.len() >= self.sockets_capacity && !sockets.contains_key(key) {
            return Err(Full);
        }
        sockets.insert(*key, *value);
        Ok(())
    }

    fn remove_socket(&self, key: &SocketKey) {
        self.sockets.borrow_mut().remove(key);
    }

    fn client(&self, cookie: u64) -> Option<ClientAddresses> {
        self.clients.get(&cookie).copied()
    }

    fn learned_client(&self, cookie: u64) -> Option<LearnedClient> {
        self.learned_clients.borrow().get(&cookie).copied()
    }

    fn set_learned_client(&self, cookie: u64, value: &LearnedClient) {
        self.learned_clients.borrow_mut().insert(cookie, *value);
    }

    fn has_source(&self, service: ServiceId, address: Address) -> bool {
        let mut ranges = self.source_ranges.iter();
        ranges.any(|range| range.service() == service && range.covers(address))
    }

    fn interface(&self, number: u32) -> Option<Interface> {
        self.interfaces.get(&number).copied()
    }

    fn snat_ports(&self) -> SnatPorts {
        self.snat_ports
    }

    fn quiet_snat_ports(&self) -> SnatPorts {
        self.quiet_snat_ports
    }

    fn trusts_ids(&self) -> bool {
        self.trusts_ids
    }

    type Flow<'a> = SimFlow<'a>;

    fn flow(&self, key: &FlowKey) -> Option<SimFlow<'_>> {
        let is_opening = !self.flows.borrow().contains_key(key);
        if is_opening && !self.opening.borrow().contains_key(key) {
            return None;
        }
        Some(SimFlow {
            sim: self,
            key: *key,
            is_opening,
        })
    }

    fn set_flow_source(&self, _: Found, key: &FlowKey, (address, port): (Address, Port)) {
        if let Some(found) = self.flow(key) {
            found.change(|value| {
                value.set_source_address(address);
                value.set_source_port(port);
            });
        }
    }

    fn fetch_flow(&self, _: FlowTag) {}

    /// What is claimed is there at once: nobody looks meanwhile.
    fn claim_flow(&self, place: Place, key: &FlowKey, tag: FlowTag) -> Result<Claim, NotAdded> {
        debug_assert_eq!(tag, FlowTag::of(key, Random::seed(self)));
        let (mut opening, mut flows) = (self.opening.borrow_mut(), self.flows.borrow_mut());
        if opening.contains_key(key) || flows.contains_key(key) {
            return Err(NotAdded::Exists);
        }
        let (table, capacity) = match place {
            Place::Opening => (&mut opening, self.opening_capacity),
            Place::Confirmed => (&mut flows, self.flows_capacity),
        };
        if table.len() >= capacity {
            return Err(NotAdded::Full);
        }
        table.insert(*key, FlowValue::returning(key.source(), 0));
        Ok(Claim(0))
    }

    fn claim_flows(
        &self,
        request: &FlowKey,
        backend: (Address, Port),
        has_leaving: bool,
    ) -> Option<[Claim; 3]> {
        let leaving = request.leaving(backend);
        let keys = [*request, leaving.reversed(), leaving];
        let count = if has_leaving { 3 } else { 2 };
        let is_new = |key| self.flow(key).is_none();
        let are_new = keys.iter().take(count).all(is_new) && keys[1] != keys[2];
        let has_room = self.opening.borrow().len() + count <= self.opening_capacity;
        if !self.has_quick_lines || !has_room || !are_new {
            return None;
        }
        let mut claims = [Claim(0); 3];
        for (claim, key) in claims.iter_mut().zip(&keys).take(count) {
            let tag = FlowTag::of(key, Random::seed(self));
            *claim = self.claim_flow(Place::Opening, key, tag).ok()?;
        }
        Some(claims)
    }

    fn fill_flow(&self, _: Claim, key: &FlowKey, value: &FlowValue) {
        for table in [&self.opening, &self.flows] {
            if let Some(claimed) = table.borrow_mut().get_mut(key) {
                *claimed = *value;
            }
        }
    }

    /// Nobody else is at work.
    fn await_flow(&self, _: &FlowKey) {}

    fn unclaim_flow(&self, _: Claim, key: &FlowKey) {
        self.remove_flow(key);
    }

    fn confirm_flow(&self, key: &FlowKey) -> Result<(), NotConfirmed> {
        let Some(value) = self.opening.borrow().get(key).copied() else {
            return Ok(());
        };
        let mut flows = self.flows.borrow_mut();
        if flows.len() >= self.flows_capacity {
            return Err(NotConfirmed::Full);
        }
        flows.insert(*key, value);
        self.opening.borrow_mut().remove(key);
        Ok(())
    }

    fn confirm_beside(&self, request: &SimFlow<'_>, reply: &FlowKey, is_all: bool) -> bool {
        let Some(found) = self.flow(reply).filter(|_| self.has_quick_lines) else {
            return false;
        };
        if !found.value().seen().has(Seen::ANY) {
            return true;
        }
        let has_room = self.flows.borrow().len() + 2 <= self.flows_capacity;
        is_all && has_room && [&request.key, reply].map(|key| self.confirm_flow(key)) == [Ok(()); 2]
    }

    fn unconfirm_flow(&self, key: &FlowKey) {
        if let Some(value) = self.flows.borrow_mut().remove(key) {
            self.opening.borrow_mut().insert(*key, value);
        }
    }

    fn remove_flow(&self, key: &FlowKey) {
        self.flows.borrow_mut().remove(key);
        self.opening.borrow_mut().remove(key);
    }

    fn foreign(&self, key: &FlowKey) -> u32 {
        self.foreign.borrow().get(key).copied().unwrap_or(0)
    }

    fn set_foreign(&self, key: &FlowKey, seconds: u32) {
        if let Some(last) = self.foreign.borrow_mut().get_mut(key) {
            *last = seconds;
        }
    }

    fn icmp_limit(&self) -> IcmpLimit {
        self.icmp_limit
    }

    fn icmp_paid(&self) -> u64 {
        self.icmp_paid.get()
    }

    fn set_icmp_paid(&self, until: u64) {
        self.icmp_paid.set(until);
    }

    fn fragment(&self, key: &FragmentKey) -> Option<FragmentPorts> {
        self.fragments.borrow().get(key).copied()
    }

    fn set_fragment(&self, key: &FragmentKey, ports: &FragmentPorts) {
        self.fragments.borrow_mut().insert(*key, *ports);
    }
}

/// An entry of `flows` or `opening`.
#[derive(Clone, Copy, Debug)]
pub struct SimFlow<'a> {
    sim: &'a Sim,
    key: FlowKey,
    is_opening: bool,
}

impl SimFlow<'_> {
    fn change(&self, change: impl FnOnce(&mut FlowValue)) {
        let mut table = if self.is_opening {
            self.sim.opening.borrow_mut()
        } else {
            self.sim.flows.borrow_mut()
        };
        if let Some(value) = table.get_mut(&self.key) {
            change(value);
        }
    }
}

impl FlowEntry for SimFlow<'_> {
    fn value(&self) -> FlowValue {
        let mut value = FlowValue::returning(self.key.source(), 0);
        self.change(|found| value = *found);
        value
    }

    fn is_opening(&self) -> bool {
        self.is_opening
    }

    fn note(&self, seen: Seen, stamp: u32) {
        self.change(|value| value.note(seen, stamp));
    }

    fn found(&self) -> Found {
        Found(0)
    }
}

impl Clock for Sim {
    fn now(&self) -> u64 {
        self.clock.get()
    }
}

impl Random for Sim {
    /// SplitMix64 (Steele, Lea, Flood 2014): every state is good, each step is one addition.
    fn random(&self) -> u32 {
        let seed = self.seed.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.seed.set(seed);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as u32
    }

    fn seed(&self) -> u32 {
        self.host
    }
}

impl Sink for Sim {
    fn count(&self, counter: Counter) {
        *self.counts.borrow_mut().entry(counter).or_default() += 1;
    }
}

/// A socket in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimSocket {
    /// The port on this side.
    pub own_port: Port,
    /// What the hook's sockaddr holds.
    pub peer: (Address, Port),
    /// None is a protocol that is not served.
    pub protocol: Option<Protocol>,
    /// The socket's cookie.
    pub cookie: u64,
    /// Who asks.
    pub client: Client,
    /// It is in the host's own network namespace.
    pub is_in_host: bool,
}

impl Socket for SimSocket {
    fn peer(&self) -> (Address, Port) {
        self.peer
    }

    fn set_peer(&mut self, address: Address, port: Port) {
        self.peer = (address, port);
    }

    fn own_port(&self) -> Port {
        self.own_port
    }

    fn protocol(&self) -> Option<Protocol> {
        self.protocol
    }

    fn cookie(&self) -> u64 {
        self.cookie
    }

    fn client(&self) -> Client {
        self.client
    }

    fn is_in_host(&self) -> bool {
        self.is_in_host
    }
}

/// A TCP connection in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimConnection {
    /// The address on this side.
    pub own: Address,
    /// That of the other.
    pub peer: Address,
    /// The cookie of the network namespace.
    pub netns_cookie: u64,
}

impl Connection for SimConnection {
    fn own(&self) -> Address {
        self.own
    }

    fn peer(&self) -> Address {
        self.peer
    }

    fn netns_cookie(&self) -> u64 {
        self.netns_cookie
    }
}

/// One stage of a traced walk.
#[derive(Clone, Copy, Debug)]
pub struct Traced {
    /// The stage that ran.
    pub stage: Stage,
    /// What was known after it.
    pub state: State,
    /// What it said.
    pub step: Step,
}

/// Walks a hook's stages one by one and keeps what each said. It ends with the verdict.
#[must_use]
pub fn trace(hook: Hook, sim: &Sim, socket: &mut SimSocket) -> Vec<Traced> {
    let mut state = State::new(hook);
    let mut stage = Stage::Service;
    let mut walked = Vec::new();
    loop {
        let step = stage::run(stage, sim, socket, &mut state);
        walked.push(Traced { stage, state, step });
        match step {
            Step::Next(next) => stage = next,
            Step::Done(_) => return walked,
        }
    }
}
