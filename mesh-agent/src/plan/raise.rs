//! What brings an owner into force: backends, slots, sets, service words, ranges, frontends, in this order, so that
//! nothing leads to what is not there yet. Nothing is taken away here but places in sets.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use mesh_common::{FrontendKey, FrontendValue, ServiceId, ServiceWord, SetId, SourceRangeKey};

use super::{
    Applied, Claim, PlanError, Transaction, Write, ids::Available, regions::Blocks, set::OwnSet,
};
use crate::{
    desired::{Access, Desired, DesiredPort, PortId},
    model::{ObjectId, TrafficPolicy},
};

/// The writes that bring an owner into force.
///
/// # Errors
/// If it does not fit. Then nothing of it should be written.
pub fn plan_raise(
    applied: &Applied,
    owner: &ObjectId,
    desired: &Desired,
) -> Result<Transaction, PlanError> {
    let mut raise = Raise::new(applied, owner);
    for (id, port) in &desired.ports {
        raise.port(id, port)?;
    }
    for address in &desired.addresses {
        raise.address(FrontendKey::whole_address(*address))?;
    }
    Ok(raise.transaction)
}

/// The same with what the owner has already: for one that does not fit. New connections are kept from backends that
/// it should not have any more, and what they free may make it fit.
#[must_use]
pub fn plan_known(applied: &Applied, owner: &ObjectId, desired: &Desired) -> Transaction {
    let mut raise = Raise::new(applied, owner);
    for (id, port) in &desired.ports {
        let Some(set) = applied.owners.set_of(id) else {
            continue;
        };
        raise.known_set(set, set, &port.ready);
        let record = applied.owners.records.get(&set);
        if let (Some(record), Some(ready)) = (record, &port.local)
            && record.local != 0
        {
            raise.known_set(set, record.local, ready);
        }
    }
    raise.transaction
}

/// A raise in the making: what it has planned so far, and what it may still give out.
pub(super) struct Raise<'a> {
    pub(super) applied: &'a Applied,
    owner: &'a ObjectId,
    transaction: Transaction,
    service_ids: Available<'a>,
    set_ids: Available<'a>,
    pub(super) backend_ids: Available<'a>,
    pub(super) blocks: Cow<'a, Blocks>,
    frontends: usize,
    ranges: usize,
}

impl<'a> Raise<'a> {
    fn new(applied: &'a Applied, owner: &'a ObjectId) -> Self {
        Self {
            applied,
            owner,
            transaction: Transaction::of(Some(owner)),
            service_ids: applied.services.available(),
            set_ids: applied.sets.available(),
            backend_ids: applied.backends.available(),
            blocks: Cow::Borrowed(applied.regions.free()),
            frontends: applied.kernel.frontends().len(),
            ranges: applied.kernel.ranges().len(),
        }
    }

    /// Frontends that lead to all endpoints are put before the set of this node's is changed: one that led there could
    /// find it empty for a moment. The others come after it.
    fn port(&mut self, id: &PortId, port: &DesiredPort) -> Result<(), PlanError> {
        let claim = self.claim(id, port)?;
        let (service, set) = (claim.service, claim.set);
        let mut own = OwnSet {
            port: set,
            set,
            made: BTreeMap::new(),
        };
        self.set(&mut own, &port.ready)?;
        let word = ServiceWord::new(port.affinity_seconds);
        if self.applied.kernel.service(service) != word {
            self.push(set, Write::StoreService(service, word));
        }
        self.open(set, service, port)?;
        let values = port.frontends.iter();
        let values = values.map(|(key, access)| (*key, value(&claim, port, *access)));
        let (wide, narrow): (Vec<_>, Vec<_>) = values.partition(|(_, value)| value.local() == 0);
        for (key, value) in wide {
            self.frontend(set, key, value)?;
        }
        if let Some(ready) = &port.local {
            own.set = claim.local;
            self.set(&mut own, ready)?;
        }
        for (key, value) in narrow {
            self.frontend(set, key, value)?;
        }
        Ok(())
    }

    /// The ranges that are not there yet. Where no frontend needs those that are there they are another's, left by an
    /// earlier run, and must not open this port.
    fn open(
        &mut self,
        set: SetId,
        service: ServiceId,
        port: &DesiredPort,
    ) -> Result<(), PlanError> {
        let wanted = keys(service, Some(port));
        let kernel = &self.applied.kernel;
        let record = self.applied.owners.records.get(&set);
        if record.is_none_or(|record| record.frontends.is_empty()) {
            for key in kernel
                .ranges_of(service)
                .filter(|key| !wanted.contains(key))
            {
                self.push(set, Write::DeleteRange(key));
                self.ranges -= 1;
            }
        }
        for key in wanted {
            if kernel.ranges().contains(&key) {
                continue;
            }
            self.ranges += 1;
            if self.ranges > self.applied.capacities.ranges as usize {
                return Err(self.full("source_ranges"));
            }
            self.push(set, Write::PutRange(key));
        }
        Ok(())
    }

    /// The ids of a service port: those it has, those of an earlier run that one of its frontends leads to, or new.
    fn claim(&mut self, id: &PortId, port: &DesiredPort) -> Result<Claim, PlanError> {
        let claim = |service, set, local| Claim {
            port: id.clone(),
            service,
            set,
            local,
        };
        let owners = &self.applied.owners;
        let known = owners
            .set_of(id)
            .and_then(|set| Some((set, owners.records.get(&set)?)));
        let lacks = |local: SetId| local == 0 && port.local.is_some();
        if let Some((set, record)) = known
            && !lacks(record.local)
        {
            return Ok(claim(record.service, set, record.local));
        }
        let known = known.map(|(set, record)| (record.service, set, record.local));
        let mut claim = match known.or_else(|| self.left_over(port)) {
            Some((service, set, local)) => claim(service, set, local),
            None => {
                let service = self.service_ids.next();
                let service = service.ok_or_else(|| self.full("services"))?;
                claim(service, self.new_set()?, 0)
            }
        };
        if lacks(claim.local) {
            claim.local = self.new_set()?;
        }
        self.transaction.claims.push(claim.clone());
        Ok(claim)
    }

    fn new_set(&mut self) -> Result<SetId, PlanError> {
        self.set_ids.next().ok_or_else(|| self.full("sets"))
    }

    /// Every frontend that leads there must be this port's: another's clients, or nobody's, would be led to its endpoints.
    fn left_over(&self, port: &DesiredPort) -> Option<(ServiceId, SetId, SetId)> {
        port.frontends.keys().find_map(|key| {
            let set = self.applied.kernel.frontends().get(key)?.cluster();
            let record = self.applied.owners.records.get(&set)?;
            let claimed = self.transaction.claims.iter().any(|claim| claim.set == set);
            let free = record.port.is_none() && !claimed;
            let mut all = record.frontends.iter();
            let is_own = |key| port.frontends.contains_key(key);
            let own = record.frontends.contains(key) && all.all(is_own);
            (free && own).then_some((record.service, set, record.local))
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
        if self.applied.owners.address_owner(key.address()) != Some(self.owner) {
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
        PlanError::full(self.owner, map, usage.map_or(0, |usage| usage.capacity))
    }
}

/// A frontend of a service port.
fn value(claim: &Claim, port: &DesiredPort, access: Access) -> FrontendValue {
    let policy = match access {
        Access::Cluster => port.internal,
        Access::External | Access::Ranges | Access::Host => port.external,
    };
    let local = match policy {
        TrafficPolicy::Cluster => 0,
        TrafficPolicy::Local => claim.local,
    };
    let value = FrontendValue::new(claim.service, claim.set, local);
    match access {
        Access::Cluster => value,
        Access::External => value.external(),
        Access::Ranges => value.external().with_source_ranges(),
        Access::Host => value.external().for_host(),
    }
}

/// The ranges that a service port should have.
pub(super) fn keys(service: ServiceId, port: Option<&DesiredPort>) -> BTreeSet<SourceRangeKey> {
    let ranges = port.into_iter().flat_map(|port| &port.ranges);
    ranges
        .map(|range| SourceRangeKey::new(service, range.address, range.bits))
        .collect()
}
