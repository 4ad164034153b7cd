//! Which addresses are in use, by anybody: a connection to one of these is left alone.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use mesh_common::Address;

/// Addresses and how many endpoints and Pods have them.
#[derive(Clone, Debug, Default)]
pub(super) struct Alive(BTreeMap<Address, u32>);

impl Alive {
    pub(super) fn contains(&self, address: Address) -> bool {
        self.0.contains_key(&address)
    }

    pub(super) fn add(&mut self, address: Address) {
        let count = self.0.entry(address).or_default();
        *count = count.saturating_add(1);
    }

    /// One user less; the last one's address joins `died`.
    pub(super) fn remove(&mut self, address: Address, died: &mut BTreeSet<Address>) {
        let Entry::Occupied(mut entry) = self.0.entry(address) else {
            return;
        };
        let left = entry.get().saturating_sub(1);
        if left == 0 {
            entry.remove();
            died.insert(address);
        } else {
            entry.insert(left);
        }
    }
}
