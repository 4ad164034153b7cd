//! The types that the kernel and the agent share: map keys, map values and reasons.
//!
//! Layouts exist once, here, and are proved free of padding when they are compiled. Conversions aside there is no
//! logic. Multi-byte fields are in the host's byte order unless a name or a comment says network order.
#![no_std]

mod address;
mod affinity;
mod backend;
mod client;
mod conntrack;
mod fingerprint;
mod flow_line;
mod fragment;
mod interface;
mod learned;
mod maps;
mod peer;
mod plain;
mod reason;
mod service;
mod socket;
mod source_range;

pub use address::{Address, Port};
pub use affinity::{AffinityKey, AffinityValue, LOCAL_CHOICE};
pub use backend::{Backend, BackendId, BackendState, BackendWord};
pub use client::Client;
pub use conntrack::{
    Direction, Entry, FlowKey, FlowValue, LAST_BACKEND, Seen, held_backend, is_closed, spread,
    timeout,
};
pub use fingerprint::fingerprint;
pub use flow_line::{
    FLOW_WAYS, FlowCell, FlowHead, FlowLine, FlowState, FlowTag, SPILL_LINES, TAGS_IN_ROW,
    claimed_tag, flow_block, flow_lines, host_number, is_claimed, is_short, put_flow,
};
pub use fragment::{FragmentKey, FragmentPorts};
pub use interface::{ClientAddresses, EARLY_INTERFACES, Interface};
pub use learned::LearnedClient;
pub use maps::{BEFORE, Before, MAPS, MapKind, MapShape, MapSpec};
pub use peer::{PEER_WAYS, PEERS, Peer, peer_place};
pub use plain::{Layout, Plain, bytes_of, from_bytes};
pub use reason::{COUNTERS, Counter, Reason};
pub use service::{
    Choice, FrontendKey, FrontendValue, Protocol, SCOPE_ANY, ServiceId, ServiceWord, SetId, SetWord,
};
pub use socket::{SocketEntry, SocketKey, SocketValue};
pub use source_range::SourceRangeKey;
#[cfg(feature = "layout-next")]
pub use {backend::BackendV1, socket::SocketValueV1};
