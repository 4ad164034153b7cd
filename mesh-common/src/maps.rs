//! Every map: its name, what it is for, its shape and the version of its layout.
//!
//! The version is part of the pin's name and is raised whenever key, value or meaning changes; `schema.lock` makes
//! forgetting that a failed build.

use crate::{
    AffinityKey, AffinityValue, Backend, COUNTERS, ClientAddresses, EARLY_INTERFACES, FlowLine,
    FragmentKey, FragmentPorts, FrontendKey, FrontendValue, Interface, LearnedClient, PEERS, Peer,
    SPILL_LINES, SocketKey, SocketValue, SourceRangeKey,
    plain::{Layout, Plain},
};

/// What becomes of a map's contents when agent or layout change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// Made from objects: filled anew before a new layout is put in force.
    Derived,
    /// Made by traffic: a new layout starts empty, and readers look into the old one second for one release.
    Flow,
    /// Counters: never go back.
    Counter,
}

/// The kernel's map type and flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapShape {
    /// BPF_MAP_TYPE_HASH, preallocated.
    Hash,
    /// BPF_MAP_TYPE_HASH with BPF_F_NO_PREALLOC: takes memory for the entries that there are.
    SparseHash,
    /// BPF_MAP_TYPE_LRU_HASH.
    LruHash,
    /// BPF_MAP_TYPE_ARRAY with BPF_F_MMAPABLE: the agent maps it into its memory.
    MappedArray,
    /// BPF_MAP_TYPE_PERCPU_ARRAY.
    PerCpuArray,
    /// BPF_MAP_TYPE_LPM_TRIE, which has to be made with BPF_F_NO_PREALLOC.
    LpmTrie,
}

/// One map.
#[derive(Clone, Copy, Debug)]
pub struct MapSpec {
    /// Its name in the eBPF object and, with the version, of its pin: `NAME_vVERSION`.
    pub name: &'static str,
    /// Version of layout and meaning.
    pub version: u32,
    /// What becomes of its contents.
    pub kind: MapKind,
    /// Type and flags.
    pub shape: MapShape,
    /// Layout of the key.
    pub key: Layout,
    /// Layout of the value.
    pub value: Layout,
    /// Entries unless the flags of `run` say otherwise.
    pub default_entries: u32,
}

/// Version of the maps that have a second layout.
const NEXT: u32 = if cfg!(feature = "layout-next") { 2 } else { 1 };

/// Every map, in the order in which the way of a connection meets them.
pub const MAPS: [MapSpec; 17] = [
    MapSpec {
        name: "frontends",
        version: 1,
        kind: MapKind::Derived,
        shape: MapShape::Hash,
        key: FrontendKey::LAYOUT,
        value: FrontendValue::LAYOUT,
        default_entries: 65_536,
    },
    MapSpec {
        name: "source_ranges",
        version: 1,
        kind: MapKind::Derived,
        shape: MapShape::LpmTrie,
        key: SourceRangeKey::LAYOUT,
        value: u32::LAYOUT,
        default_entries: 16_384,
    },
    MapSpec {
        name: "services",
        version: 1,
        kind: MapKind::Derived,
        shape: MapShape::MappedArray,
        key: u32::LAYOUT,
        value: u64::LAYOUT,
        default_entries: 65_536,
    },
    MapSpec {
        name: "sets",
        version: 1,
        kind: MapKind::Derived,
        shape: MapShape::MappedArray,
        key: u32::LAYOUT,
        value: u64::LAYOUT,
        default_entries: 131_072,
    },
    MapSpec {
        name: "slots",
        version: 1,
        kind: MapKind::Derived,
        shape: MapShape::MappedArray,
        key: u32::LAYOUT,
        value: u64::LAYOUT,
        default_entries: 1_048_576,
    },
    MapSpec {
        name: "backends",
        version: NEXT,
        kind: MapKind::Derived,
        shape: MapShape::MappedArray,
        key: u32::LAYOUT,
        value: Backend::LAYOUT,
        default_entries: 262_144,
    },
    MapSpec {
        name: "affinity",
        version: 1,
        kind: MapKind::Flow,
        shape: MapShape::LruHash,
        key: AffinityKey::LAYOUT,
        value: AffinityValue::LAYOUT,
        default_entries: 65_536,
    },
    MapSpec {
        name: "peer_cookies",
        version: 1,
        kind: MapKind::Flow,
        shape: MapShape::MappedArray,
        key: u32::LAYOUT,
        value: u64::LAYOUT,
        default_entries: PEERS,
    },
    MapSpec {
        name: "peers",
        version: 1,
        kind: MapKind::Flow,
        shape: MapShape::MappedArray,
        key: u32::LAYOUT,
        value: Peer::LAYOUT,
        default_entries: PEERS,
    },
    MapSpec {
        name: "sockets",
        version: NEXT,
        kind: MapKind::Flow,
        shape: MapShape::SparseHash,
        key: SocketKey::LAYOUT,
        value: SocketValue::LAYOUT,
        default_entries: 262_144,
    },
    MapSpec {
        name: "clients",
        version: 1,
        kind: MapKind::Flow,
        shape: MapShape::Hash,
        key: u64::LAYOUT,
        value: ClientAddresses::LAYOUT,
        default_entries: 4_096,
    },
    MapSpec {
        name: "learned_clients",
        version: 1,
        kind: MapKind::Flow,
        shape: MapShape::LruHash,
        key: u64::LAYOUT,
        value: LearnedClient::LAYOUT,
        default_entries: 1_024,
    },
    MapSpec {
        name: "interfaces",
        version: 1,
        kind: MapKind::Flow,
        shape: MapShape::MappedArray,
        key: u32::LAYOUT,
        value: Interface::LAYOUT,
        default_entries: EARLY_INTERFACES,
    },
    MapSpec {
        name: "late_interfaces",
        version: 1,
        kind: MapKind::Flow,
        shape: MapShape::Hash,
        key: u32::LAYOUT,
        value: Interface::LAYOUT,
        default_entries: 4_096,
    },
    MapSpec {
        name: "flows",
        version: 1,
        kind: MapKind::Flow,
        shape: MapShape::MappedArray,
        key: u32::LAYOUT,
        value: FlowLine::LAYOUT,
        default_entries: crate::flow_lines(65_536) + SPILL_LINES,
    },
    MapSpec {
        name: "fragments",
        version: 1,
        kind: MapKind::Flow,
        shape: MapShape::LruHash,
        key: FragmentKey::LAYOUT,
        value: FragmentPorts::LAYOUT,
        default_entries: 8_192,
    },
    MapSpec {
        name: "counters",
        version: 1,
        kind: MapKind::Counter,
        shape: MapShape::PerCpuArray,
        key: u32::LAYOUT,
        value: u64::LAYOUT,
        default_entries: COUNTERS,
    },
];

/// A flow map's version before, which readers look into second for one release: what is under way when programs are
/// switched was remembered there.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    /// Its name in the eBPF object.
    pub name: &'static str,
    /// The map of whose earlier version it is.
    pub map: &'static str,
    /// That version.
    pub version: u32,
    /// Bytes of a value there. The key is the same.
    pub value_size: usize,
}

/// None in the first release.
#[cfg(not(feature = "layout-next"))]
pub const BEFORE: Option<Before> = None;

/// The second layout's.
#[cfg(feature = "layout-next")]
pub const BEFORE: Option<Before> = Some(Before {
    name: "sockets_before",
    map: "sockets",
    version: 1,
    value_size: size_of::<crate::SocketValueV1>(),
});
