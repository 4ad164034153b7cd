//! What goes between a client and a server, and by which ways.

use std::net::SocketAddr;

use mesh_lab::{Call, traffic::Report};

/// How a client calls the server. The numbers are the places of their clients among a node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Route {
    /// Its own address, with nothing attached.
    Bare,
    /// The same, where each hook of the agent's has a program that only returns: what the hooks cost by themselves.
    Empty,
    /// The same through the agent's programs, whom it does not concern.
    Direct,
    /// The ClusterIP, where no socket hook is called.
    Packets,
    /// The ClusterIP, translated at the socket.
    Sockets,
}

impl Route {
    /// All but the one that the others are compared with.
    pub(super) const OTHERS: [Self; 4] = {
        let [Self::Bare, others @ ..] = Self::ALL else {
            panic!("it is not the first");
        };
        others
    };

    pub(super) const ALL: [Self; 5] = [
        Self::Bare,
        Self::Empty,
        Self::Direct,
        Self::Packets,
        Self::Sockets,
    ];

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Bare => "nothing attached",
            Self::Empty => "pod to pod, empty programs",
            Self::Direct => "pod to pod, programs attached",
            Self::Packets => "ClusterIP, packet path",
            Self::Sockets => "ClusterIP, socket hooks",
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Empty => "empty",
            Self::Direct => "direct",
            Self::Packets => "packets",
            Self::Sockets => "sockets",
        }
    }
}

/// A kind of traffic.
pub(super) struct Kind {
    pub(super) title: &'static str,
    pub(super) unit: &'static str,
    pub(super) call: fn(SocketAddr) -> Call,
    /// What was done: exchanges, or megabytes.
    pub(super) done: fn(&Report) -> f64,
}

pub(super) const KINDS: [Kind; 3] = [
    Kind {
        title: "request and response, 1 byte",
        unit: "a second",
        call: |to| Call::rr(to).option("--size", 1),
        done: |report| report.answered as f64,
    },
    Kind {
        title: "short connections, 1 byte",
        unit: "a second",
        call: |to| Call::crr(to).option("--size", 1),
        done: |report| report.answered as f64,
    },
    Kind {
        title: "stream",
        unit: "MB a second",
        call: |to| Call::stream(to).option("--size", 65_536),
        done: |report| report.bytes as f64 / 1e6,
    },
];
