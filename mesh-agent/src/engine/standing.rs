//! What of the desired state is not for the kernel: health checks to answer, and policies that leave a Service without
//! endpoints. Kept up to date as Services are planned, so that asking is cheap however many there are.

use std::collections::BTreeMap;

use crate::{
    desired::{Access, Desired, DesiredPort, Family, HealthCheck},
    model::{Kind, ObjectId, ObjectName, TrafficPolicy},
};

/// Service ports that have endpoints, but by a policy Local none on this node. By family, v4 first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WithoutLocal {
    /// By the internal policy.
    pub internal: [usize; 2],
    /// By the external policy.
    pub external: [usize; 2],
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Standing {
    health: BTreeMap<ObjectName, HealthCheck>,
    revision: u64,
    without: BTreeMap<ObjectId, WithoutLocal>,
    total: WithoutLocal,
}

impl Standing {
    /// An owner was planned.
    pub(super) fn planned(&mut self, owner: &ObjectId, desired: &Desired) {
        if owner.kind == Kind::Service && self.health.get(&owner.name) != desired.health.as_ref() {
            match &desired.health {
                Some(check) => self.health.insert(owner.name.clone(), check.clone()),
                None => self.health.remove(&owner.name),
            };
            self.revision += 1;
        }
        let new = without_local(desired);
        let old = if new == WithoutLocal::default() {
            self.without.remove(owner)
        } else {
            self.without.insert(owner.clone(), new)
        };
        self.total = self.total.changed(old.unwrap_or_default(), new);
    }

    pub(super) const fn health(&self) -> &BTreeMap<ObjectName, HealthCheck> {
        &self.health
    }

    pub(super) const fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) const fn total(&self) -> WithoutLocal {
        self.total
    }
}

impl WithoutLocal {
    fn changed(self, old: Self, new: Self) -> Self {
        let change = |total: [usize; 2], old: [usize; 2], new: [usize; 2]| {
            let one = |at: usize| (total[at] + new[at]).saturating_sub(old[at]);
            [one(0), one(1)]
        };
        Self {
            internal: change(self.internal, old.internal, new.internal),
            external: change(self.external, old.external, new.external),
        }
    }
}

fn without_local(desired: &Desired) -> WithoutLocal {
    let mut counts = WithoutLocal::default();
    for (id, port) in &desired.ports {
        let family = usize::from(id.family == Family::V6);
        counts.internal[family] += usize::from(lacks(port, port.internal, true));
        counts.external[family] += usize::from(lacks(port, port.external, false));
    }
    counts
}

fn lacks(port: &DesiredPort, policy: TrafficPolicy, is_internal: bool) -> bool {
    let mut accesses = port.frontends.values();
    let is_empty = port.local.as_ref().is_some_and(|local| local.is_empty());
    policy == TrafficPolicy::Local
        && is_empty
        && !port.ready.is_empty()
        && accesses.any(|access| (*access == Access::Cluster) == is_internal)
}
