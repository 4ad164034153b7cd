//! What the agent's container may take: the kernel counts the maps as its memory, so the numbers come from their sizes.

use mesh_common::{MAPS, MapShape, MapSpec};

const MIB: u64 = 1 << 20;
/// The most that the agent's own memory may grow to: the floor of 10,000 Services with 10 endpoints each.
const RESIDENT: u64 = 150 * MIB;
/// What it takes with the few hundred Services of an ordinary cluster.
const USUAL: u64 = 50 * MIB;
/// The kernel's own part of an element of a hash, and of its bucket.
const ELEMENT: u64 = 64;
/// Requests and limits are multiples of this.
const STEP: u64 = 32 * MIB;

/// Of every map, in bytes, when it is full.
fn full() -> u64 {
    MAPS.iter().map(map).sum()
}

/// Of the maps that take their memory when they are made.
fn empty() -> u64 {
    let made_full =
        |spec: &&MapSpec| !matches!(spec.shape, MapShape::SparseHash | MapShape::LpmTrie);
    MAPS.iter().filter(made_full).map(map).sum()
}

fn map(spec: &MapSpec) -> u64 {
    let size = |size: usize| size.next_multiple_of(8) as u64;
    let (key, value) = (size(spec.key.size), size(spec.value.size));
    let element = match spec.shape {
        MapShape::Hash | MapShape::SparseHash | MapShape::LruHash | MapShape::LpmTrie => {
            key + value + ELEMENT
        }
        MapShape::MappedArray => value,
        // A large machine's.
        MapShape::PerCpuArray => value * 256,
    };
    u64::from(spec.default_entries) * element
}

/// What is asked for, in MiB: all maps that exist from the start, and the agent in an ordinary cluster.
pub(super) fn request() -> u64 {
    (empty() + USUAL).next_multiple_of(STEP) / MIB
}

/// What may be taken, in MiB: the maps twice, since an upgrade may fill new ones beside those in force.
pub(super) fn limit() -> u64 {
    (2 * full() + RESIDENT).next_multiple_of(STEP) / MIB
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_within_their_floor() {
        assert!(empty() <= 64 * MIB, "{} MiB", empty() / MIB);
        let flows = |spec: &&MapSpec| spec.name == "flows";
        let flows: u64 = MAPS.iter().filter(flows).map(map).sum();
        assert!(
            full() - flows <= 128 * MIB,
            "{} MiB",
            (full() - flows) / MIB
        );
        assert!(empty() < full());
    }
}
