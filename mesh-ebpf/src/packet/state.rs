//! What the stages of a packet know and say.

use mesh_common::{Address, Backend, BackendId, Direction, FlowKey, Port, Protocol, Reason};

use crate::Found;

/// Where a packet is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum PacketHook {
    /// tcx ingress of a local pod's interface on the host.
    FromPod = 0,
    /// tcx egress of it.
    ToPod = 1,
    /// tcx ingress of a device of the node.
    FromDevice = 2,
    /// tcx egress of it.
    ToDevice = 3,
}

impl PacketHook {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::FromPod, Self::ToPod, Self::FromDevice, Self::ToDevice];

    /// The word for it, which is the name of its program where packets begin with an Ethernet header.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FromPod => "from_pod",
            Self::ToPod => "to_pod",
            Self::FromDevice => "from_device",
            Self::ToDevice => "to_device",
        }
    }

    /// The name of its program at interfaces whose packets begin with this. Of pods' there is one each.
    #[must_use]
    pub const fn program(self, link: LinkHeader) -> &'static str {
        match (self, link) {
            (Self::FromDevice, LinkHeader::None) => "from_l3_device",
            (Self::ToDevice, LinkHeader::None) => "to_l3_device",
            _ => self.name(),
        }
    }

    /// Before or after routing.
    #[must_use]
    #[inline(always)]
    pub const fn direction(self) -> Direction {
        match self {
            Self::FromPod | Self::FromDevice => Direction::Ingress,
            Self::ToPod | Self::ToDevice => Direction::Egress,
        }
    }
}

/// What is before the IP header of a device's packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkHeader {
    /// An Ethernet header.
    #[default]
    Ethernet,
    /// Nothing: tunnels (ipip, WireGuard, tun) and modems.
    None,
}

impl LinkHeader {
    /// Its bytes.
    #[must_use]
    #[inline(always)]
    pub const fn length(self) -> u16 {
        match self {
            Self::Ethernet => 14,
            Self::None => 0,
        }
    }
}

/// The IP version, as the link header says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Family {
    /// IPv4
    V4 = 0,
    /// IPv6
    V6 = 1,
}

/// Whether the packet is a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fragment {
    /// A whole packet.
    Whole = 0,
    /// The first part: it has the ports.
    First = 1,
    /// A later one: its ports are those of the first.
    Later = 2,
}

/// The stages of a packet. The numbers are places in the program array `stages`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum PacketStage {
    /// Which addresses and ports?
    Parse = 0,
    /// Of a flow that is known?
    Conntrack = 1,
    /// Of a Service? Then which backend?
    Open = 2,
    /// Have both sides spoken? Then the flow may not be forgotten any more.
    Confirm = 3,
    /// Which address and port stand for the client?
    Source = 4,
    /// Put the new address and port into the packet.
    Rewrite = 5,
    /// An ICMP error about a flow's packet.
    Icmp = 6,
    /// Tell the sender that there is nobody.
    Refuse = 7,
    /// Where do the flow's entries go, if not together?
    Enter = 8,
    /// Which backend then, whose replies are no other flow's?
    Choose = 9,
}

impl PacketStage {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::Parse,
        Self::Conntrack,
        Self::Open,
        Self::Confirm,
        Self::Source,
        Self::Rewrite,
        Self::Icmp,
        Self::Refuse,
        Self::Enter,
        Self::Choose,
    ];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Conntrack => "conntrack",
            Self::Open => "open",
            Self::Confirm => "confirm",
            Self::Source => "source",
            Self::Rewrite => "rewrite",
            Self::Icmp => "icmp",
            Self::Refuse => "refuse",
            Self::Enter => "enter",
            Self::Choose => "choose",
        }
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a verdict that is not returned lets everything pass"]
pub enum PacketVerdict {
    /// Not ours: goes on untouched.
    Pass,
    /// Goes on, rewritten.
    Forward,
    /// Goes nowhere.
    Drop(Reason),
    /// Became the answer that tells its sender so, and goes back by the interface it came from.
    Reflect(Reason),
}

/// What a stage says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a step that is dropped ends the way in the middle"]
pub enum PacketStep {
    /// Go on there.
    Next(PacketStage),
    /// That is all.
    Done(PacketVerdict),
}

/// What the stages know so far: plain data, in memory that tail calls share.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PacketState {
    /// The packet's tuple at this hook; of an ICMP error, that of a packet which goes the error's way.
    pub key: FlowKey,
    /// What is to be written into the packet.
    pub target: (Address, Port),
    /// Of a new flow: its backend, and the generation of that.
    pub backend: (BackendId, u32),
    /// Where the entry of a packet that needs a source was found.
    pub leaving: Found,
    /// Identification of a fragmented packet, as it has it.
    pub fragment_id: u32,
    /// Third word of an IPv4 header, as it lies in memory: TTL, protocol, checksum.
    pub third: u32,
    /// Offset of the transport header from the start of the packet.
    pub transport: u16,
    /// Offset of the IP header.
    pub network: u16,
    /// Where it is seen.
    pub hook: PacketHook,
    /// IPv4 or IPv6.
    pub family: Family,
    /// Whether it is a part.
    pub fragment: Fragment,
    /// Whether the tuple has an entry, of a flow that is over.
    pub is_known: bool,
    /// Whether the flow that needs a source is half-open.
    pub is_opening: bool,
    /// TCP's flags, as in the header; 0 for other protocols and later fragments.
    pub tcp_flags: u8,
    /// Why it is refused, for stage Refuse.
    pub reason: Reason,
}

const _: () = assert!(size_of::<PacketState>() <= 256);

impl PacketState {
    /// At the start of a hook, of a packet whose IP header begins at `network`.
    #[must_use]
    #[inline(always)]
    pub const fn new(hook: PacketHook, network: u16) -> Self {
        let nowhere = (Address::UNSPECIFIED, Port::from_be(0));
        Self {
            key: FlowKey::new(hook.direction(), Protocol::Tcp, nowhere, nowhere),
            target: nowhere,
            backend: (0, 0),
            leaving: Found(0),
            fragment_id: 0,
            third: 0,
            transport: 0,
            network,
            hook,
            family: Family::V4,
            fragment: Fragment::Whole,
            is_known: false,
            is_opening: false,
            tcp_flags: 0,
            reason: Reason::Inconsistent,
        }
    }

    /// Whether it asks for a new TCP connection: SYN, and neither ACK nor RST nor FIN.
    #[must_use]
    #[inline(always)]
    pub(crate) const fn is_syn(&self) -> bool {
        self.tcp_flags & (tcp::SYN | tcp::ACK | tcp::RST | tcp::FIN) == tcp::SYN
    }

    /// Whether it is TCP.
    #[must_use]
    #[inline(always)]
    pub(crate) const fn is_tcp(&self) -> bool {
        self.key.protocol() == Protocol::Tcp.number()
    }

    /// A new flow's backend.
    #[inline(always)]
    pub(crate) const fn set_backend(&mut self, (id, backend): (BackendId, Backend)) {
        let word = backend.word();
        self.target = (backend.address(), word.port());
        self.backend = (id, word.generation());
    }

    /// What is told to the sender, and where from here.
    #[inline(always)]
    pub(crate) const fn refuse(&mut self, reason: Reason) -> PacketStep {
        self.reason = reason;
        PacketStep::Next(PacketStage::Refuse)
    }

    /// Where the packet is to go, or to come from.
    #[inline(always)]
    pub(crate) const fn rewrite_to(&mut self, target: (Address, Port)) -> PacketStep {
        self.target = target;
        PacketStep::Next(PacketStage::Rewrite)
    }
}

/// The way ends with a drop.
#[inline(always)]
pub(crate) const fn drop(reason: Reason) -> PacketStep {
    PacketStep::Done(PacketVerdict::Drop(reason))
}

/// The packet is not ours.
pub(crate) const PASS: PacketStep = PacketStep::Done(PacketVerdict::Pass);

/// Flags of the TCP header (RFC 9293, 3.1).
pub(crate) mod tcp {
    pub(crate) const FIN: u8 = 1;
    pub(crate) const SYN: u8 = 2;
    pub(crate) const RST: u8 = 4;
    pub(crate) const ACK: u8 = 16;
}
