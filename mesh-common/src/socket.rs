//! What is remembered of a socket that talks through a Service, so that replies and getpeername show the Service.
//!
//! A socket has at most one `peer` entry (connect); an unconnected UDP socket has a `chosen` entry per frontend, a
//! `reply` entry per backend it has sent to, and a `head` from which the reply entries hang as a list, so that
//! sock_release finds them all.

use crate::{Address, BackendId, Port, plain::plain};

plain! {
    /// Key of `sockets`.
    #[derive(Debug, Hash, PartialOrd, Ord)]
    pub struct SocketKey { cookie: u64, address: Address, port: Port, kind: u8, reserved: u8, reserved2: u32 }
}

impl SocketKey {
    /// Kind of the entry made by connect.
    pub const PEER: u8 = 0;
    /// Kind of the entry that keeps an unconnected socket's choice for a frontend.
    pub const CHOSEN: u8 = 1;
    /// Kind of the entry that turns a backend's address back into the frontend's.
    pub const REPLY: u8 = 2;
    /// Kind of the entry from which the reply entries hang.
    pub const HEAD: u8 = 3;

    const fn new(cookie: u64, address: Address, port: Port, kind: u8) -> Self {
        Self {
            cookie,
            address,
            port,
            kind,
            reserved: 0,
            reserved2: 0,
        }
    }

    /// What the socket is connected to.
    #[must_use]
    #[inline(always)]
    pub const fn peer(cookie: u64) -> Self {
        Self::new(cookie, Address::UNSPECIFIED, Port::from_be(0), Self::PEER)
    }

    /// The choice made for a frontend.
    #[must_use]
    #[inline(always)]
    pub const fn chosen(cookie: u64, frontend: Address, port: Port) -> Self {
        Self::new(cookie, frontend, port, Self::CHOSEN)
    }

    /// The frontend behind which a backend stands for this socket.
    #[must_use]
    #[inline(always)]
    pub const fn reply(cookie: u64, backend: Address, port: Port) -> Self {
        Self::new(cookie, backend, port, Self::REPLY)
    }

    /// The list of reply entries.
    #[must_use]
    #[inline(always)]
    pub const fn head(cookie: u64) -> Self {
        Self::new(cookie, Address::UNSPECIFIED, Port::from_be(0), Self::HEAD)
    }

    /// The socket's cookie.
    #[must_use]
    pub const fn cookie(self) -> u64 {
        self.cookie
    }

    /// One of the kinds above.
    #[must_use]
    pub const fn kind(self) -> u8 {
        self.kind
    }

    /// The address that the kind calls for.
    #[must_use]
    pub const fn address(self) -> Address {
        self.address
    }

    /// The port that goes with the address.
    #[must_use]
    pub const fn port(self) -> Port {
        self.port
    }
}

plain! {
    /// Value of `sockets`. The cookie is in the value too: an element that is reused while it is read shows another
    /// socket's cookie, and then it is not believed.
    #[derive(Debug)]
    pub struct SocketValue {
        cookie: u64,
        frontend: Address,
        backend: Address,
        frontend_port: Port,
        backend_port: Port,
        id: BackendId,
        generation: u32,
        count: u32,
    }
}

/// Everything a `SocketValue` holds; which fields mean something depends on the key's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketEntry {
    /// peer, chosen, reply: what the program asked for.
    pub frontend: (Address, Port),
    /// peer, chosen: where it went. reply, head: the next reply entry of the list (port 0: none).
    pub backend: (Address, Port),
    /// peer, chosen: the backend.
    pub id: BackendId,
    /// peer, chosen: the backend's generation.
    pub generation: u32,
    /// head: length of the list.
    pub count: u32,
}

impl SocketValue {
    /// An entry of the socket with this cookie.
    #[must_use]
    #[inline(always)]
    pub const fn new(cookie: u64, entry: SocketEntry) -> Self {
        Self {
            cookie,
            frontend: entry.frontend.0,
            backend: entry.backend.0,
            frontend_port: entry.frontend.1,
            backend_port: entry.backend.1,
            id: entry.id,
            generation: entry.generation,
            count: entry.count,
        }
    }

    /// The socket's cookie.
    #[must_use]
    #[inline(always)]
    pub const fn cookie(self) -> u64 {
        self.cookie
    }

    /// The entry.
    #[must_use]
    #[inline(always)]
    pub const fn entry(self) -> SocketEntry {
        SocketEntry {
            frontend: (self.frontend, self.frontend_port),
            backend: (self.backend, self.backend_port),
            id: self.id,
            generation: self.generation,
            count: self.count,
        }
    }
}
