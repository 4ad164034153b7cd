//! What a connected socket asked for: a table of our own in an array, because a hash costs more than the whole rest of
//! a connect (its element is taken from a free list and linked under a lock).
//!
//! The kernel gives out socket cookies nearly in sequence, so a cookie's low bits spread sockets evenly and neighbours
//! in time are neighbours in memory. Each cookie has a few places; when all are held one is overwritten: nobody can make
//! the table full for others. Whose a place is stands in `peer_cookies`, eight to a cache line, so that looking
//! through a cookie's places touches memory that its neighbours have just touched.

use crate::{Address, BackendId, Port, plain::plain};

/// Entries of `peers`.
pub const PEERS: u32 = 131_072;

/// Places that a cookie may have its entry in.
pub const PEER_WAYS: u32 = 4;

const PEERS_OF_A_WAY: u32 = PEERS / PEER_WAYS;
const _: () = assert!(PEERS_OF_A_WAY.is_power_of_two());

/// Index in `peers` of one of a cookie's places. Each way is a region of its own, so that the first places of
/// successive cookies lie side by side.
#[must_use]
#[inline(always)]
pub const fn peer_place(cookie: u64, way: u32) -> u32 {
    way * PEERS_OF_A_WAY + (cookie as u32 & (PEERS_OF_A_WAY - 1))
}

plain! {
    /// Value of `peers`. The place is taken by the word in `peer_cookies` (0, which no socket has, is free), written
    /// after the entry; the cookie is in the entry too, so that one that is being replaced is not believed.
    #[derive(Debug)]
    pub struct Peer {
        cookie: u64,
        frontend: Address,
        backend: Address,
        frontend_port: Port,
        backend_port: Port,
        id: BackendId,
        generation: u32,
        reserved: u32,
        netns: u64,
    }
}

impl Peer {
    /// A free place.
    pub const FREE: Self = Self::new(
        0,
        (Address::UNSPECIFIED, Port::from_be(0)),
        (Address::UNSPECIFIED, Port::from_be(0)),
        0,
        0,
    );

    /// A socket that asked for a frontend and is connected to a backend.
    #[must_use]
    #[inline(always)]
    pub const fn new(
        cookie: u64,
        frontend: (Address, Port),
        backend: (Address, Port),
        id: BackendId,
        generation: u32,
    ) -> Self {
        Self {
            cookie,
            frontend: frontend.0,
            backend: backend.0,
            frontend_port: frontend.1,
            backend_port: backend.1,
            id,
            generation,
            reserved: 0,
            netns: 0,
        }
    }

    /// In a network namespace, by its cookie.
    #[must_use]
    #[inline(always)]
    pub const fn within(self, netns: u64) -> Self {
        Self { netns, ..self }
    }

    /// The socket.
    #[must_use]
    #[inline(always)]
    pub const fn cookie(&self) -> u64 {
        self.cookie
    }

    /// What the program asked for.
    #[must_use]
    #[inline(always)]
    pub const fn frontend(&self) -> (Address, Port) {
        (self.frontend, self.frontend_port)
    }

    /// What it is connected to.
    #[must_use]
    #[inline(always)]
    pub const fn backend(&self) -> (Address, Port) {
        (self.backend, self.backend_port)
    }

    /// The backend.
    #[must_use]
    #[inline(always)]
    pub const fn id(&self) -> BackendId {
        self.id
    }

    /// The cookie of the network namespace that the socket is in; 0 if it was not told.
    #[must_use]
    #[inline(always)]
    pub const fn netns(&self) -> u64 {
        self.netns
    }

    /// The backend's generation then.
    #[must_use]
    #[inline(always)]
    pub const fn generation(&self) -> u32 {
        self.generation
    }
}
