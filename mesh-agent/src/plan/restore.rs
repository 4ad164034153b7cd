//! From what the kernel held at start to mirror and books. Ids stay as they are, so that connections and affinity
//! outlive the agent. What contradicts itself is left without an owner, and planning or garbage puts it right.

use std::collections::{BTreeMap, BTreeSet};

use mesh_common::{BackendState, FrontendKey, FrontendValue, ServiceId, SetId, SetWord};

use super::{
    Applied, Capacities, TableDump, Time, ids::Ids, kernel::Kernel, owners::PortRecord,
    regions::Region,
};

impl Applied {
    /// Mirror and books of maps that an earlier run has filled. Everything unused rests first: that run may have freed
    /// it a moment ago.
    #[must_use]
    pub fn restore(dump: &TableDump, capacities: Capacities, now: Time) -> Self {
        let mut applied = Self::new(capacities);
        applied.kernel = Kernel::from_dump(dump);
        applied.frontend_was_freed(now);
        applied.restore_frontends();
        applied.restore_ranges();
        applied.restore_sets();
        applied.restore_regions(now);
        applied.restore_backends(now);
        let records = &applied.owners.records;
        let services = records.values().map(|record| record.service).collect();
        let sets = applied.sets_in_use().into_iter().collect();
        let written = applied.kernel.services().len();
        restore_ids(&mut applied.services, &services, written, now);
        let written = applied.kernel.sets().len();
        restore_ids(&mut applied.sets, &sets, written, now);
        applied
    }

    fn restore_frontends(&mut self) {
        let mut set_of: BTreeMap<ServiceId, SetId> = BTreeMap::new();
        let mut port_of: BTreeMap<SetId, SetId> = BTreeMap::new();
        for (key, value) in self.kernel.frontends().clone() {
            if key.is_whole_address() {
                self.owners.claim_address(key.address(), None);
                continue;
            }
            let (set, local) = (value.cluster(), value.local());
            let fits = self.is_sensible(&key, &value)
                && *set_of.entry(value.service()).or_insert(set) == set
                && self
                    .owners
                    .records
                    .get(&set)
                    .is_none_or(|record| record.service == value.service())
                && *port_of.entry(set).or_insert(set) == set
                && self.fits_local(&mut port_of, set, local);
            if !fits {
                self.owners.strays.insert(key);
                continue;
            }
            let record = self.owners.records.entry(set);
            let record = record.or_insert(PortRecord::left_over(value.service(), 0));
            record.local = record.local.max(local);
            record.frontends.insert(key);
        }
    }

    /// A local set is one service port's, and a port has one.
    fn fits_local(&self, port_of: &mut BTreeMap<SetId, SetId>, port: SetId, local: SetId) -> bool {
        let record = self.owners.records.get(&port);
        let own = record.map_or(0, |record| record.local);
        let fits = own == 0 || own == local;
        local == 0 || (local != port && fits && *port_of.entry(local).or_insert(port) == port)
    }

    /// Ranges belong to the service port that a frontend leads to, the others to nobody.
    fn restore_ranges(&mut self) {
        let records = self.owners.records.values();
        let known: BTreeSet<ServiceId> = records
            .map(|record| record.service)
            .filter(|service| *service != 0)
            .collect();
        let ranges = self.kernel.ranges().iter();
        let strays = ranges.filter(|key| !known.contains(&key.service()));
        self.owners.stray_ranges = strays.copied().collect();
    }

    fn is_sensible(&self, key: &FrontendKey, value: &FrontendValue) -> bool {
        *key == FrontendKey::new(key.address(), key.port(), key.protocol())
            && !value.is_refuse()
            && (1..self.capacities.services).contains(&value.service())
            && (1..self.capacities.sets).contains(&value.cluster())
            && value.local() < self.capacities.sets
    }

    /// A set to which no frontend leads, as an interrupted run may leave it, is a port that nobody will claim.
    fn restore_sets(&mut self) {
        let end = self.kernel.sets().len().min(self.capacities.sets as usize);
        let end = u32::try_from(end).unwrap_or(u32::MAX);
        let records = self.owners.records.values();
        let locals: BTreeSet<SetId> = records.map(|record| record.local).collect();
        let is_left =
            |set: &SetId| self.kernel.set(*set) != SetWord::EMPTY && !locals.contains(set);
        for set in (1..end).filter(is_left) {
            let record = self.owners.records.entry(set);
            record.or_insert(PortRecord::left_over(0, 0));
        }
    }

    /// Each service port's, with its local one.
    fn sets_in_use(&self) -> Vec<SetId> {
        let records = self.owners.records.iter();
        let sets = records.flat_map(|(set, record)| [*set, record.local]);
        sets.filter(|set| *set != 0).collect()
    }

    /// A set whose slots are out of range or another's keeps no region: it is given a new one when it is planned.
    fn restore_regions(&mut self, now: Time) {
        for set in self.sets_in_use() {
            let word = self.kernel.set(set);
            let region = Region {
                base: word.base(),
                order: Region::order_of(word.count()),
            };
            let sensible = word.count() > 0 && word.count() <= self.capacities.slots;
            if sensible && self.regions.take(region) {
                self.owners.regions.insert(set, region);
            }
        }
        self.regions.rest_below(self.kernel.slots().len(), now);
    }

    /// Backends belong to the set that shows them, the others to nobody.
    fn restore_backends(&mut self, now: Time) {
        let is_live = |id: &u32| {
            *id < self.capacities.backends
                && self.kernel.backend(*id).word().state() != BackendState::Gone
        };
        let mut owner = BTreeMap::new();
        for (set, record) in &self.owners.records {
            for id in self.members(*set).iter().chain(self.members(record.local)) {
                owner.entry(*id).or_insert(*set);
            }
        }
        let written = u32::try_from(self.kernel.backends().len()).unwrap_or(u32::MAX);
        let live: BTreeSet<u32> = (1..written).filter(is_live).collect();
        for id in &live {
            let set = owner.get(id).copied().unwrap_or(0);
            let address = self.kernel.backend(*id).address();
            self.owners.add_backend(set, *id, address);
        }
        restore_ids(&mut self.backends, &live, written as usize, now);
    }
}

fn restore_ids(ids: &mut Ids, used: &BTreeSet<u32>, written: usize, now: Time) {
    let last = used.last().copied().unwrap_or(0);
    let written = u32::try_from(written).unwrap_or(u32::MAX).saturating_sub(1);
    for id in 1..=last.max(written).min(ids.capacity()) {
        ids.take(id);
        if !used.contains(&id) {
            ids.rest(id, now);
        }
    }
}
