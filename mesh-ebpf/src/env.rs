//! What the datapath needs of the world, as small traits. The kernel side is in `main.rs`, the other in `sim`.

use mesh_common::{
    Address, AffinityKey, AffinityValue, Backend, BackendId, Client, ClientAddresses, Counter,
    FlowKey, FlowTag, FlowValue, FragmentKey, FragmentPorts, FrontendKey, FrontendValue, Interface,
    LearnedClient, Peer, Port, Protocol, Seen, ServiceId, ServiceWord, SetId, SetWord, SocketKey,
    SocketValue,
};

use crate::packet::{Difference, Family, IcmpLimit, SnatPorts};

/// The socket a cgroup hook was called for.
pub trait Socket {
    /// The address in the hook's sockaddr: the destination in connect and sendmsg, the sender in recvmsg, the peer in
    /// getpeername. IPv4 comes v4-mapped, whether the socket is AF_INET or AF_INET6.
    fn peer(&self) -> (Address, Port);
    /// Replaces it. The address is of the family that `peer` gave.
    fn set_peer(&mut self, address: Address, port: Port);
    /// The port it has on this side.
    fn own_port(&self) -> Port;
    /// The protocol; None for what is not served.
    fn protocol(&self) -> Option<Protocol>;
    /// The kernel's socket cookie, never 0.
    fn cookie(&self) -> u64;
    /// Who asks.
    fn client(&self) -> Client;
    /// Whether it is in the host's own network namespace: no pod's, unless the pod has the host's.
    fn is_in_host(&self) -> bool;
}

/// The TCP connection that a sockops hook was called for: one that this host's side began and the other has answered.
pub trait Connection {
    /// The address it has on this side. IPv4 comes v4-mapped, whether the socket is AF_INET or AF_INET6.
    fn own(&self) -> Address;
    /// The address of the other side, in the same form.
    fn peer(&self) -> Address;
    /// The cookie of the socket's network namespace.
    fn netns_cookie(&self) -> u64;
}

/// The packet could not be read or written where it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// What a change of checksum is due to. The kernel has to know for packets whose checksum the device computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Covers {
    /// Addresses of an IPv4 header, which the checksum covers as part of a pseudo header.
    PseudoHeaderV4,
    /// The same of an IPv6 header.
    PseudoHeaderV6,
    /// What is behind the header that has the checksum, or in it.
    Payload,
}

impl Covers {
    /// The pseudo header of a family.
    #[inline(always)]
    pub(crate) const fn pseudo_header(family: Family) -> Self {
        match family {
            Family::V4 => Self::PseudoHeaderV4,
            Family::V6 => Self::PseudoHeaderV6,
        }
    }
}

/// The packet a tc hook was called for. Offsets are from its first byte, which is the link header's where there is one.
pub trait Packet {
    /// The IP version, by the link header or as the interface says; None for what is not IP.
    fn family(&self) -> Option<Family>;
    /// Offset of the IP header.
    fn network(&self) -> u32;
    /// Bytes, the link header's too.
    fn length(&self) -> u32;
    /// The kernel's number of the interface whose hook it is.
    fn interface(&self) -> u32;
    /// Words of the IP header and what follows it, as they lie in memory; None if they do not lie in one piece.
    fn words<const N: usize>(&self) -> Option<[u32; N]>;
    /// Bytes of the packet; None if it ends before.
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]>;
    /// Writes bytes into the packet.
    ///
    /// # Errors
    /// It ends before.
    fn store<const N: usize>(&mut self, offset: u32, bytes: &[u8; N]) -> Result<(), Broken>;
    /// Writes words into the packet, as they lie in memory.
    ///
    /// # Errors
    /// It ends before.
    fn store_words<const N: usize>(&mut self, offset: u32, words: &[u32; N]) -> Result<(), Broken>;
    /// Changes the checksum at an offset by a difference. `optional`: 0 means that there is none, and stays.
    ///
    /// # Errors
    /// The packet ends before.
    fn update_checksum(
        &mut self,
        offset: u32,
        difference: Difference,
        covers: Covers,
        optional: bool,
    ) -> Result<(), Broken>;
    /// Whether a socket of the host would get packets of this tuple.
    fn has_socket(&self, key: &FlowKey) -> bool;
    /// Cuts the packet, or makes it longer, to so many bytes.
    ///
    /// # Errors
    /// The kernel has no memory.
    fn truncate(&mut self, length: u32) -> Result<(), Broken>;
    /// Makes room for so many bytes behind the link header.
    ///
    /// # Errors
    /// The kernel has no memory.
    fn insert(&mut self, bytes: u32) -> Result<(), Broken>;
    /// Swaps the link header's source and destination.
    ///
    /// # Errors
    /// There is no link header.
    fn swap_link_addresses(&mut self) -> Result<(), Broken>;
}

/// Which flow table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Of half-open flows: newcomers may push it out.
    Opening,
    /// `flows`
    Confirmed,
}

/// Why an entry was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdded {
    /// Another one is there.
    Exists,
    /// There is no room.
    Full,
}

/// A place for an entry, which nobody else gets and where nobody finds anything yet. What the number means is the table's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a place that is not filled has to be given back"]
pub struct Claim(pub u64);

/// Why an entry was not made a confirmed flow's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotConfirmed {
    /// There is no room.
    Full,
    /// Another processor has its place at this moment.
    Busy,
}

/// An entry of a flow table, where it is.
pub trait FlowEntry {
    /// A copy.
    fn value(&self) -> FlowValue;
    /// Whether its flow is half-open.
    fn is_opening(&self) -> bool;
    /// Writes what was sent, and when, in seconds.
    fn note(&self, seen: Seen, stamp: u32);
    /// Where it is.
    fn found(&self) -> Found;
}

/// Where an entry was found; another tuple's may be there by now. What the number means is the table's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found(pub u64);

/// A flow table had no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The tables, by meaning. Reads copy out: no reference to memory that others write leaves an implementation.
pub trait Tables {
    /// The frontend with exactly this key.
    fn frontend(&self, key: &FrontendKey) -> Option<FrontendValue>;
    /// What may change of a service port while its frontends stand.
    fn service(&self, id: ServiceId) -> ServiceWord;
    /// A whole set, by one load; an id out of range is the empty set.
    fn set(&self, id: SetId) -> SetWord;
    /// The backend in a slot; 0 when the slot is out of range.
    fn slot(&self, index: u32) -> BackendId;
    /// A backend; None when the id is out of range.
    fn backend(&self, id: BackendId) -> Option<Backend>;
    /// Which backend the client had last.
    fn affinity(&self, key: &AffinityKey) -> Option<AffinityValue>;
    /// Remembers it; best effort.
    fn set_affinity(&self, key: &AffinityKey, value: &AffinityValue);
    /// Whose a place of `peers` is: 0 when it is free or out of range.
    fn peer_cookie(&self, place: u32) -> u64;
    /// Gives a place of `peers` to a socket; 0 frees it. What was written before is visible to who sees this.
    fn set_peer_cookie(&self, place: u32, cookie: u64);
    /// What is in a place of `peers`; nobody's when out of range.
    fn peer(&self, place: u32) -> Peer;
    /// Writes a place of `peers`.
    fn set_peer(&self, place: u32, peer: Peer);
    /// What is remembered of a socket.
    fn socket(&self, key: &SocketKey) -> Option<SocketValue>;
    /// Remembers something of a socket.
    ///
    /// # Errors
    /// The map is full.
    fn set_socket(&self, key: &SocketKey, value: &SocketValue) -> Result<(), Full>;
    /// Forgets it.
    fn remove_socket(&self, key: &SocketKey);
    /// The addresses of a network namespace, as the agent knows them.
    fn client(&self, cookie: u64) -> Option<ClientAddresses>;
    /// What a network namespace's connections have shown of its addresses.
    fn learned_client(&self, cookie: u64) -> Option<LearnedClient>;
    /// Remembers it; best effort.
    fn set_learned_client(&self, cookie: u64, value: &LearnedClient);
    /// Whether a service port's loadBalancerSourceRanges have an address.
    fn has_source(&self, service: ServiceId, address: Address) -> bool;
    /// The addresses that stand for clients behind an interface.
    fn interface(&self, number: u32) -> Option<Interface>;
    /// The ports that may stand for clients.
    fn snat_ports(&self) -> SnatPorts;
    /// Those among them that are taken first.
    fn quiet_snat_ports(&self) -> SnatPorts;
    /// Whether the backend ids that flows hold are those of these tables.
    fn trusts_ids(&self) -> bool;
    /// An entry of a flow table.
    type Flow<'a>: FlowEntry
    where
        Self: 'a;
    /// The entry of a tuple.
    fn flow(&self, key: &FlowKey) -> Option<Self::Flow<'_>>;
    /// Gives a `Leaving` its source, if it still is where it was found.
    fn set_flow_source(&self, found: Found, key: &FlowKey, source: (Address, Port));
    /// The memory of the entry with this tag will be needed soon: where it comes from far away, other work goes on meanwhile.
    fn fetch_flow(&self, tag: FlowTag);
    /// Claims a place for an entry where there is none. Entries that belong together are claimed first and filled then:
    /// a lock is not given back before all that was written until then has reached its memory. `tag` is the key's.
    ///
    /// # Errors
    /// See the type.
    fn claim_flow(&self, place: Place, key: &FlowKey, tag: FlowTag) -> Result<Claim, NotAdded>;
    /// The same for the entries of a new flow, if it is quick and none is there: those of its request, of its reply and,
    /// if it has one, of its leaving packets.
    fn claim_flows(
        &self,
        request: &FlowKey,
        backend: (Address, Port),
        has_leaving: bool,
    ) -> Option<[Claim; 3]>;
    /// Puts the entry there.
    fn fill_flow(&self, claim: Claim, key: &FlowKey, value: &FlowValue);
    /// Waits, for some microseconds, until the entry is there for which somebody else has claimed a place.
    fn await_flow(&self, key: &FlowKey);
    /// Gives the place back.
    fn unclaim_flow(&self, claim: Claim, key: &FlowKey);
    /// Makes an entry a confirmed flow's; nothing if there is none.
    ///
    /// # Errors
    /// `flows` has no room.
    fn confirm_flow(&self, key: &FlowKey) -> Result<(), NotConfirmed>;
    /// Of a half-open flow whose request was found: whether its reply lies beside it and nothing is left to do, because the
    /// backend has not spoken, or because both are a confirmed flow's now. That they become if they are all it has.
    fn confirm_beside(&self, request: &Self::Flow<'_>, reply: &FlowKey, is_all: bool) -> bool;
    /// Makes it a half-open one's again; nothing if there is none.
    fn unconfirm_flow(&self, key: &FlowKey);
    /// Removes an entry.
    fn remove_flow(&self, key: &FlowKey);
    /// When a flow that is another load balancer's was last seen, in seconds of the clock; 0 if there is none of this tuple.
    fn foreign(&self, key: &FlowKey) -> u32;
    /// Notes when.
    fn set_foreign(&self, key: &FlowKey, seconds: u32);
    /// How many ICMP errors a processor makes.
    fn icmp_limit(&self) -> IcmpLimit;
    /// Until when, in nanoseconds of the clock, those that this processor made are paid for.
    fn icmp_paid(&self) -> u64;
    /// Notes it.
    fn set_icmp_paid(&self, until: u64);
    /// The ports of a fragmented packet.
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentPorts>;
    /// Remembers them; best effort.
    fn set_fragment(&self, key: &FragmentKey, ports: &FragmentPorts);
}

/// The monotonic clock.
pub trait Clock {
    /// Nanoseconds since boot, not counting suspend (bpf_ktime_get_ns).
    fn now(&self) -> u64;
    /// Its seconds, as flows are stamped. They may come of another count of the kernel's, which a packet reads with less
    /// effort and which may be a second apart.
    #[inline(always)]
    fn seconds(&self) -> u32 {
        whole_seconds(self.now())
    }
}

/// The whole seconds of so many nanoseconds.
#[inline(always)]
pub const fn whole_seconds(nanoseconds: u64) -> u32 {
    (nanoseconds / 1_000_000_000) as u32
}

/// Randomness.
pub trait Random {
    /// Any of the 2^32 values, each as likely.
    fn random(&self) -> u32;
    /// A number that is the same as long as the host runs, and that nobody outside knows.
    fn seed(&self) -> u32;
}

/// Where telemetry goes. It cannot fail and cannot change a verdict.
pub trait Sink {
    /// Adds one.
    fn count(&self, counter: Counter);
}

/// All of it but the socket.
pub trait Env: Tables + Clock + Random + Sink {}
impl<T: Tables + Clock + Random + Sink> Env for T {}
