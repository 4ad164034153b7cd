//! What shape a map must have, and whether a pinned one has it; pure.

use mesh_common::{MAPS, MapShape, MapSpec, PEERS, SPILL_LINES, flow_lines};

use super::sys::MapInfo;
use crate::{config::Capacities, plan};

/// How many entries the maps are asked to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Service ports: `frontends` and `services`; `sets` has twice as many.
    pub services: u32,
    /// `backends`; `slots` has four times as many.
    pub backends: u32,
    /// `sockets`
    pub sockets: u32,
    /// Flows that `flows` has room for. One that needs a source counts twice.
    pub flows: u32,
    /// `affinity`
    pub affinity: u32,
    /// `source_ranges`
    pub ranges: u32,
}

/// Without --max-flows. The memory of `sockets` is taken by those that there are, that of `flows` when it is made: hence two
/// numbers.
const SOCKETS: u32 = 262_144;
const FLOWS: u32 = 65_536;

impl From<&Capacities> for Sizes {
    fn from(flags: &Capacities) -> Self {
        let Capacities {
            services,
            backends,
            flows,
            affinity,
            source_ranges: ranges,
        } = *flags;
        Self {
            services,
            backends,
            sockets: flows.unwrap_or(SOCKETS),
            flows: flows.unwrap_or(FLOWS),
            affinity,
            ranges,
        }
    }
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            services: 65_536,
            backends: 262_144,
            sockets: SOCKETS,
            flows: FLOWS,
            affinity: 65_536,
            ranges: 16_384,
        }
    }
}

impl Sizes {
    /// The same for the planner.
    #[must_use]
    pub fn capacities(&self) -> plan::Capacities {
        let entries = |name: &str| {
            MAPS.iter()
                .find(|spec| spec.name == name)
                .map_or(0, |spec| self.entries(spec))
        };
        plan::Capacities {
            frontends: entries("frontends"),
            services: entries("services"),
            sets: entries("sets"),
            slots: entries("slots"),
            backends: entries("backends"),
            ranges: entries("source_ranges"),
        }
    }

    /// Entries of a map.
    #[must_use]
    pub fn entries(&self, spec: &MapSpec) -> u32 {
        let wanted = match spec.name {
            "frontends" | "services" => self.services,
            "sets" => self.services.saturating_mul(2),
            "backends" => self.backends,
            "slots" => self.backends.saturating_mul(4),
            "sockets" => self.sockets,
            "flows" => flow_lines(self.flows).saturating_add(SPILL_LINES),
            "affinity" => self.affinity,
            "source_ranges" => self.ranges,
            _ => spec.default_entries,
        };
        // Index 0 of the arrays is none, so one entry would be no entry.
        wanted.max(spec.default_entries.min(2))
    }
}

/// What a pin is, measured against what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// It can be used as it is.
    Same,
    /// The same layout with another number of entries.
    OtherSize(u32),
    /// Another layout: it must not be read.
    Wrong,
}

/// Compares a pinned map with what is wanted.
pub(super) fn fit(spec: &MapSpec, entries: u32, info: &MapInfo) -> Fit {
    let wanted = wanted(spec, entries);
    // The kernel adds flags of its own choice to none of these types, so they must be equal.
    let layout = |info: &MapInfo| (info.kind, info.key_size, info.value_size, info.flags);
    if layout(&wanted) != layout(info) {
        return Fit::Wrong;
    }
    match info.max_entries {
        same if same == entries => Fit::Same,
        // The programs compute places in these from a constant.
        _ if spec.default_entries == PEERS && matches!(spec.name, "peers" | "peer_cookies") => {
            Fit::Wrong
        }
        other => Fit::OtherSize(other),
    }
}

/// A map of this specification as the kernel would describe it; the id is the kernel's to give.
pub(super) fn wanted(spec: &MapSpec, entries: u32) -> MapInfo {
    // BPF_MAP_TYPE_* and BPF_F_*, as linux/bpf.h numbers them: NO_PREALLOC is 1, MMAPABLE 1 << 10.
    let (kind, flags) = match spec.shape {
        MapShape::Hash => (1, 0),
        MapShape::SparseHash => (1, 1),
        MapShape::LruHash => (9, 0),
        MapShape::MappedArray => (2, 1 << 10),
        MapShape::PerCpuArray => (6, 0),
        MapShape::LpmTrie => (11, 1),
    };
    let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    MapInfo {
        kind,
        id: 0,
        key_size: size(spec.key.size),
        value_size: size(spec.value.size),
        max_entries: entries,
        flags,
    }
}

/// The specification of a map by its name in the object.
pub(super) fn spec(name: &str) -> Option<&'static MapSpec> {
    MAPS.iter().find(|spec| spec.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_fits_its_own_specification() {
        for spec in &MAPS {
            let entries = Sizes::default().entries(spec);
            assert_eq!(entries, spec.default_entries, "{}", spec.name);
            assert_eq!(fit(spec, entries, &wanted(spec, entries)), Fit::Same);
        }
    }

    #[test]
    fn another_layout_is_wrong_whatever_its_size() {
        let spec = spec("backends").unwrap();
        let mut info = wanted(spec, 10);
        assert_eq!(fit(spec, 20, &info), Fit::OtherSize(10));
        info.value_size += 8;
        assert_eq!(fit(spec, 20, &info), Fit::Wrong);
        let peers = super::spec("peers").unwrap();
        assert_eq!(fit(peers, PEERS, &wanted(peers, 8)), Fit::Wrong);
    }
}
