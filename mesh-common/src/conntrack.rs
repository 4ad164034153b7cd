//! Flows that the packet path translates: what a packet is found by, and what is remembered.
//!
//! A flow has a client, a frontend, a backend and, where the reply would not come back by itself, a source that stands
//! for the client. Each tuple that a packet of it shows at a hook has an entry, which says what to rewrite:
//!
//! | hook    | tuple              | rewritten             | entry       | made for                       |
//! |---------|--------------------|-----------------------|-------------|--------------------------------|
//! | ingress | client -> frontend | destination: backend  | `Request`   | every flow                     |
//! | egress  | client -> backend  | source: source        | `Leaving`   | clients outside, and hairpins  |
//! | ingress | backend -> source  | destination: client   | `Returning` | flows that have a source       |
//! | egress  | backend -> client  | source: frontend      | `Reply`     | every flow                     |
//!
//! All are in `flows` (`flow_line.rs`). Newcomers may push out half-open flows; confirmed ones stay until the agent collects
//! them.

use crate::{
    Address, BackendId, FrontendKey, Port, Protocol, flow_line::NEIGHBOUR_LINES, plain::plain,
};

/// On which side of the host's stack a hook is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Direction {
    /// Before routing: destinations are rewritten.
    Ingress = 0,
    /// After routing: sources are rewritten.
    Egress = 1,
}

plain! {
    /// What an entry is found by: a packet's addresses and ports, and the direction of the hook that saw it. Words
    /// beside the addresses: source port and destination port (each in network order, from the low end); protocol and
    /// direction.
    #[derive(Hash, PartialOrd, Ord)]
    pub struct FlowKey { source: Address, destination: Address, ports: u32, rest: u32 }
}

impl FlowKey {
    /// The tuple of a packet at a hook.
    #[must_use]
    #[inline(always)]
    pub const fn new(
        direction: Direction,
        protocol: Protocol,
        (source, source_port): (Address, Port),
        (destination, destination_port): (Address, Port),
    ) -> Self {
        Self {
            source,
            destination,
            ports: source_port.to_be() as u32 | (destination_port.to_be() as u32) << 16,
            rest: protocol.number() as u32 | (direction as u32) << 8,
        }
    }

    /// Where the packet comes from.
    #[must_use]
    #[inline(always)]
    pub const fn source(&self) -> (Address, Port) {
        (self.source, Port::from_be(self.ports as u16))
    }

    /// Where it goes.
    #[must_use]
    #[inline(always)]
    pub const fn destination(&self) -> (Address, Port) {
        (self.destination, Port::from_be((self.ports >> 16) as u16))
    }

    /// The frontend that it asks for, if it asks for one.
    #[must_use]
    #[inline(always)]
    pub const fn frontend(&self) -> FrontendKey {
        let (address, port) = self.destination();
        FrontendKey::new(address, port, self.protocol())
    }

    /// The IP protocol number.
    #[must_use]
    #[inline(always)]
    pub const fn protocol(&self) -> u8 {
        self.rest as u8
    }

    /// The direction of the hook.
    #[must_use]
    #[inline(always)]
    pub const fn direction(&self) -> Direction {
        match (self.rest >> 8) as u8 {
            0 => Direction::Ingress,
            _ => Direction::Egress,
        }
    }

    /// From what a cell of a flow table holds. The ports are as `ports` gives them.
    #[must_use]
    #[inline(always)]
    pub(crate) const fn from_parts(
        source: Address,
        destination: Address,
        ports: u32,
        protocol: u8,
        direction: Direction,
    ) -> Self {
        Self {
            source,
            destination,
            ports,
            rest: protocol as u32 | (direction as u32) << 8,
        }
    }

    /// Source port and destination port, each in network order, from the low end.
    #[must_use]
    #[inline(always)]
    pub const fn ports(&self) -> u32 {
        self.ports
    }

    /// The tuple of packets from the same source to another destination, at a hook of this direction.
    #[must_use]
    #[inline(always)]
    pub const fn to(&self, direction: Direction, (address, port): (Address, Port)) -> Self {
        Self {
            source: self.source,
            destination: address,
            ports: self.ports & 0xffff | (port.to_be() as u32) << 16,
            rest: self.rest & 0xff | (direction as u32) << 8,
        }
    }

    /// The tuple of packets that go the other way, at the same hook.
    #[must_use]
    #[inline(always)]
    pub const fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            ports: self.ports.rotate_left(16),
            rest: self.rest,
        }
    }

    /// Of a request's tuple: that of its packets when they leave for the backend.
    #[must_use]
    #[inline(always)]
    pub const fn leaving(&self, backend: (Address, Port)) -> Self {
        self.to(Direction::Egress, backend)
    }

    /// Of a request's tuple: that of the backend's replies.
    #[must_use]
    #[inline(always)]
    pub const fn reply(&self, backend: (Address, Port)) -> Self {
        self.leaving(backend).reversed()
    }

    /// Of a leaving tuple: that of what comes back to the source.
    #[must_use]
    #[inline(always)]
    pub const fn returning(&self, source: (Address, Port)) -> Self {
        self.reversed().to(Direction::Ingress, source)
    }

    /// Of a reply's tuple: that of the requests.
    #[must_use]
    #[inline(always)]
    pub const fn request(&self, frontend: (Address, Port)) -> Self {
        self.reversed().to(Direction::Ingress, frontend)
    }

    /// The tuple in one number, in which every bit of it counts. Who does not know the seed does not know which tuples have
    /// the same one.
    #[must_use]
    #[inline(always)]
    pub const fn digest(&self, seed: u32) -> u64 {
        self.digests(seed).1
    }

    /// The same of one end and the protocol alone, and of the tuple. The end is that with the higher port: as a rule it is
    /// the client's, so what a flow's packets are found by has it in common. The ports that a host gives to connections one
    /// after the other (Linux: every second one) differ in the number of the line among its neighbours alone.
    #[must_use]
    #[inline(always)]
    pub(crate) const fn digests(&self, seed: u32) -> (u64, u64) {
        const NEIGHBOURS: u64 = NEIGHBOUR_LINES as u64 - 1;
        let (source_port, destination_port) = self.host_ports();
        let key = two(seed, self.rest & 0xff).wrapping_mul(SPREAD);
        let source = address_digest(key, self.source);
        let destination = address_digest(key, self.destination);
        // All ones if the destination's port is higher. By arithmetic, and hidden from the compiler, which would compare: the
        // kernel's verifier would walk what follows a comparison twice.
        let difference = core::hint::black_box(source_port.wrapping_sub(destination_port));
        let swap = (difference.cast_signed() >> 63).cast_unsigned();
        let address = source ^ ((source ^ destination) & swap);
        let port = source_port ^ ((source_port ^ destination_port) & swap);
        let end = mix::<31>(address ^ (port & !(NEIGHBOURS << 1)), FACTOR);
        // None of what is put together can undo another's change: each has been mixed by itself, in a way of its own.
        let rest = mix::<33>(key ^ two(self.ports, self.rest), SPREAD);
        (
            (end & !NEIGHBOURS) | (port >> 1 & NEIGHBOURS),
            mix::<31>(source ^ destination.rotate_left(21) ^ rest, FACTOR),
        )
    }

    #[inline(always)]
    const fn host_ports(&self) -> (u64, u64) {
        let (source, destination) = (self.ports as u16, (self.ports >> 16) as u16);
        (
            u16::from_be(source) as u64,
            u16::from_be(destination) as u64,
        )
    }
}

/// An address in one number. The halves of an IPv6 address are mixed by themselves: with one after the other, who may choose
/// both could undo in the second what a change of the first has done, for a change of the highest bit is the same one
/// whatever the key.
#[inline(always)]
const fn address_digest(key: u64, address: Address) -> u64 {
    let [a, b, c, d] = address.words();
    mix::<29>(key ^ two(a, b), SPREAD) ^ mix::<31>(key ^ two(c, d), FACTOR)
}

#[inline(always)]
const fn two(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

/// Factors of SplitMix64 (Steele, Lea, Flood 2014).
const FACTOR: u64 = 0xbf58_476d_1ce4_e5b9;
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Every bit of a word into higher ones, and those into lower ones. It can be undone, so nothing is lost.
#[inline(always)]
const fn mix<const SHIFT: u32>(word: u64, factor: u64) -> u64 {
    let mixed = word.wrapping_mul(factor);
    mixed ^ (mixed >> SHIFT)
}

/// Spreads the bits (the finalizer of MurmurHash3, Appleby 2011).
#[must_use]
#[inline(always)]
pub const fn spread(number: u32) -> u32 {
    let number = (number ^ (number >> 16)).wrapping_mul(0x85eb_ca6b);
    let number = (number ^ (number >> 13)).wrapping_mul(0xc2b2_ae35);
    number ^ (number >> 16)
}

impl core::fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("FlowKey")
            .field("source", &self.source())
            .field("destination", &self.destination())
            .field("protocol", &self.protocol())
            .field("direction", &self.direction())
            .finish()
    }
}

/// What an entry is for. Values are stored; do not renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Entry {
    /// From the client to the frontend, at ingress. The flow is there as long as this is.
    Request = 0,
    /// From the client to the backend, at egress.
    Leaving = 1,
    /// From the backend to the source, at ingress.
    Returning = 2,
    /// From the backend to the client, at egress.
    Reply = 3,
}

/// What one side of a flow has sent, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Seen(pub u8);

impl Seen {
    /// Nothing.
    pub const NOTHING: Self = Self(0);
    /// Anything at all.
    pub const ANY: Self = Self(1);
    /// A FIN.
    pub const FIN: Self = Self(2);
    /// An RST, and nothing after it.
    pub const RST: Self = Self(4);

    /// The bits of a value that it takes.
    pub(crate) const BITS: u8 = 7;

    /// Whether all bits of the other are in it.
    #[must_use]
    #[inline(always)]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What is remembered of a tuple. The address and port are what is written into the packet. `stamp` is seconds of the
/// monotonic clock at the last packet; `backend` is what `held_backend` makes, in a `Request`. Of `bits`, a `Request` and a `Reply`
/// have what their side has sent, a `Request` besides that there is no `Leaving`, and a `Leaving` how its packets came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowValue {
    address: Address,
    port: Port,
    bits: u8,
    entry: u8,
    stamp: u32,
    backend: u32,
}

/// The highest id of a backend: what is above it in a word is the generation's.
pub const LAST_BACKEND: BackendId = 0x00ff_ffff;

/// A backend's id and the low bits of its generation in one word: the id may be given to another backend, even at the same
/// address.
#[must_use]
#[inline(always)]
pub const fn held_backend(id: BackendId, generation: u32) -> u32 {
    id & LAST_BACKEND | generation << 24
}

const _: () = assert!(FlowValue::ALONE & Seen::BITS == 0);

impl FlowValue {
    const FROM_DEVICE: u8 = 1;
    const HAIRPIN: u8 = 2;
    const ALONE: u8 = 8;

    #[inline(always)]
    const fn new(entry: Entry, (address, port): (Address, Port), stamp: u32) -> Self {
        Self {
            address,
            port,
            bits: 0,
            entry: entry as u8,
            stamp,
            backend: 0,
        }
    }

    /// From what a cell of a flow table holds.
    #[inline(always)]
    pub(crate) const fn from_parts(
        (address, port): (Address, Port),
        bits: u8,
        entry: u8,
        stamp: u32,
        backend: u32,
    ) -> Self {
        Self {
            address,
            port,
            bits,
            entry,
            stamp,
            backend,
        }
    }

    /// A flow's first packet came from its client.
    #[must_use]
    #[inline(always)]
    pub const fn request(
        backend: (Address, Port),
        (id, generation): (BackendId, u32),
        stamp: u32,
    ) -> Self {
        let mut value = Self::new(Entry::Request, backend, stamp);
        value.bits = Seen::ANY.0;
        value.backend = held_backend(id, generation);
        value
    }

    /// Of a `Request`: the same for a flow that has no `Leaving`.
    #[must_use]
    #[inline(always)]
    pub const fn without_leaving(mut self) -> Self {
        self.bits |= Self::ALONE;
        self
    }

    /// Whether the flow may have a `Leaving`, of a `Request`.
    #[must_use]
    #[inline(always)]
    pub const fn may_have_leaving(&self) -> bool {
        self.bits & Self::ALONE == 0
    }

    /// Its replies show the frontend.
    #[must_use]
    #[inline(always)]
    pub const fn reply(frontend: (Address, Port), stamp: u32) -> Self {
        Self::new(Entry::Reply, frontend, stamp)
    }

    /// Its requests may need a source when they leave: if the client is its own backend they do, and if they came in by
    /// a device they do when they leave by one.
    #[must_use]
    #[inline(always)]
    pub const fn leaving(is_hairpin: bool, stamp: u32) -> Self {
        let nothing = (Address::UNSPECIFIED, Port::from_be(0));
        let mut value = Self::new(Entry::Leaving, nothing, stamp);
        value.bits = if is_hairpin {
            Self::HAIRPIN
        } else {
            Self::FROM_DEVICE
        };
        value
    }

    /// What comes back to the source goes to the client.
    #[must_use]
    #[inline(always)]
    pub const fn returning(client: (Address, Port), stamp: u32) -> Self {
        Self::new(Entry::Returning, client, stamp)
    }

    /// The address of a `Leaving`'s source. It counts once the port is there.
    #[inline(always)]
    pub const fn set_source_address(&mut self, address: Address) {
        self.address = address;
    }

    /// The port of a `Leaving`'s source.
    #[inline(always)]
    pub const fn set_source_port(&mut self, port: Port) {
        self.port = port;
    }

    /// What it is for; None for a number that nobody writes.
    #[must_use]
    #[inline(always)]
    pub const fn entry(&self) -> Option<Entry> {
        match self.entry {
            0 => Some(Entry::Request),
            1 => Some(Entry::Leaving),
            2 => Some(Entry::Returning),
            3 => Some(Entry::Reply),
            _ => None,
        }
    }

    /// What is written into the packet: for a `Leaving` without a source, port 0.
    #[must_use]
    #[inline(always)]
    pub const fn target(&self) -> (Address, Port) {
        (self.address, self.port)
    }

    /// The backend's id, of a `Request`.
    #[must_use]
    #[inline(always)]
    pub const fn backend(&self) -> BackendId {
        self.backend & LAST_BACKEND
    }

    /// Whether that id still is the same backend's.
    #[must_use]
    #[inline(always)]
    pub const fn is_of_generation(&self, generation: u32) -> bool {
        self.backend >> 24 == generation & 0xff
    }

    /// Id and generation in one word, as a cell has them.
    #[must_use]
    #[inline(always)]
    pub(crate) const fn held(&self) -> u32 {
        self.backend
    }

    /// What the side of this entry has sent.
    #[must_use]
    #[inline(always)]
    pub const fn seen(&self) -> Seen {
        Seen(self.bits & Seen::BITS)
    }

    #[inline(always)]
    pub(crate) const fn bits(&self) -> u8 {
        self.bits
    }

    /// The number of its entry.
    #[inline(always)]
    pub(crate) const fn number(&self) -> u8 {
        self.entry
    }

    /// Whether the client is its own backend, of a `Leaving`.
    #[must_use]
    #[inline(always)]
    pub const fn is_hairpin(&self) -> bool {
        self.bits & Self::HAIRPIN != 0
    }

    /// Seconds of the monotonic clock at the last packet.
    #[must_use]
    #[inline(always)]
    pub const fn stamp(&self) -> u32 {
        self.stamp
    }

    /// Notes what was sent, and when.
    #[inline(always)]
    pub const fn note(&mut self, seen: Seen, stamp: u32) {
        self.bits = (self.bits & !Seen::BITS) | seen.0;
        self.stamp = stamp;
    }
}

/// Seconds that a flow may be silent: then it is no more. The kernel's nf_conntrack and kube-proxy
/// (--conntrack-tcp-timeout-established and -close-wait) have the same figures, but for what was reset.
#[must_use]
#[inline(always)]
pub const fn timeout(protocol: u8, client: Seen, server: Seen) -> u32 {
    let answered = server.has(Seen::ANY);
    if protocol != Protocol::Tcp.number() {
        return if answered { 180 } else { 30 };
    }
    if client.has(Seen::RST) || server.has(Seen::RST) {
        return 10;
    }
    match (client.has(Seen::FIN), server.has(Seen::FIN)) {
        (true, true) => 120,
        (false, false) if answered => 86_400,
        (false, false) => 60,
        _ => 3_600,
    }
}

/// Whether both sides have closed, or one has reset: a new SYN is a new flow.
#[must_use]
#[inline(always)]
pub const fn is_closed(client: Seen, server: Seen) -> bool {
    client.has(Seen::RST)
        || server.has(Seen::RST)
        || (client.has(Seen::FIN) && server.has(Seen::FIN))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::net::Ipv4Addr;

    use super::*;

    fn end(host: u8, port: u16) -> (Address, Port) {
        (Ipv4Addr::new(10, 0, 0, host).into(), Port::new(port))
    }

    #[test]
    fn a_tuple_comes_back() {
        let key = FlowKey::new(Direction::Egress, Protocol::Udp, end(1, 40000), end(2, 53));
        assert_eq!(key.source(), end(1, 40000));
        assert_eq!(key.destination(), end(2, 53));
        assert_eq!((key.protocol(), key.direction()), (17, Direction::Egress));
        let back = key.reversed();
        assert_eq!(
            (back.source(), back.destination()),
            (end(2, 53), end(1, 40000))
        );
        assert_eq!(back.reversed(), key);
        assert_ne!(back.digest(7), key.digest(7));
    }

    /// A tuple as words, in the order of its fields.
    fn words(key: &FlowKey) -> [u32; 10] {
        let ([a, b, c, d], [e, f, g, h]) = (key.source.words(), key.destination.words());
        [a, b, c, d, e, f, g, h, key.ports, key.rest]
    }

    fn of_words([a, b, c, d, e, f, g, h, ports, rest]: [u32; 10]) -> FlowKey {
        FlowKey {
            source: Address::from_words([a, b, c, d]),
            destination: Address::from_words([e, f, g, h]),
            ports,
            rest,
        }
    }

    /// Bits of a tuple that packets can differ in.
    fn bits() -> impl Iterator<Item = (usize, u32)> + Clone {
        let bits = (0..10).flat_map(|word| (0..32).map(move |bit| (word, bit)));
        bits.filter(|(word, bit)| *word < 9 || *bit < 9)
    }

    fn flipped(key: &FlowKey, (word, bit): (usize, u32)) -> FlowKey {
        let mut words = words(key);
        words[word] ^= 1 << bit;
        of_words(words)
    }

    #[test]
    fn every_bit_of_a_tuple_counts() {
        let key = FlowKey::new(Direction::Egress, Protocol::Udp, end(1, 40000), end(2, 53));
        for bit in bits() {
            let differing = flipped(&key, bit).digest(7) ^ key.digest(7);
            let differing = differing.count_ones();
            assert!((14..=50).contains(&differing), "{bit:?}: {differing}");
        }
        let differing = key.digest(7) ^ key.digest(6);
        assert!((14..=50).contains(&differing.count_ones()));
    }

    /// Where tuples lie belongs to the layout of `flows`: whoever changes these numbers raises its version once it is released.
    #[test]
    fn tuples_lie_where_they_lay() {
        let key = FlowKey::new(Direction::Egress, Protocol::Udp, end(1, 40000), end(2, 53));
        let lies = (0x086d_82d1_1bce_4984, 0x9105_55e7_ccbe_beae);
        assert_eq!(key.digests(7), lies);
    }

    /// What one or two changed bits do is not undone by another one or two, whatever the seed: else who may choose addresses and
    /// ports could have the place of another one's flow.
    #[test]
    fn no_bits_undo_one_another() {
        let v4 = FlowKey::new(
            Direction::Ingress,
            Protocol::Tcp,
            end(1, 20000),
            end(2, 30080),
        );
        let v6 = of_words([
            0x1234_00fd,
            0x9876,
            0x5555_abcd,
            0x1000_0001,
            0xfd,
            0x77,
            0,
            9,
            0x5000_214e,
            6,
        ]);
        for (key, seed) in [(v4, 7), (v4, 0xdead_beef), (v6, 7), (v6, 0xdead_beef)] {
            let is_v4 = key.source.is_v4();
            let bits = bits().filter(|(word, _)| !is_v4 || ![0, 1, 2, 4, 5, 6].contains(word));
            let whole = key.digest(seed);
            let mut seen = std::collections::BTreeMap::from([(0, None)]);
            for first in bits.clone() {
                for second in bits.clone().filter(|second| *second <= first) {
                    let mut other = flipped(&key, first);
                    if second != first {
                        other = flipped(&other, second);
                    }
                    let other = other.digest(seed) ^ whole;
                    let before = seen.insert(other, Some((first, second)));
                    assert_eq!(before, None, "{first:?} {second:?}");
                }
            }
        }
    }

    #[test]
    fn a_leaving_entry_has_no_source_at_first() {
        let mut value = FlowValue::leaving(false, 5);
        assert_eq!(value.target().1.get(), 0);
        assert!(!value.is_hairpin() && FlowValue::leaving(true, 5).is_hairpin());
        value.set_source_address(end(4, 0).0);
        assert_eq!(value.target().1.get(), 0);
        value.set_source_port(Port::new(1024));
        assert_eq!(value.target(), end(4, 1024));
    }

    #[test]
    fn silence_ends_a_flow() {
        let (none, any) = (Seen::NOTHING, Seen::ANY);
        let fin = Seen(Seen::ANY.0 | Seen::FIN.0);
        let reset = Seen(Seen::ANY.0 | Seen::RST.0);
        assert_eq!(timeout(6, any, none), 60);
        assert_eq!(timeout(6, any, any), 86_400);
        assert_eq!(timeout(6, fin, any), 3_600);
        assert_eq!(timeout(6, fin, fin), 120);
        assert_eq!(timeout(6, reset, any), 10);
        assert_eq!(timeout(17, any, none), 30);
        assert_eq!(timeout(17, any, any), 180);
        assert!(is_closed(fin, fin) && is_closed(any, reset) && !is_closed(fin, any));
    }
}
