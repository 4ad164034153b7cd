//! Why something was not forwarded, and what else the datapath counts. One word each, the same in the counter, the
//! metric, the CLI and the tests.

/// Why a connection or datagram was refused. Every refusal has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Reason {
    /// The Service has no endpoint that may serve.
    NoEndpoints = 0,
    /// The address is a Service's, the port is none of its ports.
    NoSuchPort = 1,
    /// The map `sockets` is full: a reply could not be shown as coming from the Service.
    SocketsFull = 2,
    /// The tables contradict each other (a slot without a backend): a defect of the agent.
    Inconsistent = 3,
}

impl Reason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [
        Self::NoEndpoints,
        Self::NoSuchPort,
        Self::SocketsFull,
        Self::Inconsistent,
    ];

    /// The word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoEndpoints => "no_endpoints",
            Self::NoSuchPort => "no_such_port",
            Self::SocketsFull => "sockets_full",
            Self::Inconsistent => "inconsistent",
        }
    }
}

/// What the datapath counts, each an index into the per-CPU map `counters`. Values are pinned; do not renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counter {
    /// A connection, or an unconnected socket's first datagram to a Service, was sent to a backend.
    Forwarded,
    /// A connection was sent to a backend, but `sockets` was full: getpeername will show the backend.
    PeerForgotten,
    /// A refusal.
    Refused(Reason),
}

/// Entries of the map `counters`, with room to grow.
pub const COUNTERS: u32 = 64;

impl Counter {
    /// All of them, in the order of their indices.
    pub const ALL: [Self; 6] = [
        Self::Forwarded,
        Self::PeerForgotten,
        Self::Refused(Reason::NoEndpoints),
        Self::Refused(Reason::NoSuchPort),
        Self::Refused(Reason::SocketsFull),
        Self::Refused(Reason::Inconsistent),
    ];

    /// The index in `counters`.
    #[must_use]
    #[inline(always)]
    pub const fn index(self) -> u32 {
        match self {
            Self::Forwarded => 0,
            Self::PeerForgotten => 1,
            Self::Refused(reason) => 16 + reason as u32,
        }
    }

    /// The word: a reason's own, or that of the outcome.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::PeerForgotten => "peer_forgotten",
            Self::Refused(reason) => reason.name(),
        }
    }
}
