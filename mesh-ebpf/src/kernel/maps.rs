//! The maps. Names, types and flags are those of `mesh_common::MAPS`; the agent checks them when it loads the object
//! and gives each its size.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray},
};
use mesh_common::{
    AffinityKey, AffinityValue, Backend, COUNTERS, ClientAddresses, EARLY_INTERFACES, FlowKey,
    FlowLine, FragmentKey, FragmentPorts, FrontendKey, FrontendValue, Interface, LearnedClient,
    PEERS, Peer, SocketKey, SocketValue,
};
use mesh_ebpf::PacketState;

/// BPF_F_MMAPABLE: the agent stores words into the array without a system call.
const MMAPABLE: u32 = 1 << 10;

/// BPF_F_NO_PREALLOC: takes memory for the entries that there are. Few nodes have many unconnected sockets that talk to
/// Services, and room for all of them would be half of all maps' memory.
const NO_PREALLOC: u32 = 1;

/// The agent sets the sizes when it loads the object; these let the object be loaded by itself.
const SMALL: u32 = 1024;

#[map(name = "frontends")]
pub(crate) static FRONTENDS: HashMap<FrontendKey, FrontendValue> =
    HashMap::with_max_entries(SMALL, 0);
/// Service id and address, as `SourceRangeKey` has them behind the bits that count.
#[map(name = "source_ranges")]
pub(crate) static SOURCE_RANGES: LpmTrie<[u32; 5], u32> = LpmTrie::with_max_entries(SMALL, 0);
#[map(name = "services")]
pub(crate) static SERVICES: Array<u64> = Array::with_max_entries(SMALL, MMAPABLE);
#[map(name = "sets")]
pub(crate) static SETS: Array<u64> = Array::with_max_entries(SMALL, MMAPABLE);
#[map(name = "slots")]
pub(crate) static SLOTS: Array<u64> = Array::with_max_entries(SMALL, MMAPABLE);
#[map(name = "backends")]
pub(crate) static BACKENDS: Array<Backend> = Array::with_max_entries(SMALL, MMAPABLE);
#[map(name = "affinity")]
pub(crate) static AFFINITY: LruHashMap<AffinityKey, AffinityValue> =
    LruHashMap::with_max_entries(SMALL, 0);
#[map(name = "peer_cookies")]
pub(crate) static PEER_COOKIES: Array<u64> = Array::with_max_entries(PEERS, MMAPABLE);
#[map(name = "peers")]
pub(crate) static PEER_PLACES: Array<Peer> = Array::with_max_entries(PEERS, MMAPABLE);
#[map(name = "sockets")]
pub(crate) static SOCKETS: HashMap<SocketKey, SocketValue> =
    HashMap::with_max_entries(SMALL, NO_PREALLOC);
#[map(name = "clients")]
pub(crate) static CLIENTS: HashMap<u64, ClientAddresses> = HashMap::with_max_entries(SMALL, 0);
#[map(name = "learned_clients")]
pub(crate) static LEARNED_CLIENTS: LruHashMap<u64, LearnedClient> =
    LruHashMap::with_max_entries(SMALL, 0);
#[map(name = "interfaces")]
pub(crate) static INTERFACES: Array<Interface> =
    Array::with_max_entries(EARLY_INTERFACES, MMAPABLE);
#[map(name = "late_interfaces")]
pub(crate) static LATE_INTERFACES: HashMap<u32, Interface> = HashMap::with_max_entries(SMALL, 0);
#[map(name = "flows")]
pub(crate) static FLOWS: Array<FlowLine> = Array::with_max_entries(SMALL, MMAPABLE);
#[map(name = "fragments")]
pub(crate) static FRAGMENTS: LruHashMap<FragmentKey, FragmentPorts> =
    LruHashMap::with_max_entries(SMALL, 0);
#[map(name = "counters")]
pub(crate) static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// `sockets` in its version before.
#[cfg(feature = "layout-next")]
#[map(name = "sockets_before")]
pub(crate) static SOCKETS_BEFORE: HashMap<SocketKey, mesh_common::SocketValueV1> =
    HashMap::with_max_entries(SMALL, NO_PREALLOC);

/// Programs by the number of their stage; those of egress hooks `EGRESS` further on.
#[map(name = "stages")]
pub(crate) static STAGES: ProgramArray = ProgramArray::with_max_entries(2 * EGRESS, 0);

/// Where in `stages` the programs of egress hooks begin.
pub(crate) const EGRESS: u32 = 16;

/// What a packet's programs know, one for each class of hooks: an egress hook may run while a packet that came in is on
/// its way through the stack of the same processor, but no two of one class do.
#[map(name = "scratch_ingress")]
pub(crate) static SCRATCH_INGRESS: PerCpuArray<PacketState> = PerCpuArray::with_max_entries(1, 0);
/// Until when the ICMP errors that a processor made are paid for. A map of each load's own: nothing is lost with it.
#[map(name = "icmp_paid")]
pub(crate) static ICMP_PAID: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
/// Flows of another load balancer, and when each was last seen, in seconds. A map of each load's own, filled when the agent
/// starts: the kernel's conntrack knows them, and a next start asks it again.
#[map(name = "foreign")]
pub(crate) static FOREIGN: HashMap<FlowKey, u32> = HashMap::with_max_entries(1, NO_PREALLOC);
#[map(name = "scratch_egress")]
pub(crate) static SCRATCH_EGRESS: PerCpuArray<PacketState> = PerCpuArray::with_max_entries(1, 0);
