//! The map `foreign` of each load: flows that are kube-proxy's, and when each was last seen.

use std::{collections::BTreeMap, os::fd::AsFd, path::Path};

use mesh_common::{FlowKey, bytes_of, from_bytes};

use super::{
    hooks::LAST_SENDER,
    links,
    maps::Maps,
    pins::Pins,
    probe,
    sys::{self, RawMap},
};
use crate::{apply::WriteError, netlink};

/// Its name.
pub(super) const FOREIGN: &str = "foreign";

/// Entries where there may be such flows. Memory is taken for those that there are.
const ROOM: u32 = 65_536;

/// Entries that it is made with: 1, which says that it is not looked into, where neither kube-proxy's rules nor flows that
/// the kernel's conntrack translates are found.
pub(super) fn room() -> u32 {
    let mut has_flows = false;
    let read = netlink::translated(|_| has_flows = true);
    if has_flows || read.is_err() || probe::has_kube_proxy() {
        return ROOM;
    }
    1
}

/// What the programs in force leave to kube-proxy, and when each was seen last, in seconds of the clock. It has no pin: only
/// CAP_SYS_ADMIN finds it, by the program that uses it; without that it is empty, as where nothing is left.
#[must_use]
pub fn left(bpffs: &Path) -> BTreeMap<FlowKey, u32> {
    let program = links::program_in_force(&Pins::at(bpffs), &LAST_SENDER);
    let maps = program.map_or_else(Vec::new, |program| program.maps);
    let mut left = BTreeMap::new();
    for map in maps.into_iter().filter_map(open) {
        let read = map.for_each(&mut |key, value| {
            if let (Some(key), Some(seen)) = (from_bytes(key), from_bytes(value)) {
                left.insert(key, seen);
            }
        });
        if read.is_err() {
            left.clear();
        }
    }
    left
}

fn open(id: u32) -> Option<RawMap> {
    let map = sys::map_by_id(id).ok()?;
    let is_ours = sys::map_name(map.as_fd()).is_ok_and(|name| name == FOREIGN);
    is_ours.then(|| RawMap::open(map).ok())?
}

impl Maps {
    /// Whether the programs look into it.
    #[must_use]
    pub fn has_foreign(&self) -> bool {
        self.capacity(FOREIGN) > 1
    }

    /// Leaves a flow that was seen last at this second.
    ///
    /// # Errors
    /// If the kernel refuses, as when the map is full.
    pub fn put_foreign(&mut self, key: &FlowKey, seen: u32) -> Result<(), WriteError> {
        self.put(FOREIGN, bytes_of(key), bytes_of(&seen))
    }

    /// Takes a flow over.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn delete_foreign(&mut self, key: &FlowKey) -> Result<(), WriteError> {
        self.delete(FOREIGN, bytes_of(key))
    }

    /// When it was seen last.
    #[must_use]
    pub fn foreign(&self, key: &FlowKey) -> Option<u32> {
        let value = self.raw(FOREIGN).and_then(|map| map.lookup(bytes_of(key)));
        let value = value.ok()??;
        Some(u32::from_ne_bytes(value.try_into().ok()?))
    }
}
