//! Typed dumps of the maps: what the kernel holds, as rows that people and their tools read. Pure: entries in, rows out,
//! always in the same order.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use mesh_common::{
    Address, AffinityKey, AffinityValue, BackendState, ClientAddresses, Counter, Entry, FlowKey,
    FlowValue, FrontendKey, Interface, LOCAL_CHOICE, LearnedClient, Peer, Port, Protocol, Seen,
    SetWord, SocketKey, SocketValue, SourceRangeKey,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{plan::TableDump, snat_ports::Ports};

/// How many entries maps may have.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    /// Of confirmed flows.
    pub flows: usize,
    /// Of sockets.
    pub sockets: usize,
}

impl Default for Most {
    /// As many as anybody wants.
    fn default() -> Self {
        Self {
            flows: usize::MAX,
            sockets: usize::MAX,
        }
    }
}

/// What the pinned maps hold at one moment.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// The derived maps.
    pub tables: TableDump,
    /// `affinity`
    pub affinity: Vec<(AffinityKey, AffinityValue)>,
    /// `peers`, the places that are taken.
    pub peers: Vec<Peer>,
    /// `sockets`
    pub sockets: Vec<(SocketKey, SocketValue)>,
    /// `flows`, with whether its flow is half-open.
    pub flows: Vec<(FlowKey, FlowValue, bool)>,
    /// `clients`
    pub clients: BTreeMap<u64, ClientAddresses>,
    /// `learned_clients`
    pub learned_clients: BTreeMap<u64, LearnedClient>,
    /// `interfaces` and `late_interfaces`
    pub interfaces: BTreeMap<u32, Interface>,
    /// `foreign` of the programs in force: flows that are left to kube-proxy, and the second in which each was seen last.
    pub foreign: BTreeMap<FlowKey, u32>,
    /// The ports that stand for clients.
    pub ports: Ports,
    /// How much fits into the maps; of flows if they were asked for.
    pub most: Most,
    /// `counters`, summed over the CPUs.
    pub counters: Vec<(Counter, u64)>,
    /// Nanoseconds of the monotonic clock at that moment.
    pub now: u64,
}

/// A frontend: what clients ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FrontendRow {
    /// The address.
    pub address: IpAddr,
    /// The port; 0 stands for every port that has no frontend of its own.
    pub port: u16,
    /// TCP, UDP or any.
    pub protocol: String,
    /// Which clients it is for; 0 is all.
    pub scope: u8,
    /// Index in `services`.
    pub service: u32,
    /// Index in `sets` of all endpoints.
    pub cluster_set: u32,
    /// Index in `sets` of this node's endpoints; 0 for none.
    pub local_set: u32,
    /// Every call is refused.
    pub refuse: bool,
    /// Clients outside the cluster are served, too.
    pub external: bool,
    /// Of them only those in `source_ranges`.
    pub source_ranges: bool,
    /// Only those in the host's own network namespace.
    #[serde(default)]
    pub host: bool,
}

/// A range of clients that a service port's load balancer addresses are open to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceRangeRow {
    /// Index in `services`.
    pub service: u32,
    /// ADDRESS/BITS
    pub range: String,
}

/// A service port's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRow {
    /// The index.
    pub id: u32,
    /// Session affinity; 0 for none.
    pub affinity_seconds: u32,
}

/// A set: a region of slots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SetRow {
    /// The index.
    pub id: u32,
    /// Its first slot.
    pub base: u32,
    /// How many slots it has.
    pub count: u32,
}

/// A slot of a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlotRow {
    /// The index.
    pub index: u32,
    /// The set whose region it is in.
    pub set: u32,
    /// Index in `backends`.
    pub backend: u32,
}

/// A backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendRow {
    /// The index.
    pub id: u32,
    /// Where connections go.
    pub address: IpAddr,
    /// Where connections go.
    pub port: u16,
    /// ready, draining or gone.
    pub state: String,
    /// How often the id has been given out.
    pub generation: u32,
}

/// A client's last backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AffinityRow {
    /// An address, or netns: and the cookie of a network namespace.
    pub client: String,
    /// Index in `services`.
    pub service: u32,
    /// It was led by the policy Local, to this node's.
    pub local: bool,
    /// Index in `backends`.
    pub backend: u32,
    /// The backend's generation then.
    pub generation: u32,
    /// Seconds since the last connection.
    pub idle_seconds: u64,
}

/// What is remembered of a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SocketRow {
    /// The socket's cookie.
    pub cookie: u64,
    /// peer: what a connected socket is connected to. chosen: an unconnected socket's backend for a frontend. reply: the
    /// frontend that stands for a backend. head: where the last two hang from.
    pub kind: String,
    /// What the program asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frontend: Option<SocketAddr>,
    /// Where it went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<SocketAddr>,
    /// Index in `backends`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_id: Option<u32>,
    /// The backend's generation then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// The socket is closed and the entry waits to be swept.
    pub closed: bool,
}

/// An entry of a flow that the packet path translates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FlowRow {
    /// TCP or UDP.
    pub protocol: String,
    /// request: from client to frontend, before routing. leaving: from client to backend, after it. returning: from
    /// backend to the source that stands for the client, before it. reply: from backend to client, after it.
    pub entry: String,
    /// Where such a packet comes from.
    pub source: SocketAddr,
    /// Where it goes.
    pub destination: SocketAddr,
    /// What its destination (request, returning) or source (leaving, reply) becomes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewritten_to: Option<SocketAddr>,
    /// What this side has sent: packets, fin, rst.
    pub seen: Vec<String>,
    /// Seconds since the last packet, as far as this entry keeps account of it.
    pub idle_seconds: u64,
    /// Both sides have spoken: no newcomer can push it out.
    pub confirmed: bool,
}

/// Who a client at a socket is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientRow {
    /// The cookie of its network namespace.
    pub netns: u64,
    /// Its IPv4 address, if it has one and no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v4: Option<IpAddr>,
    /// Its IPv6 address, if it has one and no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v6: Option<IpAddr>,
    /// Known by its connections alone; else the agent has looked.
    pub learned: bool,
}

/// A counter of the datapath.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CounterRow {
    /// Its word; that of a refusal is the reason's.
    pub name: String,
    /// The index.
    pub index: u32,
    /// How often, on all CPUs.
    pub count: u64,
}

/// A backend's state as a word.
#[must_use]
pub const fn state_name(state: BackendState) -> &'static str {
    match state {
        BackendState::Ready => "ready",
        BackendState::Draining => "draining",
        BackendState::Gone => "gone",
    }
}

impl Live {
    /// `frontends`, by key.
    #[must_use]
    pub fn frontends(&self) -> Vec<FrontendRow> {
        let sorted: BTreeMap<_, _> = self.tables.frontends.iter().copied().collect();
        let row = |(key, value): (FrontendKey, mesh_common::FrontendValue)| FrontendRow {
            address: key.address().to_ip(),
            port: key.port().get(),
            protocol: protocol_name(key),
            scope: key.scope(),
            service: value.service(),
            cluster_set: value.cluster(),
            local_set: value.local(),
            refuse: value.is_refuse(),
            external: value.is_external(),
            source_ranges: value.has_source_ranges(),
            host: value.is_for_host(),
        };
        sorted.into_iter().map(row).collect()
    }

    /// `source_ranges`, by service port.
    #[must_use]
    pub fn source_ranges(&self) -> Vec<SourceRangeRow> {
        let sorted: BTreeSet<SourceRangeKey> = self.tables.ranges.iter().copied().collect();
        let row = |key: SourceRangeKey| SourceRangeRow {
            service: key.service(),
            range: range(key),
        };
        sorted.into_iter().map(row).collect()
    }

    /// `services`, those that a frontend leads to.
    #[must_use]
    pub fn services(&self) -> Vec<ServiceRow> {
        let used = self.tables.frontends.iter();
        let used: BTreeSet<u32> = used
            .filter(|(_, value)| !value.is_refuse())
            .map(|(_, value)| value.service())
            .collect();
        let word = |id: u32| value_at(&self.tables.services, id);
        used.into_iter()
            .map(|id| ServiceRow {
                id,
                affinity_seconds: word(id).map_or(0, |word| word.affinity_seconds()),
            })
            .collect()
    }

    /// `sets`, those that a frontend leads to and those that are not empty.
    #[must_use]
    pub fn sets(&self) -> Vec<SetRow> {
        let frontends = self.tables.frontends.iter();
        let used = frontends
            .flat_map(|(_, value)| [value.cluster(), value.local()])
            .filter(|id| *id != 0);
        let filled = indexed(&self.tables.sets).filter(|(_, word)| **word != SetWord::EMPTY);
        let shown: BTreeSet<u32> = used.chain(filled.map(|(id, _)| id)).collect();
        let word = |id: u32| value_at(&self.tables.sets, id).unwrap_or(SetWord::EMPTY);
        shown
            .into_iter()
            .map(|id| (id, word(id)))
            .map(|(id, word)| SetRow {
                id,
                base: word.base(),
                count: word.count(),
            })
            .collect()
    }

    /// `slots`, those in a set's region.
    #[must_use]
    pub fn slots(&self) -> Vec<SlotRow> {
        let mut rows = Vec::new();
        for (set, word) in indexed(&self.tables.sets) {
            for index in word.base()..word.base().saturating_add(word.count()) {
                let slot = usize::try_from(index).ok();
                // A set that points past the end shows no slots there; the agent's audit repairs it.
                let Some(&backend) = slot.and_then(|at| self.tables.slots.get(at)) else {
                    break;
                };
                rows.push(SlotRow {
                    index,
                    set,
                    backend,
                });
            }
        }
        rows.sort_by_key(|row| (row.index, row.set));
        rows
    }

    /// `backends`, those that were ever given out.
    #[must_use]
    pub fn backends(&self) -> Vec<BackendRow> {
        indexed(&self.tables.backends)
            .filter(|(_, backend)| {
                backend.word().word() != 0 || backend.address() != Address::UNSPECIFIED
            })
            .map(|(id, backend)| BackendRow {
                id,
                address: backend.address().to_ip(),
                port: backend.word().port().get(),
                state: state_name(backend.word().state()).to_owned(),
                generation: backend.word().generation(),
            })
            .collect()
    }

    /// `affinity`, by key.
    #[must_use]
    pub fn affinity(&self) -> Vec<AffinityRow> {
        let sorted: BTreeMap<_, _> = self.affinity.iter().copied().collect();
        let row = |(key, value): (AffinityKey, AffinityValue)| AffinityRow {
            client: key.client().to_string(),
            service: key.service() & !LOCAL_CHOICE,
            local: key.service() & LOCAL_CHOICE != 0,
            backend: value.backend(),
            generation: value.generation(),
            idle_seconds: self.now.saturating_sub(value.stamp()) / 1_000_000_000,
        };
        sorted.into_iter().map(row).collect()
    }

    /// `clients`, and those of `learned_clients` that are not there, by namespace.
    #[must_use]
    pub fn clients(&self) -> Vec<ClientRow> {
        let known = self.clients.iter().map(|(&netns, it)| ClientRow {
            netns,
            v4: it.address(netns, true).map(Address::to_ip),
            v6: it.address(netns, false).map(Address::to_ip),
            learned: false,
        });
        let learned = self.learned_clients.iter();
        let learned = learned.filter(|(netns, _)| !self.clients.contains_key(netns));
        let learned = learned.map(|(&netns, it)| ClientRow {
            netns,
            v4: it.address(true).map(Address::to_ip),
            v6: it.address(false).map(Address::to_ip),
            learned: true,
        });
        let mut rows: Vec<_> = known.chain(learned).collect();
        rows.sort_by_key(|row| row.netns);
        rows
    }

    /// `peers` and `sockets` together, by socket.
    #[must_use]
    pub fn sockets(&self) -> Vec<SocketRow> {
        let peers = self.peers.iter().map(peer_row);
        let others = self
            .sockets
            .iter()
            .map(|(key, value)| socket_row(*key, *value));
        let mut rows: Vec<_> = peers.chain(others).collect();
        rows.sort_by(|a, b| {
            (a.cookie, &a.kind, a.frontend, a.backend)
                .cmp(&(b.cookie, &b.kind, b.frontend, b.backend))
        });
        rows
    }

    /// `flows`, by client.
    #[must_use]
    pub fn flows(&self) -> Vec<FlowRow> {
        let seconds = self.now / 1_000_000_000;
        let mut flows = self.flows.clone();
        flows.sort_by_key(|(key, _, _)| *key);
        flows
            .iter()
            .map(|(key, value, opening)| flow_row(key, value, !opening, seconds))
            .collect()
    }

    /// `counters`, all that have a meaning.
    #[must_use]
    pub fn counters(&self) -> Vec<CounterRow> {
        let count = |counter| -> u64 {
            let same = self.counters.iter().filter(|(it, _)| *it == counter);
            same.map(|(_, count)| count).sum()
        };
        Counter::ALL
            .iter()
            .map(|counter| CounterRow {
                name: counter.name().to_owned(),
                index: counter.index(),
                count: count(*counter),
            })
            .collect()
    }
}

/// A range as people write it.
#[must_use]
pub fn range(key: SourceRangeKey) -> String {
    let before = if key.address().is_v4() { 96 } else { 0 };
    let bits = key.address_bits().saturating_sub(before);
    format!("{}/{bits}", key.address())
}

/// A dump ends after the last value that is not all zeros.
fn value_at<T: Copy>(values: &[T], id: u32) -> Option<T> {
    values.get(usize::try_from(id).ok()?).copied()
}

fn indexed<T>(array: &[T]) -> impl Iterator<Item = (u32, &T)> {
    (0..).zip(array)
}

fn protocol_name(key: FrontendKey) -> String {
    match (
        key.is_whole_address(),
        Protocol::from_number(key.protocol()),
    ) {
        (true, _) => "any".to_owned(),
        (false, Some(protocol)) => protocol.name().to_owned(),
        (false, None) => key.protocol().to_string(),
    }
}

fn socket_address((address, port): (Address, Port)) -> SocketAddr {
    (address.to_ip(), port.get()).into()
}

fn flow_row(key: &FlowKey, value: &FlowValue, confirmed: bool, now: u64) -> FlowRow {
    let entry = value.entry();
    let keeps_account = matches!(entry, Some(Entry::Request | Entry::Reply));
    let seen = [
        (Seen::ANY, "packets"),
        (Seen::FIN, "fin"),
        (Seen::RST, "rst"),
    ];
    let seen = seen
        .into_iter()
        .filter(|(bit, _)| keeps_account && value.seen().has(*bit));
    let target = value.target();
    FlowRow {
        protocol: Protocol::from_number(key.protocol()).map_or_else(
            || key.protocol().to_string(),
            |protocol| protocol.name().to_owned(),
        ),
        entry: match entry {
            Some(Entry::Request) => "request",
            Some(Entry::Leaving) => "leaving",
            Some(Entry::Returning) => "returning",
            Some(Entry::Reply) => "reply",
            None => "unknown",
        }
        .to_owned(),
        source: socket_address(key.source()),
        destination: socket_address(key.destination()),
        rewritten_to: (target.1.get() != 0).then(|| socket_address(target)),
        seen: seen.map(|(_, word)| word.to_owned()).collect(),
        idle_seconds: now.saturating_sub(u64::from(value.stamp())),
        confirmed,
    }
}

fn peer_row(peer: &Peer) -> SocketRow {
    SocketRow {
        cookie: peer.cookie(),
        kind: "peer".to_owned(),
        frontend: Some(socket_address(peer.frontend())),
        backend: Some(socket_address(peer.backend())),
        backend_id: Some(peer.id()),
        generation: Some(peer.generation()),
        closed: false,
    }
}

fn socket_row(key: SocketKey, value: SocketValue) -> SocketRow {
    let entry = value.entry();
    let own = Some(socket_address((key.address(), key.port())));
    let other = Some(socket_address(entry.other));
    let row = |kind: &str, frontend, backend| SocketRow {
        cookie: key.cookie(),
        kind: kind.to_owned(),
        frontend,
        backend,
        backend_id: None,
        generation: None,
        closed: entry.closed != 0,
    };
    let with_backend = |row| SocketRow {
        backend_id: Some(entry.id),
        generation: Some(entry.generation),
        ..row
    };
    match key.kind() {
        SocketKey::CHOSEN => with_backend(row("chosen", own, other)),
        SocketKey::REPLY => row("reply", other, own),
        SocketKey::HEAD => row("head", None, None),
        unknown => row(&format!("kind {unknown}"), own, other),
    }
}

#[cfg(test)]
mod tests;
