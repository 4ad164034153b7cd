//! What is remembered of a socket that talks through a Service, so that replies and getpeername show the Service.
//!
//! An unconnected UDP socket has a `chosen` entry per frontend, a `reply` entry per backend it has sent to, and a `head`
//! from which both hang as one list, so that sock_release finds them all. What connected sockets asked for is in `peers`.

use crate::{Address, BackendId, Port, ServiceId, plain::plain};

plain! {
    /// Key of `sockets`.
    #[derive(Debug, Hash, PartialOrd, Ord)]
    pub struct SocketKey { cookie: u64, address: Address, port: Port, kind: u8, reserved: u8, reserved2: u32 }
}

impl SocketKey {
    /// No kind: what ends a list.
    pub const NONE: u8 = 0;
    /// Kind of the entry that keeps an unconnected socket's choice for a frontend.
    pub const CHOSEN: u8 = 1;
    /// Kind of the entry that turns a backend's address back into the frontend's.
    pub const REPLY: u8 = 2;
    /// Kind of the entry from which the others hang.
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

    /// The list of chosen and reply entries.
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

#[cfg(not(feature = "layout-next"))]
plain! {
    /// Value of `sockets`. The cookie is in the value too: an element that is reused while it is read shows another
    /// socket's cookie, and then it is not believed.
    #[derive(Debug)]
    pub struct SocketValue {
        cookie: u64,
        other: Address,
        link: Address,
        other_port: Port,
        link_port: Port,
        id: BackendId,
        generation: u32,
        link_kind: u8,
        closed: u8,
        reserved: u16,
        service: ServiceId,
        reserved2: u32,
    }
}

// The second layout, which only the upgrade tests have: a word more.
#[cfg(feature = "layout-next")]
plain! {
    /// Value of `sockets`. The cookie is in the value too: an element that is reused while it is read shows another
    /// socket's cookie, and then it is not believed.
    #[derive(Debug)]
    pub struct SocketValue {
        cookie: u64,
        other: Address,
        link: Address,
        other_port: Port,
        link_port: Port,
        id: BackendId,
        generation: u32,
        link_kind: u8,
        closed: u8,
        reserved: u16,
        service: ServiceId,
        reserved2: u32,
        spare: u64,
    }
}

#[cfg(feature = "layout-next")]
plain! {
    /// Value of `sockets` in its first version. The cookie is in the value too: an element that is reused while it is read shows another
    /// socket's cookie, and then it is not believed.
    #[derive(Debug)]
    pub struct SocketValueV1 {
        cookie: u64,
        other: Address,
        link: Address,
        other_port: Port,
        link_port: Port,
        id: BackendId,
        generation: u32,
        link_kind: u8,
        closed: u8,
        reserved: u16,
        service: ServiceId,
        reserved2: u32,
    }
}

#[cfg(feature = "layout-next")]
impl From<SocketValueV1> for SocketValue {
    fn from(old: SocketValueV1) -> Self {
        Self {
            cookie: old.cookie,
            other: old.other,
            link: old.link,
            other_port: old.other_port,
            link_port: old.link_port,
            id: old.id,
            generation: old.generation,
            link_kind: old.link_kind,
            closed: old.closed,
            reserved: old.reserved,
            service: old.service,
            reserved2: old.reserved2,
            spare: 0,
        }
    }
}

/// What a `SocketValue` holds beside the cookie; which fields mean something depends on the key's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketEntry {
    /// reply: the frontend the program asked for. chosen: the backend its datagrams go to.
    pub other: (Address, Port),
    /// chosen, reply, head: address and port in the key of the list's next
    /// entry.
    pub link: (Address, Port),
    /// chosen, reply, head: kind of the list's next entry; `SocketKey::NONE`, which is on no list, ends it.
    pub link_kind: u8,
    /// chosen: the backend.
    pub id: BackendId,
    /// chosen: the backend's generation.
    pub generation: u32,
    /// head: 1 once the socket is closed and what hangs here waits to be swept.
    pub closed: u8,
    /// chosen: the service port that the frontend was of.
    pub service: ServiceId,
}

impl SocketEntry {
    /// Nothing, and the end of a list.
    pub const EMPTY: Self = Self {
        other: (Address::UNSPECIFIED, Port::from_be(0)),
        link: (Address::UNSPECIFIED, Port::from_be(0)),
        link_kind: SocketKey::NONE,
        id: 0,
        generation: 0,
        closed: 0,
        service: 0,
    };
}

impl SocketValue {
    /// An entry of the socket with this cookie.
    #[must_use]
    #[inline(always)]
    pub const fn new(cookie: u64, entry: SocketEntry) -> Self {
        Self {
            cookie,
            other: entry.other.0,
            link: entry.link.0,
            other_port: entry.other.1,
            link_port: entry.link.1,
            id: entry.id,
            generation: entry.generation,
            link_kind: entry.link_kind,
            closed: entry.closed,
            reserved: 0,
            service: entry.service,
            reserved2: 0,
            #[cfg(feature = "layout-next")]
            spare: 0,
        }
    }

    /// The socket's cookie.
    #[must_use]
    #[inline(always)]
    pub const fn cookie(self) -> u64 {
        self.cookie
    }

    /// Makes the entry with this key the list's next one; None ends the list.
    #[inline(always)]
    pub const fn set_next(&mut self, next: Option<SocketKey>) {
        (self.link, self.link_port, self.link_kind) = match next {
            Some(key) => (key.address, key.port, key.kind),
            None => (Address::UNSPECIFIED, Port::from_be(0), SocketKey::NONE),
        };
    }

    /// Key of the list's next entry; None at its end.
    #[must_use]
    #[inline(always)]
    pub const fn next(&self) -> Option<SocketKey> {
        if self.link_kind == SocketKey::NONE {
            return None;
        }
        Some(SocketKey::new(
            self.cookie,
            self.link,
            self.link_port,
            self.link_kind,
        ))
    }

    /// The entry.
    #[must_use]
    #[inline(always)]
    pub const fn entry(self) -> SocketEntry {
        SocketEntry {
            other: (self.other, self.other_port),
            link: (self.link, self.link_port),
            link_kind: self.link_kind,
            id: self.id,
            generation: self.generation,
            closed: self.closed,
            service: self.service,
        }
    }
}
