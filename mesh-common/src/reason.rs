//! Why something was not forwarded, and what else the datapath counts. One word each, the same in the counter, the
//! metric, the CLI and the tests.

/// Why a connection, datagram or packet was not forwarded. Each has exactly one.
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
    /// The Service's loadBalancerSourceRanges do not name the client.
    SourceNotAllowed = 4,
    /// The backend of an established flow is gone.
    BackendGone = 5,
    /// Every backend that was tried talks to this client and port already, by another frontend.
    TupleInUse = 6,
    /// No port was found that could stand for the client.
    SnatPortsExhausted = 7,
    /// The map `flows` is full, and the flow could not go on without an entry.
    FlowsFull = 8,
    /// A fragment whose first one was not seen.
    FragmentWithoutFirst = 9,
    /// Headers that end too early, are too many or contradict each other.
    Malformed = 10,
    /// The interface by which the packet leaves has no address that could stand for the client.
    NoSourceAddress = 11,
    /// The traffic policy that applies is Local, and the Service's endpoints are all on other nodes.
    NoLocalEndpoints = 12,
}

impl Reason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 13] = [
        Self::NoEndpoints,
        Self::NoSuchPort,
        Self::SocketsFull,
        Self::Inconsistent,
        Self::SourceNotAllowed,
        Self::BackendGone,
        Self::TupleInUse,
        Self::SnatPortsExhausted,
        Self::FlowsFull,
        Self::FragmentWithoutFirst,
        Self::Malformed,
        Self::NoSourceAddress,
        Self::NoLocalEndpoints,
    ];

    /// The reason of a number; an unknown one is a contradiction.
    #[must_use]
    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::NoEndpoints,
            1 => Self::NoSuchPort,
            2 => Self::SocketsFull,
            4 => Self::SourceNotAllowed,
            5 => Self::BackendGone,
            6 => Self::TupleInUse,
            7 => Self::SnatPortsExhausted,
            8 => Self::FlowsFull,
            9 => Self::FragmentWithoutFirst,
            10 => Self::Malformed,
            11 => Self::NoSourceAddress,
            12 => Self::NoLocalEndpoints,
            _ => Self::Inconsistent,
        }
    }

    /// The word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoEndpoints => "no_endpoints",
            Self::NoSuchPort => "no_such_port",
            Self::SocketsFull => "sockets_full",
            Self::Inconsistent => "inconsistent",
            Self::SourceNotAllowed => "source_not_allowed",
            Self::BackendGone => "backend_gone",
            Self::TupleInUse => "tuple_in_use",
            Self::SnatPortsExhausted => "snat_ports_exhausted",
            Self::FlowsFull => "flows_full",
            Self::FragmentWithoutFirst => "fragment_without_first",
            Self::Malformed => "malformed",
            Self::NoSourceAddress => "no_source_address",
            Self::NoLocalEndpoints => "no_local_endpoints",
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
    /// The packet path opened a flow.
    FlowOpened,
    /// A flow could not be confirmed, because `flows` is full of others; it goes on half-open, and newcomers may push it out.
    FlowUnconfirmed,
    /// A connection or datagram was refused at its socket.
    Refused(Reason),
    /// A packet was not forwarded. Its sender is told, if there is a way.
    Dropped(Reason),
}

/// Entries of the map `counters`, with room to grow.
pub const COUNTERS: u32 = 64;

const REFUSED: u32 = 16;
const DROPPED: u32 = 40;

const _: () = assert!(Reason::ALL.len() as u32 <= DROPPED - REFUSED);
const _: () = assert!(Reason::ALL.len() as u32 <= COUNTERS - DROPPED);

impl Counter {
    const OUTCOMES: [Self; 4] = [
        Self::Forwarded,
        Self::PeerForgotten,
        Self::FlowOpened,
        Self::FlowUnconfirmed,
    ];

    /// All of them, in the order of their indices.
    pub const ALL: [Self; Self::OUTCOMES.len() + 2 * Reason::ALL.len()] = {
        let mut all = [Self::Forwarded; Self::OUTCOMES.len() + 2 * Reason::ALL.len()];
        let mut index = 0;
        while index < Self::OUTCOMES.len() {
            all[index] = Self::OUTCOMES[index];
            index += 1;
        }
        let mut reason = 0;
        while reason < Reason::ALL.len() {
            all[index + reason] = Self::Refused(Reason::ALL[reason]);
            all[index + Reason::ALL.len() + reason] = Self::Dropped(Reason::ALL[reason]);
            reason += 1;
        }
        all
    };

    /// The index in `counters`.
    #[must_use]
    #[inline(always)]
    pub const fn index(self) -> u32 {
        match self {
            Self::Forwarded => 0,
            Self::PeerForgotten => 1,
            Self::FlowOpened => 2,
            Self::FlowUnconfirmed => 3,
            Self::Refused(reason) => REFUSED + reason as u32,
            Self::Dropped(reason) => DROPPED + reason as u32,
        }
    }

    /// The word: a reason's own, or that of the outcome.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::PeerForgotten => "peer_forgotten",
            Self::FlowOpened => "flow_opened",
            Self::FlowUnconfirmed => "flow_unconfirmed",
            Self::Refused(reason) | Self::Dropped(reason) => reason.name(),
        }
    }
}
