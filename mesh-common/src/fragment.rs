//! Ports of fragmented packets: the first fragment has them, the others do not.

use crate::{Address, Direction, FlowKey, Port, plain::plain};

plain! {
    /// Key of `fragments`: what all fragments of a packet share at a hook (RFC 791, 3.2; RFC 8200, 4.5). `id` is the
    /// identification as the packet has it; the last word is protocol and direction.
    #[derive(Debug, Hash, PartialOrd, Ord)]
    pub struct FragmentKey { source: Address, destination: Address, id: u32, rest: u32 }
}

impl FragmentKey {
    /// The fragments of one packet at a hook.
    #[must_use]
    #[inline(always)]
    pub const fn new(
        direction: Direction,
        protocol: u8,
        source: Address,
        destination: Address,
        id: u32,
    ) -> Self {
        Self {
            source,
            destination,
            id,
            rest: protocol as u32 | (direction as u32) << 8,
        }
    }
}

plain! {
    /// Value of `fragments`: source port and destination port, network order; and the identification again, so that an
    /// element that is reused while it is read is not believed.
    #[derive(Debug)]
    pub struct FragmentPorts { source: Port, destination: Port, id: u32 }
}

impl FragmentPorts {
    /// The ports in a first fragment.
    #[must_use]
    #[inline(always)]
    pub const fn of(key: &FlowKey, id: u32) -> Self {
        Self {
            source: key.source().1,
            destination: key.destination().1,
            id,
        }
    }

    /// (source, destination), if it is the entry of this identification.
    #[must_use]
    #[inline(always)]
    pub const fn ports(&self, id: u32) -> Option<(Port, Port)> {
        if self.id != id {
            return None;
        }
        Some((self.source, self.destination))
    }
}
