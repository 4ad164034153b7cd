//! The eBPF object, as the build script made it.

/// The object's bytes, aligned as the parser wants them.
pub(super) static BYTES: &[u8] = aya::include_bytes_aligned!(env!("MESH_AGENT_EBPF_OBJECT"));
