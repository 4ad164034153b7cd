//! The part of a raise that brings one set into force: new backends, slots, the set's word.

use std::collections::BTreeSet;

use mesh_common::{Backend, BackendId, BackendState, BackendWord, SetId, SetWord};

use super::{PlanError, Write, layout, raise::Raise, regions::Region};
use crate::desired::Target;

/// A set now and the backends it is to have.
struct Members {
    /// As the slots show them; None for what should go.
    visible: Vec<Option<BackendId>>,
    /// Backends that the port has and the set is to show again.
    returning: Vec<BackendId>,
    /// Targets without a backend.
    missing: BTreeSet<Target>,
}

impl Raise<'_> {
    /// Makes a set show the ready ones.
    pub(super) fn set(&mut self, set: SetId, ready: &BTreeSet<Target>) -> Result<(), PlanError> {
        let mut members = self.members(set, ready);
        self.make_ready(set, &members);
        for target in std::mem::take(&mut members.missing) {
            let id = self.backend_ids.next();
            let id = id.ok_or_else(|| self.full("backends"))?;
            let generation = self.applied.kernel.backend(id).word().generation();
            let word =
                BackendWord::new(target.port, BackendState::Ready, generation.wrapping_add(1));
            self.push(
                set,
                Write::PutBackend(id, Backend::new(target.address, word)),
            );
            members.returning.push(id);
        }
        self.publish(set, &members)
    }

    /// Shows in a set what its port has a backend for, as far as there is room.
    pub(super) fn known_set(&mut self, set: SetId, ready: &BTreeSet<Target>) {
        let mut members = self.members(set, ready);
        let kept = members.visible.iter().flatten().count();
        let room = self
            .region(set)
            .map_or(0, |region| region.capacity() as usize);
        members.returning.truncate(room.saturating_sub(kept));
        self.make_ready(set, &members);
        if let Some(region) = self.region(set) {
            let stores = layout::in_place(&members.visible, &members.returning);
            self.store(set, region, &stores, kept + members.returning.len());
        }
    }

    /// Compares a set with what it is to have. Where two members lead to one target, the first stays.
    fn members(&self, set: SetId, ready: &BTreeSet<Target>) -> Members {
        let mut missing = ready.clone();
        let mut wanted = |id: BackendId| {
            let target = self.applied.target(set, id)?;
            missing.remove(&target).then_some(id)
        };
        let members = self.applied.members(set);
        let visible = members.iter().map(|id| wanted(*id)).collect();
        let returning = self
            .applied
            .owners
            .backends_of(set)
            .filter_map(wanted)
            .collect();
        Members {
            visible,
            returning,
            missing,
        }
    }

    fn make_ready(&mut self, set: SetId, members: &Members) {
        for id in members.visible.iter().flatten().chain(&members.returning) {
            let word = self.applied.kernel.backend(*id).word();
            if word.state() != BackendState::Ready {
                let word = BackendWord::new(word.port(), BackendState::Ready, word.generation());
                self.push(set, Write::StoreBackendWord(*id, word));
            }
        }
    }

    /// Stores slots and the set's word: in place where few visible slots change, else in a new region. If there is no
    /// new region to be had, in place after all: each single store is right by itself.
    fn publish(&mut self, set: SetId, members: &Members) -> Result<(), PlanError> {
        let incoming = &members.returning;
        let count = members.visible.iter().flatten().count() + incoming.len();
        if count == 0 {
            self.store_word(set, SetWord::EMPTY);
            return Ok(());
        }
        let stores = layout::in_place(&members.visible, incoming);
        let region = self
            .region(set)
            .filter(|own| count <= own.capacity() as usize);
        let shown = members.visible.len();
        let changes = stores.iter().filter(|(index, _)| (*index as usize) < shown);
        let few = changes.count() <= layout::MAX_VISIBLE_STORES;
        if let Some(region) = region
            && few
        {
            self.store(set, region, &stores, count);
            return Ok(());
        }
        match (self.new_region(count), region) {
            (Some(new), _) => {
                let stores = layout::anew(&members.visible, incoming);
                self.store(set, new, &stores, count);
            }
            (None, Some(region)) => self.store(set, region, &stores, count),
            (None, None) => return Err(self.full("slots")),
        }
        Ok(())
    }

    fn store(&mut self, set: SetId, region: Region, stores: &[(u32, BackendId)], count: usize) {
        for (index, id) in stores {
            let slot = region.base + index;
            if self.applied.kernel.slot(slot) != *id {
                self.push(set, Write::StoreSlot(slot, *id));
            }
        }
        let word = match u32::try_from(count) {
            Ok(0) | Err(_) => SetWord::EMPTY,
            Ok(count) => SetWord::new(region.base, count),
        };
        self.store_word(set, word);
    }

    fn store_word(&mut self, set: SetId, word: SetWord) {
        if self.applied.kernel.set(set) != word {
            self.push(set, Write::StoreSet(set, word));
        }
    }

    fn region(&self, set: SetId) -> Option<Region> {
        self.applied.owners.records.get(&set)?.region
    }

    fn new_region(&mut self, count: usize) -> Option<Region> {
        let order = Region::order_for(u32::try_from(count).ok()?);
        let region = self.blocks.find(order)?;
        self.blocks.to_mut().take(region).then_some(region)
    }
}
