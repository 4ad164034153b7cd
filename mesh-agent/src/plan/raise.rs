//! What brings a Service into force: backends, slots, sets, service words, frontends, in this order, so that nothing
//! leads to what is not there yet. Nothing is taken away here but places in sets.

use std::borrow::Cow;

use mesh_common::{FrontendKey, FrontendValue, ServiceId, ServiceWord, SetId};

use super::{Applied, Claim, PlanError, Transaction, Write, ids::Available, regions::Blocks};
use crate::{
    desired::{DesiredPort, DesiredService, PortId},
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

/// A raise in the making: what it has planned so far, and what it may still give out.
pub(super) struct Raise<'a> {
    pub(super) applied: &'a Applied,
    service: &'a ObjectName,
    transaction: Transaction,
    service_ids: Available<'a>,
    set_ids: Available<'a>,
    pub(super) backend_ids: Available<'a>,
    pub(super) blocks: Cow<'a, Blocks>,
    frontends: usize,
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

    /// Every frontend that leads there must be this port's: another's clients would be led to its endpoints.
    fn left_over(&self, port: &DesiredPort) -> Option<(ServiceId, SetId)> {
        port.frontends.iter().find_map(|key| {
            let set = self.applied.kernel.frontends().get(key)?.cluster();
            let record = self.applied.owners.records.get(&set)?;
            let claimed = self.transaction.claims.iter().any(|claim| claim.set == set);
            let free = record.port.is_none() && !claimed;
            let own = record.frontends.contains(key) && record.frontends.is_subset(&port.frontends);
            (free && own).then_some((record.service, set))
        })
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

    pub(super) fn push(&mut self, set: SetId, write: Write) {
        self.transaction.push(set, write);
    }

    pub(super) fn full(&self, map: &'static str) -> PlanError {
        let usage = self.applied.usage();
        let usage = usage.iter().find(|usage| usage.map == map);
        PlanError::full(self.service, map, usage.map_or(0, |usage| usage.capacity))
    }
}
