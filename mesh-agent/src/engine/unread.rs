//! Endpoints that an earlier run left in force and that no object has named since: what names them may be in something that
//! the source could not read. They keep their places until it can, or until an object names them and then does not.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    desired::{Desired, PortId, Target},
    model::Kind,
    plan::Applied,
};

/// By service port: among all endpoints, and among this node's.
#[derive(Debug, Default)]
pub(super) struct Unread(BTreeMap<PortId, [BTreeSet<Target>; 2]>);

impl Unread {
    /// Adds to what an object should have what may be missing from it.
    pub(super) fn keep(&mut self, applied: &Applied, desired: &mut Desired) {
        // A Pod's host port leads to that Pod alone.
        let of_services = |(id, _): &(&PortId, _)| id.owner.kind == Kind::Service;
        for (id, port) in desired.ports.iter_mut().filter(of_services) {
            let found = |local| {
                let keys = port.frontends.keys();
                keys.flat_map(|key| applied.left_over_targets(key, local))
                    .collect()
            };
            let entry = self.0.entry(id.clone());
            let [all, local] = entry.or_insert_with(|| [found(false), found(true)]);
            let own = port.local.clone().unwrap_or_default();
            let is_named = |target: &Target| {
                let named = [&port.ready, &port.draining, &own];
                named.into_iter().any(|named| named.contains(target))
            };
            all.retain(|target| !is_named(target));
            local.retain(|target| !is_named(target));
            port.ready.extend(all.iter().copied());
            if let Some(own) = &mut port.local {
                own.extend(local.iter().copied());
            }
        }
    }

    /// Everything has been read.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
