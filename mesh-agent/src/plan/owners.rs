//! The agent's books: whose the entries of the kernel's maps are. The kernel does not know service ports by name.

use std::collections::{BTreeMap, BTreeSet};

use mesh_common::{Address, BackendId, FrontendKey, ServiceId, SetId, SourceRangeKey};

use super::{Claim, regions::Region};
use crate::{
    desired::{Family, PortId},
    model::{ObjectId, Protocol},
};

/// What a service port owns besides its set, by which it is known here.
#[derive(Clone, Debug)]
pub struct PortRecord {
    /// Whose it is; None until an object claims what an earlier run left.
    pub port: Option<PortId>,
    /// Its id in `services`; 0 for a set that an earlier run left without a frontend.
    pub service: ServiceId,
    /// Its set of this node's endpoints; 0 while no policy is Local. The backends belong to the port as a whole.
    pub local: SetId,
    /// The frontends that lead to its set.
    pub frontends: BTreeSet<FrontendKey>,
}

impl PortRecord {
    /// Of a set that an earlier run left.
    pub(super) const fn left_over(service: ServiceId, local: SetId) -> Self {
        Self {
            port: None,
            service,
            local,
            frontends: BTreeSet::new(),
        }
    }
}

/// The books.
#[derive(Clone, Debug, Default)]
pub(super) struct Owners {
    ports: BTreeMap<PortId, SetId>,
    pub(super) records: BTreeMap<SetId, PortRecord>,
    /// The slots of each set; none while it is empty, or when the kernel's word makes no sense.
    pub(super) regions: BTreeMap<SetId, Region>,
    /// Backends that are not gone by owner; 0 for those left over from an earlier run.
    backends: BTreeSet<(SetId, BackendId)>,
    by_id: BTreeMap<BackendId, SetId>,
    by_address: BTreeSet<(Address, BackendId)>,
    /// Frontends for whole addresses; None until a Service claims what an earlier run left.
    addresses: BTreeMap<Address, Option<ObjectId>>,
    addresses_of: BTreeSet<(ObjectId, Address)>,
    /// Frontends of an earlier run that lead nowhere sensible.
    pub(super) strays: BTreeSet<FrontendKey>,
    /// Ranges of an earlier run for service ports that no frontend leads to.
    pub(super) stray_ranges: BTreeSet<SourceRangeKey>,
}

impl Owners {
    pub(super) fn set_of(&self, port: &PortId) -> Option<SetId> {
        self.ports.get(port).copied()
    }

    /// The service ports of an owner.
    pub(super) fn ports_of(
        &self,
        owner: &ObjectId,
    ) -> impl Iterator<Item = (&PortId, SetId, &PortRecord)> {
        let first = PortId {
            owner: owner.clone(),
            family: Family::V4,
            protocol: Protocol::Tcp,
            port: 0,
        };
        self.ports
            .range(first..)
            .take_while(move |(port, _)| port.owner == *owner)
            .filter_map(|(port, set)| Some((port, *set, self.records.get(set)?)))
    }

    pub(super) fn claim(&mut self, claim: &Claim) {
        self.ports.insert(claim.port.clone(), claim.set);
        let record = self.records.entry(claim.set);
        let record = record.or_insert(PortRecord::left_over(claim.service, claim.local));
        record.local = claim.local;
        record.port = Some(claim.port.clone());
    }

    pub(super) fn release(&mut self, set: SetId) -> Option<PortRecord> {
        let record = self.records.remove(&set)?;
        if let Some(port) = &record.port {
            self.ports.remove(port);
        }
        Some(record)
    }

    pub(super) fn backends_of(&self, set: SetId) -> impl Iterator<Item = BackendId> {
        self.backends
            .range((set, 0)..=(set, BackendId::MAX))
            .map(|(_, id)| *id)
    }

    pub(super) fn owner_of(&self, backend: BackendId) -> Option<SetId> {
        self.by_id.get(&backend).copied()
    }

    /// Who has backends at an address.
    pub(super) fn owners_at(&self, address: Address) -> impl Iterator<Item = SetId> {
        self.by_address
            .range((address, 0)..=(address, BackendId::MAX))
            .filter_map(|(_, id)| self.owner_of(*id))
    }

    pub(super) fn add_backend(&mut self, set: SetId, id: BackendId, address: Address) {
        self.backends.insert((set, id));
        self.by_id.insert(id, set);
        self.by_address.insert((address, id));
    }

    pub(super) fn remove_backend(&mut self, id: BackendId, address: Address) {
        if let Some(set) = self.by_id.remove(&id) {
            self.backends.remove(&(set, id));
        }
        self.by_address.remove(&(address, id));
    }

    pub(super) fn address_owner(&self, address: Address) -> Option<&ObjectId> {
        self.addresses.get(&address)?.as_ref()
    }

    pub(super) fn addresses_of(&self, owner: &ObjectId) -> impl Iterator<Item = Address> {
        let first = (owner.clone(), Address::UNSPECIFIED);
        self.addresses_of
            .range(first..)
            .take_while(move |(own, _)| own == owner)
            .map(|(_, address)| *address)
    }

    /// Whether frontends of an earlier run, or what they lead to, are nobody's yet.
    pub(super) fn has_leftovers(&self) -> bool {
        self.records.len() > self.ports.len()
            || self.addresses.len() > self.addresses_of.len()
            || !self.strays.is_empty()
            || !self.stray_ranges.is_empty()
    }

    /// Whole addresses of an earlier run that no Service has claimed.
    pub(super) fn unclaimed_addresses(&self) -> impl Iterator<Item = Address> {
        self.addresses
            .iter()
            .filter(|(_, owner)| owner.is_none())
            .map(|(address, _)| *address)
    }

    /// The whole address is a Service's, or for None found in the kernel.
    pub(super) fn claim_address(&mut self, address: Address, owner: Option<&ObjectId>) {
        let old = self.addresses.insert(address, owner.cloned());
        if let Some(old) = old.flatten() {
            self.addresses_of.remove(&(old, address));
        }
        if let Some(owner) = owner {
            self.addresses_of.insert((owner.clone(), address));
        }
    }

    /// The whole address is not this Service's any more; it may be another's already.
    pub(super) fn drop_address(&mut self, address: Address, owner: Option<&ObjectId>) {
        if self.addresses.get(&address).map(Option::as_ref) == Some(owner) {
            self.addresses.remove(&address);
        }
        if let Some(owner) = owner {
            self.addresses_of.remove(&(owner.clone(), address));
        }
    }
}
