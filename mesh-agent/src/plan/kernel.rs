//! The derived maps as the kernel has them: a mirror that every successful write is made to as well.

use std::collections::{BTreeMap, BTreeSet};

use mesh_common::{
    Address, Backend, BackendId, BackendState, BackendWord, FrontendKey, FrontendValue, Port,
    ServiceId, ServiceWord, SetId, SetWord, SourceRangeKey,
};

use super::{TableDump, Write};

/// The arrays end with their last entry that is not zero; beyond that the kernel made them zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kernel {
    frontends: BTreeMap<FrontendKey, FrontendValue>,
    services: Vec<ServiceWord>,
    sets: Vec<SetWord>,
    slots: Vec<BackendId>,
    backends: Vec<Backend>,
    ranges: BTreeSet<SourceRangeKey>,
}

pub(super) const NO_SERVICE: ServiceWord = ServiceWord::from_word(0);
pub(super) const NO_BACKEND: Backend = Backend::new(
    Address::UNSPECIFIED,
    BackendWord::new(Port::from_be(0), BackendState::Gone, 0),
);

impl Kernel {
    pub(super) fn from_dump(dump: &TableDump) -> Self {
        Self {
            frontends: dump.frontends.iter().copied().collect(),
            services: trimmed(&dump.services, |word| word.word() == 0),
            sets: trimmed(&dump.sets, |word| word.word() == 0),
            slots: trimmed(&dump.slots, |id| *id == 0),
            backends: trimmed(&dump.backends, |backend| *backend == NO_BACKEND),
            ranges: dump.ranges.iter().copied().collect(),
        }
    }

    pub(super) fn apply(&mut self, write: &Write) {
        match *write {
            Write::PutBackend(id, backend) => set(&mut self.backends, id, backend, NO_BACKEND),
            Write::StoreBackendWord(id, word) => {
                let backend = Backend::new(self.backend(id).address(), word);
                set(&mut self.backends, id, backend, NO_BACKEND);
            }
            Write::StoreSlot(index, id) => set(&mut self.slots, index, id, 0),
            Write::StoreSet(id, word) => set(&mut self.sets, id, word, SetWord::EMPTY),
            Write::StoreService(id, word) => set(&mut self.services, id, word, NO_SERVICE),
            Write::PutFrontend(key, value) => {
                self.frontends.insert(key, value);
            }
            Write::DeleteFrontend(key) => {
                self.frontends.remove(&key);
            }
            Write::PutRange(key) => {
                self.ranges.insert(key);
            }
            Write::DeleteRange(key) => {
                self.ranges.remove(&key);
            }
        }
    }

    pub(super) fn frontends(&self) -> &BTreeMap<FrontendKey, FrontendValue> {
        &self.frontends
    }

    pub(super) fn service(&self, id: ServiceId) -> ServiceWord {
        get(&self.services, id).unwrap_or(NO_SERVICE)
    }

    pub(super) fn set(&self, id: SetId) -> SetWord {
        get(&self.sets, id).unwrap_or(SetWord::EMPTY)
    }

    pub(super) fn slot(&self, index: u32) -> BackendId {
        get(&self.slots, index).unwrap_or(0)
    }

    pub(super) fn backend(&self, id: BackendId) -> Backend {
        get(&self.backends, id).unwrap_or(NO_BACKEND)
    }

    pub(super) fn ranges(&self) -> &BTreeSet<SourceRangeKey> {
        &self.ranges
    }

    /// Those of a service port.
    pub(super) fn ranges_of(&self, service: ServiceId) -> impl Iterator<Item = SourceRangeKey> {
        let first = SourceRangeKey::new(service, Address::UNSPECIFIED, 0);
        self.ranges
            .range(first..)
            .take_while(move |key| key.service() == service)
            .copied()
    }

    pub(super) fn services(&self) -> &[ServiceWord] {
        &self.services
    }

    pub(super) fn sets(&self) -> &[SetWord] {
        &self.sets
    }

    pub(super) fn slots(&self) -> &[BackendId] {
        &self.slots
    }

    pub(super) fn backends(&self) -> &[Backend] {
        &self.backends
    }
}

fn get<T: Copy>(array: &[T], index: u32) -> Option<T> {
    array.get(index as usize).copied()
}

fn set<T: Copy + PartialEq>(array: &mut Vec<T>, index: u32, value: T, zero: T) {
    let index = index as usize;
    if array.len() <= index {
        array.resize(index + 1, zero);
    }
    if let Some(entry) = array.get_mut(index) {
        *entry = value;
    }
    while array.last() == Some(&zero) {
        array.pop();
    }
}

fn trimmed<T: Copy>(array: &[T], is_zero: impl Fn(&T) -> bool) -> Vec<T> {
    let end = array
        .iter()
        .rposition(|entry| !is_zero(entry))
        .map_or(0, |last| last + 1);
    array.iter().take(end).copied().collect()
}
