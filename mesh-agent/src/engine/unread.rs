//! Endpoints that an earlier run left in force and that no object has named since: what names them may be in something that
//! the source could not read. They keep their places until it can, or until an object names them and then does not.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    desired::{Desired, PortId, Target},
    model::Kind,
    plan::Applied,
};

/// By service port.
#[derive(Debug, Default)]
pub(super) struct Unread(BTreeMap<PortId, BTreeSet<Target>>);

impl Unread {
    /// Adds to what an object should have what may be missing from it.
    pub(super) fn keep(&mut self, applied: &Applied, desired: &mut Desired) {
        // A Pod's host port leads to that Pod alone.
        let of_services = |(id, _): &(&PortId, _)| id.owner.kind == Kind::Service;
        for (id, port) in desired.ports.iter_mut().filter(of_services) {
            let found = port
                .frontends
                .keys()
                .flat_map(|key| applied.left_over_targets(key));
            let found: BTreeSet<Target> = found.collect();
            let unseen = self.0.entry(id.clone()).or_insert(found);
            unseen.retain(|target| !port.ready.contains(target) && !port.draining.contains(target));
            port.ready.extend(unseen.iter().copied());
        }
    }

    /// Everything has been read.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
