//! What the books say, for whoever asks: retries, metrics and the commands.

use std::collections::BTreeSet;

use mesh_common::{
    Address, Backend, BackendId, FrontendKey, FrontendValue, ServiceId, SetId, SourceRangeKey,
};

use super::{Applied, Capacities, Usage, ids::Ids, owners::PortRecord};
use crate::{
    desired::{PortId, Target},
    model::ObjectId,
};

/// A backend of a service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendRecord {
    /// Its id.
    pub id: BackendId,
    /// Address, port, state and generation.
    pub backend: Backend,
    /// Its slot if it is in the set.
    pub slot: Option<u32>,
    /// Its slot if it is in the set of this node's endpoints.
    pub local_slot: Option<u32>,
}

/// Who has backends at an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// Services and Pods.
    pub owners: BTreeSet<ObjectId>,
    /// Whether some are nobody's.
    pub orphans: bool,
}

impl Applied {
    /// Who has backends at an address.
    #[must_use]
    pub fn holders(&self, address: Address) -> Holders {
        let mut holders = Holders::default();
        for set in self.owners.owners_at(address) {
            let record = self.owners.records.get(&set);
            match record.and_then(|record| record.port.as_ref()) {
                Some(port) => {
                    holders.owners.insert(port.owner.clone());
                }
                None => holders.orphans = true,
            }
        }
        holders
    }

    /// Where connections to a frontend that an earlier run left are led; nothing once a Service has claimed it.
    /// Among all endpoints, or with `local` among this node's.
    #[must_use]
    pub fn left_over_targets(&self, key: &FrontendKey, local: bool) -> Vec<Target> {
        if !self.is_left_over(key) {
            return Vec::new();
        }
        let value = self.kernel.frontends().get(key);
        let set = value.map(|value| {
            if local {
                value.local()
            } else {
                value.cluster()
            }
        });
        let members = set.map_or(&[][..], |set| self.members(set));
        let target = |id: &BackendId| {
            let backend = self.kernel.backend(*id);
            Target {
                address: backend.address(),
                port: backend.word().port(),
            }
        };
        members.iter().map(target).collect()
    }

    /// Service ports that an earlier run left and no Service has claimed yet.
    #[must_use]
    pub fn left_over(&self) -> usize {
        let records = self.owners.records.values();
        records.filter(|record| record.port.is_none()).count()
    }

    /// Whether an earlier run left a frontend that no Service has claimed yet.
    #[must_use]
    pub fn is_left_over(&self, key: &FrontendKey) -> bool {
        self.kernel.frontends().get(key).is_some_and(|value| {
            let record = self.owners.records.get(&value.cluster());
            record.is_some_and(|record| record.port.is_none())
        })
    }

    /// The service ports of an owner, those included that only wait for their last backend to go.
    pub fn ports_of(
        &self,
        owner: &ObjectId,
    ) -> impl Iterator<Item = (&PortId, SetId, &PortRecord)> {
        self.owners.ports_of(owner)
    }

    /// Every service port, those included that no Service has claimed.
    pub fn records(&self) -> impl Iterator<Item = &PortRecord> {
        self.owners.records.values()
    }

    /// The backends of a service port, by id.
    #[must_use]
    pub fn backends_of(&self, set: SetId) -> Vec<BackendRecord> {
        let slot = |set, id| {
            let index = self.members(set).iter().position(|member| *member == id)?;
            Some(self.kernel.set(set).base() + u32::try_from(index).ok()?)
        };
        let local = self.owners.records.get(&set).map(|record| record.local);
        let local = local.filter(|set| *set != 0);
        self.owners
            .backends_of(set)
            .map(|id| BackendRecord {
                id,
                backend: self.kernel.backend(id),
                slot: slot(set, id),
                local_slot: local.and_then(|set| slot(set, id)),
            })
            .collect()
    }

    /// Whether a Service goes by who its clients are: by their addresses it keeps them apart, or lets them in.
    #[must_use]
    pub fn asks_for_clients(&self) -> bool {
        let has_affinity =
            |record: &PortRecord| self.kernel.service(record.service).affinity_seconds() != 0;
        !self.kernel.ranges().is_empty() || self.records().any(has_affinity)
    }

    /// Whether there is anything of an earlier run that nobody has claimed.
    #[must_use]
    pub fn has_leftovers(&self) -> bool {
        self.owners.has_leftovers()
    }

    /// The sizes of the maps.
    #[must_use]
    pub fn capacities(&self) -> Capacities {
        self.capacities
    }

    /// Session affinity of a service port as it is in force; 0 for none.
    #[must_use]
    pub fn affinity_seconds(&self, service: ServiceId) -> u32 {
        self.kernel.service(service).affinity_seconds()
    }

    /// A frontend as it is in force.
    #[must_use]
    pub fn frontend(&self, key: &FrontendKey) -> Option<FrontendValue> {
        self.kernel.frontends().get(key).copied()
    }

    /// Whom the frontends with ranges of a service port are open to.
    pub fn ranges_of(&self, service: ServiceId) -> impl Iterator<Item = SourceRangeKey> {
        self.kernel.ranges_of(service)
    }

    /// How full each map is.
    #[must_use]
    pub fn usage(&self) -> [Usage; 6] {
        let ids = |map, ids: &Ids| Usage {
            map,
            entries: ids.used(),
            capacity: ids.capacity(),
        };
        [
            Usage {
                map: "frontends",
                entries: self.kernel.frontends().len(),
                capacity: self.capacities.frontends,
            },
            Usage {
                map: "source_ranges",
                entries: self.kernel.ranges().len(),
                capacity: self.capacities.ranges,
            },
            ids("services", &self.services),
            ids("sets", &self.sets),
            Usage {
                map: "slots",
                entries: self.regions.used(),
                capacity: self.regions.capacity(),
            },
            ids("backends", &self.backends),
        ]
    }
}
