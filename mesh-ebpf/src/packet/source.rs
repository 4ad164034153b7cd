//! Stage Source: an address of the node stands for the client, because the reply would not come back by itself. In: a
//! leaving packet's tuple. Out: the source, and the entry by which the reply is found.

use mesh_common::{FlowTag, FlowValue, Port, Reason};

use super::state::{Family, PacketState, PacketStep, drop};
use crate::{Env, NotAdded, Packet, Place, foreign::is_taken};

/// How many ports are tried.
const TRIES: u32 = 5;

/// The ports that may stand for clients: `first..=last` without `hole_first..=hole_last`, the NodePorts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnatPorts {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
    /// The lowest NodePort.
    pub hole_first: u16,
    /// The highest NodePort.
    pub hole_last: u16,
}

impl Default for SnatPorts {
    /// Those of --snat-ports and --nodeport-range when nothing is said.
    fn default() -> Self {
        Self {
            first: 1024,
            last: 65_535,
            hole_first: 30_000,
            hole_last: 32_767,
        }
    }
}

/// Fewer are no choice: a source is looked for by chance.
const FEWEST_QUIET: u32 = 4096;

impl SnatPorts {
    /// Those among them that the host's own sockets are not given (ip_local_port_range: `first` to `last`), with one hole
    /// for both. All of them where that is not next to the NodePorts, or leaves too few.
    #[must_use]
    pub fn quiet(self, (first, last): (u16, u16)) -> Self {
        let is_next = |low: u16, high: u16| u32::from(low) <= u32::from(high) + 1;
        let touches = is_next(first, self.hole_last) && is_next(self.hole_first, last);
        let quiet = Self {
            hole_first: self.hole_first.min(first),
            hole_last: self.hole_last.max(last),
            ..self
        };
        let count = (u32::from(self.last) + 1).saturating_sub(u32::from(self.first) + quiet.hole());
        if touches && count >= FEWEST_QUIET {
            quiet
        } else {
            self
        }
    }

    #[inline(always)]
    const fn has(self, port: u16) -> bool {
        let is_hole = port >= self.hole_first && port <= self.hole_last;
        port >= self.first && port <= self.last && !is_hole
    }

    /// One of them by a random number, each as likely; a NodePort's place is taken by the port as far above the hole's
    /// end, so none is found where the hole reaches the end.
    #[inline(always)]
    const fn at(self, number: u32) -> Option<u16> {
        let hole = self.hole();
        let width = (self.last as u32 + 1).saturating_sub(self.first as u32 + hole);
        let port = self.first as u32 + ((number as u64 * width as u64) >> 32) as u32;
        let port = if hole != 0 && port >= self.hole_begin() {
            port + hole
        } else {
            port
        };
        if width == 0 || port > u16::MAX as u32 || !self.has(port as u16) {
            return None;
        }
        Some(port as u16)
    }

    #[inline(always)]
    const fn hole_begin(self) -> u32 {
        if self.hole_first > self.first {
            self.hole_first as u32
        } else {
            self.first as u32
        }
    }

    /// How many NodePorts are in between.
    #[inline(always)]
    const fn hole(self) -> u32 {
        let end = if self.hole_last < self.last {
            self.hole_last as u32
        } else {
            self.last as u32
        };
        (end + 1).saturating_sub(self.hole_begin())
    }
}

#[inline(always)]
pub(super) fn stage<E: Env, P: Packet>(env: &E, packet: &P, state: &mut PacketState) -> PacketStep {
    let is_v4 = state.family == Family::V4;
    let interface = env.interface(packet.interface());
    let Some(address) = interface.and_then(|interface| interface.address(is_v4)) else {
        return drop(Reason::NoSourceAddress);
    };
    let leaving = state.key;
    let (client, client_port) = leaving.source();
    let place = if state.is_opening {
        Place::Opening
    } else {
        Place::Confirmed
    };
    let is_own_quiet = env.quiet_snat_ports().has(client_port.get());
    for attempt in 0..TRIES {
        // Ports that the host's own sockets are given may become theirs at any time: nobody asks us then.
        let ports = if attempt + 1 < TRIES {
            env.quiet_snat_ports()
        } else {
            env.snat_ports()
        };
        // The client's own port first, as netfilter does.
        let port = if attempt == 0 && is_own_quiet {
            client_port.get()
        } else {
            match ports.at(env.random()) {
                Some(port) => port,
                None => continue,
            }
        };
        let source = (address, Port::new(port));
        let returning = leaving.returning(source);
        let tag = FlowTag::of(&returning, env.seed());
        env.fetch_flow(tag);
        if is_taken(env, &returning) || packet.has_socket(&returning) {
            continue;
        }
        let value = FlowValue::returning((client, client_port), env.seconds());
        match env.claim_flow(place, &returning, tag) {
            Ok(claim) => env.fill_flow(claim, &returning, &value),
            Err(NotAdded::Exists) => continue,
            Err(NotAdded::Full) => return drop(Reason::FlowsFull),
        }
        env.set_flow_source(state.leaving, &leaving, source);
        return state.rewrite_to(source);
    }
    drop(Reason::SnatPortsExhausted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(ports: SnatPorts) -> std::vec::Vec<u16> {
        let step = 1 << 20;
        let mut found: std::vec::Vec<u16> = (0..1_u64 << 12)
            .filter_map(|n| ports.at((n * step) as u32))
            .collect();
        found.dedup();
        found
    }

    #[test]
    fn every_port_but_node_ports() {
        let ports = SnatPorts {
            first: 10,
            last: 20,
            hole_first: 13,
            hole_last: 15,
        };
        assert_eq!(all(ports), [10, 11, 12, 16, 17, 18, 19, 20]);
        assert!(ports.has(12) && !ports.has(13) && !ports.has(9) && !ports.has(21));
    }

    #[test]
    fn a_hole_at_the_edge_or_outside() {
        let ports = |hole_first, hole_last| SnatPorts {
            first: 10,
            last: 14,
            hole_first,
            hole_last,
        };
        assert_eq!(all(ports(5, 11)), [12, 13, 14]);
        assert_eq!(all(ports(13, 30)), [10, 11, 12]);
        assert_eq!(all(ports(30, 40)), [10, 11, 12, 13, 14]);
        assert!(all(ports(1, 40)).is_empty());
    }

    #[test]
    fn ports_of_the_hosts_own_sockets_are_left_for_the_end() {
        let all = SnatPorts::default();
        let quiet = all.quiet((32_768, 60_999));
        assert_eq!((quiet.hole_first, quiet.hole_last), (30_000, 60_999));
        assert_eq!((quiet.first, quiet.last), (1024, 65_535));
        for elsewhere in [(40_000, 60_999), (1024, 65_535), (1024, 62_000)] {
            assert_eq!(all.quiet(elsewhere), all, "{elsewhere:?}");
        }
        assert_eq!(all.quiet((20_000, 29_999)).hole_first, 20_000);
    }

    #[test]
    fn the_highest_port() {
        let ports = SnatPorts {
            first: 65_534,
            last: 65_535,
            hole_first: 30_000,
            hole_last: 32_767,
        };
        assert_eq!(all(ports), [65_534, 65_535]);
    }
}
