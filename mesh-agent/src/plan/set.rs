//! The part of a raise that brings one set into force: new backends, slots, the set's word.

use std::collections::{BTreeMap, BTreeSet};

use mesh_common::{Backend, BackendId, BackendState, BackendWord, SetId, SetWord};

use super::{PlanError, Write, layout, raise::Raise, regions::Region};
use crate::desired::Target;

/// One of the sets of a service port.
pub(super) struct OwnSet {
    /// The set by which the port is known: it owns the backends.
    pub(super) port: SetId,
    /// The set.
    pub(super) set: SetId,
    /// Backends that this raise has made for the port so far.
    pub(super) made: BTreeMap<Target, BackendId>,
}

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
    /// Makes one of a service port's sets show the ready ones. What it makes for one is known to those after it.
    pub(super) fn set(
        &mut self,
        of: &mut OwnSet,
        ready: &BTreeSet<Target>,
    ) -> Result<(), PlanError> {
        let mut members = self.members(of, ready);
        self.make_ready(of.port, &members);
        for target in std::mem::take(&mut members.missing) {
            let made = of.made.get(&target).copied();
            let id = made.or_else(|| self.backend_ids.next());
            let id = id.ok_or_else(|| self.full("backends"))?;
            members.returning.push(id);
            if made.is_some() {
                continue;
            }
            of.made.insert(target, id);
            let generation = self.applied.kernel.backend(id).word().generation();
            let word =
                BackendWord::new(target.port, BackendState::Ready, generation.wrapping_add(1));
            self.push(
                of.port,
                Write::PutBackend(id, Backend::new(target.address, word)),
            );
        }
        self.publish(of, &members)
    }

    /// Shows in a set what its port has a backend for, as far as there is room.
    pub(super) fn known_set(&mut self, port: SetId, set: SetId, ready: &BTreeSet<Target>) {
        let of = &OwnSet {
            port,
            set,
            made: BTreeMap::new(),
        };
        let mut members = self.members(of, ready);
        let kept = members.visible.iter().flatten().count();
        let room = self
            .region(of.set)
            .map_or(0, |region| region.capacity() as usize);
        members.returning.truncate(room.saturating_sub(kept));
        self.make_ready(of.port, &members);
        if let Some(region) = self.region(of.set) {
            let stores = layout::in_place(&members.visible, &members.returning);
            self.store(of, region, &stores, kept + members.returning.len());
        }
    }

    /// Compares a set with what it is to have. Where two members lead to one target, the first stays.
    fn members(&self, of: &OwnSet, ready: &BTreeSet<Target>) -> Members {
        let mut missing = ready.clone();
        let mut wanted = |id: BackendId| {
            let target = self.applied.target(of.port, id)?;
            missing.remove(&target).then_some(id)
        };
        let members = self.applied.members(of.set);
        let visible = members.iter().map(|id| wanted(*id)).collect();
        let returning = self
            .applied
            .owners
            .backends_of(of.port)
            .filter_map(wanted)
            .collect();
        Members {
            visible,
            returning,
            missing,
        }
    }

    fn make_ready(&mut self, port: SetId, members: &Members) {
        for id in members.visible.iter().flatten().chain(&members.returning) {
            let word = self.applied.kernel.backend(*id).word();
            if word.state() != BackendState::Ready {
                let word = BackendWord::new(word.port(), BackendState::Ready, word.generation());
                self.push(port, Write::StoreBackendWord(*id, word));
            }
        }
    }

    /// Stores slots and the set's word: in place where few visible slots change, else in a new region. If there is no
    /// new region to be had, in place after all: each single store is right by itself.
    fn publish(&mut self, of: &OwnSet, members: &Members) -> Result<(), PlanError> {
        let incoming = &members.returning;
        let count = members.visible.iter().flatten().count() + incoming.len();
        if count == 0 {
            self.store_word(of, SetWord::EMPTY);
            return Ok(());
        }
        let stores = layout::in_place(&members.visible, incoming);
        let region = self
            .region(of.set)
            .filter(|own| count <= own.capacity() as usize);
        let shown = members.visible.len();
        let changes = stores.iter().filter(|(index, _)| (*index as usize) < shown);
        let few = changes.count() <= layout::MAX_VISIBLE_STORES;
        if let Some(region) = region
            && few
        {
            self.store(of, region, &stores, count);
            return Ok(());
        }
        match (self.new_region(count), region) {
            (Some(new), _) => {
                let stores = layout::anew(&members.visible, incoming);
                self.store(of, new, &stores, count);
            }
            (None, Some(region)) => self.store(of, region, &stores, count),
            (None, None) => return Err(self.full("slots")),
        }
        Ok(())
    }

    fn store(&mut self, of: &OwnSet, region: Region, stores: &[(u32, BackendId)], count: usize) {
        for (index, id) in stores {
            let slot = region.base + index;
            if self.applied.kernel.slot(slot) != *id {
                self.push(of.port, Write::StoreSlot(slot, *id));
            }
        }
        let word = match u32::try_from(count) {
            Ok(0) | Err(_) => SetWord::EMPTY,
            Ok(count) => SetWord::new(region.base, count),
        };
        self.store_word(of, word);
    }

    fn store_word(&mut self, of: &OwnSet, word: SetWord) {
        if self.applied.kernel.set(of.set) != word {
            self.push(of.port, Write::StoreSet(of.set, word));
        }
    }

    fn region(&self, set: SetId) -> Option<Region> {
        self.applied.owners.regions.get(&set).copied()
    }

    fn new_region(&mut self, count: usize) -> Option<Region> {
        let order = Region::order_for(u32::try_from(count).ok()?);
        let region = self.blocks.find(order)?;
        self.blocks.to_mut().take(region).then_some(region)
    }
}
