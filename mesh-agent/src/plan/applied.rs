//! What the kernel holds and whose it is, without asking it: the mirror changes by `record` alone, after a write has
//! succeeded; the books by claims before and releases after.

use mesh_common::{BackendId, BackendState, FrontendKey, SetId};

use super::{
    Capacities, REST, Step, Time, Transaction, Write,
    ids::Ids,
    kernel::Kernel,
    owners::Owners,
    regions::{Region, Regions},
};
use crate::desired::Target;

/// See the module.
#[derive(Clone, Debug)]
pub struct Applied {
    pub(super) capacities: Capacities,
    pub(super) kernel: Kernel,
    pub(super) owners: Owners,
    pub(super) services: Ids,
    pub(super) sets: Ids,
    pub(super) backends: Ids,
    pub(super) regions: Regions,
    /// When an element of the hash `frontends` was last freed; None once a grace period has passed.
    frontend_freed: Option<Time>,
    /// Counts whatever becomes free for others.
    freed: u64,
}

impl Applied {
    /// Of empty maps.
    #[must_use]
    pub fn new(capacities: Capacities) -> Self {
        Self {
            capacities,
            kernel: Kernel::default(),
            owners: Owners::default(),
            services: Ids::new(capacities.services),
            sets: Ids::new(capacities.sets),
            backends: Ids::new(capacities.backends),
            regions: Regions::new(capacities.slots),
            frontend_freed: None,
            freed: 0,
        }
    }

    /// Makes what a transaction works with its owner's. Before the first write.
    pub fn begin(&mut self, transaction: &Transaction) {
        for claim in &transaction.claims {
            self.services.take(claim.service);
            for set in [claim.set, claim.local] {
                self.sets.take(set);
            }
            let strays = &mut self.owners.stray_ranges;
            strays.retain(|key| key.service() != claim.service);
            self.owners.claim(claim);
        }
        for address in &transaction.addresses {
            self.owners
                .claim_address(*address, transaction.owner.as_ref());
        }
    }

    /// The write has succeeded.
    pub fn record(&mut self, step: &Step, now: Time) {
        match step.write {
            Write::PutBackend(id, backend) => {
                self.backends.take(id);
                self.owners.add_backend(step.set, id, backend.address());
            }
            Write::StoreBackendWord(id, word) if word.state() == BackendState::Gone => {
                let address = self.kernel.backend(id).address();
                self.owners.remove_backend(id, address);
                self.backends.rest(id, now);
            }
            Write::StoreSet(set, word) => self.move_region(set, word.base(), word.count(), now),
            Write::PutFrontend(key, value) => {
                if self.kernel.frontends().contains_key(&key) {
                    self.forget_frontend(&key, now);
                }
                if let Some(record) = self.owners.records.get_mut(&value.cluster()) {
                    record.frontends.insert(key);
                }
            }
            Write::DeleteFrontend(key) => {
                self.forget_frontend(&key, now);
                self.freed += 1;
            }
            Write::DeleteRange(key) => {
                self.owners.stray_ranges.remove(&key);
                self.freed += 1;
            }
            Write::StoreBackendWord(..)
            | Write::StoreSlot(..)
            | Write::StoreService(..)
            | Write::PutRange(..) => {}
        }
        self.kernel.apply(&step.write);
    }

    /// Gives up what a transaction released. After the last write.
    pub fn finish(&mut self, transaction: &Transaction, now: Time) {
        for address in &transaction.dropped {
            self.owners
                .drop_address(*address, transaction.owner.as_ref());
        }
        for set in &transaction.narrowed {
            if let Some(record) = self.owners.records.get_mut(set) {
                let local = std::mem::take(&mut record.local);
                self.release_set(local, now);
            }
        }
        for set in &transaction.released {
            if let Some(record) = self.owners.release(*set) {
                self.release_set(*set, now);
                self.release_set(record.local, now);
                if record.service != 0 {
                    self.services.rest(record.service, now);
                }
            }
        }
    }

    fn release_set(&mut self, set: SetId, now: Time) {
        if set == 0 {
            return;
        }
        self.sets.rest(set, now);
        if let Some(region) = self.owners.regions.remove(&set) {
            self.regions.rest(region, now);
        }
    }

    /// Ends the rests that are over.
    pub fn settle(&mut self, now: Time) {
        let settled = [
            self.services.settle(now),
            self.sets.settle(now),
            self.backends.settle(now),
            self.regions.settle(now),
        ];
        self.freed += u64::from(settled.contains(&true));
    }

    /// Grows whenever something has become free, so that what did not fit may fit now.
    #[must_use]
    pub fn freed(&self) -> u64 {
        self.freed
    }

    /// When the next rest is over.
    #[must_use]
    pub fn next_rest(&self) -> Option<Time> {
        let rests = [
            self.services.next_rest(),
            self.sets.next_rest(),
            self.backends.next_rest(),
            self.regions.next_rest(),
        ];
        rests.into_iter().flatten().min()
    }

    /// Whether the next insert into `frontends` might be given an element that a program still reads: then a grace
    /// period has to pass first.
    #[must_use]
    pub fn needs_grace(&self, now: Time) -> bool {
        self.frontend_freed
            .is_some_and(|freed| now < freed.saturating_add(REST))
    }

    /// An element of `frontends` was freed.
    pub(super) fn frontend_was_freed(&mut self, now: Time) {
        self.frontend_freed = Some(now);
    }

    /// A grace period has passed since the last record.
    pub fn grace_passed(&mut self) {
        self.frontend_freed = None;
    }

    /// The backends that a set shows, in the order of its slots.
    pub(super) fn members(&self, set: SetId) -> &[BackendId] {
        let Some(region) = self.owners.regions.get(&set) else {
            return &[];
        };
        let base = region.base as usize;
        let end = base + self.kernel.set(set).count() as usize;
        let slots = self.kernel.slots();
        slots.get(base..end.min(slots.len())).unwrap_or(&[])
    }

    /// Where a backend of a service port leads; None if it is not this port's, or gone.
    pub(super) fn target(&self, set: SetId, id: BackendId) -> Option<Target> {
        if self.owners.owner_of(id) != Some(set) {
            return None;
        }
        let backend = self.kernel.backend(id);
        Some(Target {
            address: backend.address(),
            port: backend.word().port(),
        })
    }

    /// The books follow a set's word: its old region rests if it has another now.
    fn move_region(&mut self, set: SetId, base: u32, count: u32, now: Time) {
        let regions = &mut self.owners.regions;
        if count > 0 && regions.get(&set).is_some_and(|own| own.base == base) {
            return;
        }
        if let Some(old) = regions.remove(&set) {
            self.regions.rest(old, now);
        }
        if count > 0 {
            let region = Region {
                base,
                order: Region::order_for(count),
            };
            self.regions.take(region);
            regions.insert(set, region);
        }
    }

    fn forget_frontend(&mut self, key: &FrontendKey, now: Time) {
        self.frontend_was_freed(now);
        self.owners.strays.remove(key);
        let old = self.kernel.frontends().get(key);
        if let Some(record) = old.and_then(|old| self.owners.records.get_mut(&old.cluster())) {
            record.frontends.remove(key);
        }
    }
}
