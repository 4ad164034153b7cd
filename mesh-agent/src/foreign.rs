//! Which flows of the kernel's own conntrack stay kube-proxy's for a while. In: flows that it translates, how long it
//! remembers them, which addresses are in use. Out: entries of the map `foreign`, by the backend that each leads to. Pure.

use std::collections::{BTreeMap, BTreeSet};

use mesh_common::{Address, Direction, FlowKey, Protocol};
use mesh_ebpf::{FOREIGN_SILENCE, foreign_socket};

use crate::netlink::Translated;

/// Seconds for which the kernel's conntrack remembers silent UDP flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Those that begin.
    pub new: u32,
    /// Those in which both sides have spoken.
    pub assured: u32,
}

/// The kernel's defaults.
impl Default for Memory {
    fn default() -> Self {
        Self {
            new: 30,
            assured: 120,
        }
    }
}

/// When it is, and whether UDP is taken over without waiting.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Seconds of the clock that the programs have.
    pub now: u32,
    /// See the type.
    pub memory: Memory,
    /// --take-over
    pub at_once: bool,
}

/// Entries by the backend that they lead to. What is behind none is a source port that is in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foreign(BTreeMap<Address, Vec<FlowKey>>);

impl Foreign {
    /// Adds what a flow makes: for UDP its tuple and its socket, and for all the port that it is answered at, if that
    /// is not the client's. Gives them with when they were last seen.
    pub(crate) fn add(&mut self, flow: &Translated, terms: Terms) -> Vec<(FlowKey, u32)> {
        let mut entries = Vec::new();
        if flow.protocol == Protocol::Udp && !terms.at_once {
            let idle = idle(flow, terms.memory);
            if idle < FOREIGN_SILENCE {
                let seen = terms.now.saturating_sub(idle).max(1);
                entries.extend(requests(flow).map(|key| (key, seen)));
                let keys = self.0.entry(flow.backend.0).or_default();
                keys.extend(entries.iter().map(|(key, _)| *key));
            }
        }
        if flow.answered != flow.client {
            let key = FlowKey::new(
                Direction::Ingress,
                flow.protocol,
                flow.backend,
                flow.answered,
            );
            entries.push((key, terms.now.max(1)));
        }
        entries
    }

    /// Whether no flow is left to anybody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many entries lead to backends.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Takes out the entries that lead to backends that are nobody's any more. Sockets of several flows may have one port.
    pub fn without_backend(&mut self, is_alive: impl Fn(Address) -> bool) -> Vec<FlowKey> {
        let gone = self.0.extract_if(.., |backend, _| !is_alive(*backend));
        let mut gone: Vec<FlowKey> = gone.flat_map(|(_, keys)| keys).collect();
        if !gone.is_empty() {
            let left: BTreeSet<&FlowKey> = self.0.values().flatten().collect();
            gone.retain(|key| !left.contains(key));
        }
        gone
    }

    /// Takes out those that were silent for too long; `seen` is when each was seen last.
    pub fn silent(&mut self, now: u32, seen: impl Fn(&FlowKey) -> Option<u32>) -> Vec<FlowKey> {
        let is_silent = |key: &FlowKey| {
            seen(key).is_none_or(|last| now.saturating_sub(last) >= FOREIGN_SILENCE)
        };
        let mut silent = Vec::new();
        for keys in self.0.values_mut() {
            silent.extend(keys.extract_if(.., |key| is_silent(key)));
        }
        self.0.retain(|_, keys| !keys.is_empty());
        silent
    }
}

/// How long a flow has been silent, by what is left of the time for which it is remembered.
fn idle(flow: &Translated, memory: Memory) -> u32 {
    let whole = if flow.is_assured {
        memory.assured
    } else {
        memory.new
    };
    whole.saturating_sub(flow.timeout)
}

fn requests(flow: &Translated) -> impl Iterator<Item = FlowKey> {
    let packet = FlowKey::new(
        Direction::Ingress,
        flow.protocol,
        flow.client,
        flow.frontend,
    );
    [packet, foreign_socket(flow.client.1, flow.frontend)].into_iter()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use mesh_common::Port;

    use super::*;

    fn end(address: [u8; 4], port: u16) -> (Address, Port) {
        (IpAddr::from(address).into(), Port::new(port))
    }

    fn flow() -> Translated {
        Translated {
            protocol: Protocol::Udp,
            client: end([10, 0, 0, 1], 4000),
            frontend: end([10, 96, 0, 10], 53),
            backend: end([10, 0, 1, 9], 5353),
            answered: end([10, 0, 0, 1], 4000),
            is_assured: true,
            timeout: 110,
        }
    }

    fn terms() -> Terms {
        Terms {
            now: 1000,
            memory: Memory::default(),
            at_once: false,
        }
    }

    #[test]
    fn a_flow_is_left_from_when_it_spoke_last() {
        let entries = Foreign::default().add(&flow(), terms());
        let seen: Vec<u32> = entries.iter().map(|(_, seen)| *seen).collect();
        assert_eq!(seen, [990, 990]);
        assert_eq!(entries[0].0.source(), flow().client);
        assert_eq!(
            entries[1].0.source(),
            (Address::UNSPECIFIED, Port::new(4000))
        );
    }

    #[test]
    fn silent_flows_and_connections_are_not_left() {
        let mut foreign = Foreign::default();
        let silent = Translated {
            timeout: 90,
            ..flow()
        };
        let connection = Translated {
            protocol: Protocol::Tcp,
            ..flow()
        };
        for flow in [silent, connection] {
            assert_eq!(foreign.add(&flow, terms()), []);
        }
        let at_once = Terms {
            at_once: true,
            ..terms()
        };
        assert_eq!(foreign.add(&flow(), at_once), []);
        assert!(foreign.is_empty());
    }

    #[test]
    fn a_source_port_in_use_is_known_whatever_the_terms() {
        let node = end([192, 168, 0, 1], 4001);
        let flow = Translated {
            protocol: Protocol::Tcp,
            answered: node,
            ..flow()
        };
        let at_once = Terms {
            at_once: true,
            ..terms()
        };
        let entries = Foreign::default().add(&flow, at_once);
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].0.source(), flow.backend);
        assert_eq!(entries[0].0.destination(), node);
    }

    #[test]
    fn what_is_over_is_taken_out() {
        let mut foreign = Foreign::default();
        foreign.add(&flow(), terms());
        assert_eq!(foreign.without_backend(|_| true), []);
        assert_eq!(foreign.silent(1019, |_| Some(990)), []);
        assert_eq!(foreign.clone().silent(1020, |_| Some(990)).len(), 2);
        let other = Translated {
            client: end([10, 0, 0, 2], 4000),
            backend: end([10, 0, 1, 8], 5353),
            ..flow()
        };
        foreign.add(&other, terms());
        let gone = flow().backend.0;
        assert_eq!(foreign.without_backend(|it| it != gone).len(), 1);
        assert_eq!(foreign.without_backend(|_| false).len(), 2);
        assert!(foreign.is_empty());
    }
}
