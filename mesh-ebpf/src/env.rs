//! What the datapath needs of the world, as small traits. The kernel side is in `main.rs`, the other in `sim`.

use mesh_common::{
    Address, AffinityKey, AffinityValue, Backend, BackendId, Client, Counter, FrontendKey,
    FrontendValue, Peer, Port, Protocol, ServiceId, ServiceWord, SetId, SetWord, SocketKey,
    SocketValue,
};

/// The socket a cgroup hook was called for.
pub trait Socket {
    /// The address in the hook's sockaddr: the destination in connect and sendmsg, the sender in recvmsg, the peer in
    /// getpeername. IPv4 comes v4-mapped, whether the socket is AF_INET or AF_INET6.
    fn peer(&self) -> (Address, Port);
    /// Replaces it. The address is of the family that `peer` gave.
    fn set_peer(&mut self, address: Address, port: Port);
    /// The protocol; None for what is not served.
    fn protocol(&self) -> Option<Protocol>;
    /// The kernel's socket cookie, never 0.
    fn cookie(&self) -> u64;
    /// Who asks.
    fn client(&self) -> Client;
}

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
}

/// The monotonic clock.
pub trait Clock {
    /// Nanoseconds since boot, not counting suspend (bpf_ktime_get_ns).
    fn now(&self) -> u64;
}

/// Randomness.
pub trait Random {
    /// Any of the 2^32 values, each as likely.
    fn random(&self) -> u32;
}

/// Where telemetry goes. It cannot fail and cannot change a verdict.
pub trait Sink {
    /// Adds one.
    fn count(&self, counter: Counter);
}

/// All of it but the socket.
pub trait Env: Tables + Clock + Random + Sink {}
impl<T: Tables + Clock + Random + Sink> Env for T {}
