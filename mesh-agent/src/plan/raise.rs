//! What brings a Service into force: backends, slots, sets, service words, frontends, in this order, so that nothing
//! leads to what is not there yet. Nothing is taken away here but places in sets.

use std::{borrow::Cow, collections::BTreeSet};

use mesh_common::{
    Backend, BackendId, BackendState, BackendWord, FrontendKey, FrontendValue, ServiceWord, SetId,
    SetWord,
};

use super::{
    Applied, Claim, PlanError, Transaction, Write,
    ids::Available,
    layout,
    regions::{Blocks, Region},
};
use crate::{
    desired::{DesiredPort, DesiredService, PortId, Target},
    model::ObjectName,
};

/// The writes that bring a Service into force.
///
/// # Errors
/// If it does not fit. Then nothing of it should be written.
pub fn plan_raise(
    applied: &Applied,
    service: &ObjectName,
    desired: &DesiredService,
) -> Result<Transaction, PlanError> {
    let mut raise = Raise::new(applied, service);
    for (id, port) in &desired.ports {
        raise.port(id, port)?;
    }
    for address in &desired.addresses {
        raise.address(FrontendKey::whole_address(*address))?;
    }
    Ok(raise.transaction)
}

/// The same with what the Service has already: for one that does not fit. New connections are kept from backends that
/// it should not have any more, and what they free may make it fit.
#[must_use]
pub fn plan_known(
    applied: &Applied,
    service: &ObjectName,
    desired: &DesiredService,
) -> Transaction {
    let mut raise = Raise::new(applied, service);
    for (id, port) in &desired.ports {
        if let Some(set) = applied.owners.set_of(id) {
            raise.known_set(set, &port.ready);
        }
    }
    raise.transaction
}

struct Raise<'a> {
    applied: &'a Applied,
    service: &'a ObjectName,
    transaction: Transaction,
    service_ids: Available<'a>,
    set_ids: Available<'a>,
    backend_ids: Available<'a>,
    blocks: Cow<'a, Blocks>,
    frontends: usize,
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

impl<'a> Raise<'a> {
    fn new(applied: &'a Applied, service: &'a ObjectName) -> Self {
        Self {
            applied,
            service,
            transaction: Transaction::of(Some(service)),
            service_ids: applied.services.available(),
            set_ids: applied.sets.available(),
            backend_ids: applied.backends.available(),
            blocks: Cow::Borrowed(applied.regions.free()),
            frontends: applied.kernel.frontends().len(),
        }
    }

    fn port(&mut self, id: &PortId, port: &DesiredPort) -> Result<(), PlanError> {
        let claim = self.claim(id, port)?;
        let (service, set) = (claim.service, claim.set);
        self.set(set, &port.ready)?;
        let word = ServiceWord::new(port.affinity_seconds);
        if self.applied.kernel.service(service) != word {
            self.push(set, Write::StoreService(service, word));
        }
        let value = FrontendValue::new(service, set, 0);
        for key in &port.frontends {
            self.frontend(set, *key, value)?;
        }
        Ok(())
    }

    /// The ids of a service port: those it has, those of an earlier run that one of its frontends leads to, or new.
    fn claim(&mut self, id: &PortId, port: &DesiredPort) -> Result<Claim, PlanError> {
        let claim = |service, set| Claim {
            port: id.clone(),
            service,
            set,
        };
        let owners = &self.applied.owners;
        let known = owners
            .set_of(id)
            .and_then(|set| Some((set, owners.records.get(&set)?)));
        if let Some((set, record)) = known {
            return Ok(claim(record.service, set));
        }
        let claim = match self.left_over(port) {
            Some((service, set)) => claim(service, set),
            None => {
                let service = self.service_ids.next();
                let service = service.ok_or_else(|| self.full("services"))?;
                let set = self.set_ids.next().ok_or_else(|| self.full("sets"))?;
                claim(service, set)
            }
        };
        self.transaction.claims.push(claim.clone());
        Ok(claim)
    }

    fn left_over(&self, port: &DesiredPort) -> Option<(u32, SetId)> {
        port.frontends.iter().find_map(|key| {
            let set = self.applied.kernel.frontends().get(key)?.cluster();
            let record = self.applied.owners.records.get(&set)?;
            let claimed = self.transaction.claims.iter().any(|claim| claim.set == set);
            let free = record.port.is_none() && record.frontends.contains(key) && !claimed;
            free.then_some((record.service, set))
        })
    }

    fn set(&mut self, set: SetId, ready: &BTreeSet<Target>) -> Result<(), PlanError> {
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
    fn known_set(&mut self, set: SetId, ready: &BTreeSet<Target>) {
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

    fn frontend(
        &mut self,
        set: SetId,
        key: FrontendKey,
        value: FrontendValue,
    ) -> Result<(), PlanError> {
        match self.applied.kernel.frontends().get(&key) {
            Some(held) if *held == value => return Ok(()),
            Some(_) => {}
            None => self.frontends += 1,
        }
        if self.frontends > self.applied.capacities.frontends as usize {
            return Err(self.full("frontends"));
        }
        self.push(set, Write::PutFrontend(key, value));
        Ok(())
    }

    fn address(&mut self, key: FrontendKey) -> Result<(), PlanError> {
        if self.applied.owners.address_owner(key.address()) != Some(self.service) {
            self.transaction.addresses.push(key.address());
        }
        self.frontend(0, key, FrontendValue::refuse())
    }

    fn push(&mut self, set: SetId, write: Write) {
        self.transaction.push(set, write);
    }

    fn full(&self, map: &'static str) -> PlanError {
        let usage = self.applied.usage();
        let usage = usage.iter().find(|usage| usage.map == map);
        PlanError::full(self.service, map, usage.map_or(0, |usage| usage.capacity))
    }
}
