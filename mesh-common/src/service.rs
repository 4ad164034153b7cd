//! Frontends, the words of a service port, and the sets of backends they choose from.

use crate::{Address, Port, plain::plain};

/// Index of a service port (one port of one Service in one address family) in `services`.
pub type ServiceId = u32;

/// Index of a set in `sets`; 0 is no set.
pub type SetId = u32;

/// IP protocol numbers, as the kernel has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// 6
    Tcp,
    /// 17
    Udp,
}

impl Protocol {
    /// The IP protocol number; 0 stands for any in a frontend that refuses.
    #[must_use]
    #[inline(always)]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// The protocol of an IP protocol number; None for what is not served.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }

    /// As Kubernetes writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

/// The frontend is served to every client.
pub const SCOPE_ANY: u8 = 0;

plain! {
    /// Key of `frontends`: what a client asks for. What is beside the address is one word: port (network order),
    /// protocol and scope, from the low end. Stored as parts and hashed as a word it would wait for the stores.
    #[derive(Hash)]
    pub struct FrontendKey { address: Address, rest: u32 }
}

impl FrontendKey {
    /// One port of an address.
    #[must_use]
    #[inline(always)]
    pub const fn new(address: Address, port: Port, protocol: u8) -> Self {
        Self {
            address,
            rest: (port.to_be() as u32 | (protocol as u32) << 16 | (SCOPE_ANY as u32) << 24),
        }
    }

    /// Every port and protocol of an address that no frontend of its own has: what is found here is refused.
    #[must_use]
    #[inline(always)]
    pub const fn whole_address(address: Address) -> Self {
        Self::new(address, Port::from_be(0), 0)
    }

    /// Whether this key stands for the whole address.
    #[must_use]
    pub const fn is_whole_address(self) -> bool {
        self.protocol() == 0
    }

    /// The address asked for.
    #[must_use]
    #[inline(always)]
    pub const fn address(self) -> Address {
        self.address
    }

    /// The port asked for.
    #[must_use]
    #[inline(always)]
    pub const fn port(self) -> Port {
        Port::from_be(self.rest as u16)
    }

    /// The IP protocol number, 0 for the whole address.
    #[must_use]
    #[inline(always)]
    pub const fn protocol(self) -> u8 {
        (self.rest >> 16) as u8
    }

    /// Which clients the frontend is for.
    #[must_use]
    pub const fn scope(self) -> u8 {
        (self.rest >> 24) as u8
    }

    /// As people sort frontends: by address, port, protocol, scope.
    const fn parts(self) -> (Address, Port, u8, u8) {
        (self.address, self.port(), self.protocol(), self.scope())
    }
}

impl Ord for FrontendKey {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for FrontendKey {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl core::fmt::Debug for FrontendKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("FrontendKey")
            .field("address", &self.address)
            .field("port", &self.port())
            .field("protocol", &self.protocol())
            .field("scope", &self.scope())
            .finish()
    }
}

plain! {
    /// Value of `frontends`. Written when a frontend comes or goes, never for an endpoint change.
    #[derive(Debug)]
    pub struct FrontendValue { service: ServiceId, cluster: SetId, local: SetId, flags: u32 }
}

impl FrontendValue {
    const REFUSE: u32 = 1;
    const EXTERNAL: u32 = 2;
    const SOURCE_RANGES: u32 = 4;
    const HOST: u32 = 8;

    /// A frontend of a service port: its id, its set of all endpoints and its set of this node's (0: none).
    #[must_use]
    pub const fn new(service: ServiceId, cluster: SetId, local: SetId) -> Self {
        Self {
            service,
            cluster,
            local,
            flags: 0,
        }
    }

    /// The same for clients outside the cluster: a node port, an external IP, a load balancer's IP, a host port.
    #[must_use]
    pub const fn external(self) -> Self {
        Self {
            flags: self.flags | Self::EXTERNAL,
            ..self
        }
    }

    /// The same, open only to the clients that `source_ranges` names for the service port.
    #[must_use]
    pub const fn with_source_ranges(self) -> Self {
        Self {
            flags: self.flags | Self::SOURCE_RANGES,
            ..self
        }
    }

    /// The same, only for clients in the host's own network namespace: each other one has a loopback of its own.
    #[must_use]
    pub const fn for_host(self) -> Self {
        Self {
            flags: self.flags | Self::HOST,
            ..self
        }
    }

    /// For `FrontendKey::whole_address`: the address is a Service's, the port is not.
    #[must_use]
    pub const fn refuse() -> Self {
        Self {
            service: 0,
            cluster: 0,
            local: 0,
            flags: Self::REFUSE,
        }
    }

    /// Whether every connection is refused.
    #[must_use]
    #[inline(always)]
    pub const fn is_refuse(self) -> bool {
        self.flags & Self::REFUSE != 0
    }

    /// Whether it is a node port, an external IP, a load balancer's IP or a host port.
    #[must_use]
    #[inline(always)]
    pub const fn is_external(self) -> bool {
        self.flags & Self::EXTERNAL != 0
    }

    /// Whether only the clients that `source_ranges` names are served.
    #[must_use]
    #[inline(always)]
    pub const fn has_source_ranges(self) -> bool {
        self.flags & Self::SOURCE_RANGES != 0
    }

    /// Whether only clients in the host's own network namespace are served.
    #[must_use]
    #[inline(always)]
    pub const fn is_for_host(self) -> bool {
        self.flags & Self::HOST != 0
    }

    /// The service port.
    #[must_use]
    #[inline(always)]
    pub const fn service(self) -> ServiceId {
        self.service
    }

    /// The set of all endpoints.
    #[must_use]
    #[inline(always)]
    pub const fn cluster(self) -> SetId {
        self.cluster
    }

    /// The set of this node's endpoints; 0 when no policy needs it.
    #[must_use]
    #[inline(always)]
    pub const fn local(self) -> SetId {
        self.local
    }

    /// The set that new connections are led by: this node's where the policy that applies is Local. That is the external
    /// one for clients outside at external addresses, the internal one for everybody at ClusterIPs; clients inside are led
    /// to all endpoints by an external address too.
    #[must_use]
    #[inline(always)]
    pub const fn choice(self, from_outside: bool) -> Choice {
        let is_local = self.local != 0 && (from_outside || !self.is_external());
        Choice {
            set: if is_local { self.local } else { self.cluster },
            is_local,
        }
    }

    /// All flags, for dumps.
    #[must_use]
    pub const fn flags(self) -> u32 {
        self.flags
    }
}

/// Which of a service port's sets a client is led by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The set.
    pub set: SetId,
    /// It is that of this node's endpoints.
    pub is_local: bool,
}

/// Value of `services`: what may change while frontends stand, in one word so that one store changes it.
/// Seconds of session affinity in the low half, 0 for none; the high half is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceWord(u64);

impl ServiceWord {
    /// With session affinity for so many seconds; 0 for none.
    #[must_use]
    pub const fn new(affinity_seconds: u32) -> Self {
        Self(affinity_seconds as u64)
    }

    /// From the map.
    #[must_use]
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// For the map.
    #[must_use]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// Seconds of session affinity, 0 for none.
    #[must_use]
    #[inline(always)]
    pub const fn affinity_seconds(self) -> u32 {
        self.0 as u32
    }
}

/// Value of `sets`: the region of `slots` that holds the set's backends. One load sees a whole set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetWord(u64);

impl SetWord {
    /// The set without backends.
    pub const EMPTY: Self = Self(0);

    /// The slots `base..base + count`.
    #[must_use]
    pub const fn new(base: u32, count: u32) -> Self {
        Self((base as u64) << 32 | count as u64)
    }

    /// From the map.
    #[must_use]
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// For the map.
    #[must_use]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// First slot.
    #[must_use]
    #[inline(always)]
    pub const fn base(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Number of slots.
    #[must_use]
    #[inline(always)]
    pub const fn count(self) -> u32 {
        self.0 as u32
    }
}
