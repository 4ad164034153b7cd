//! Which endpoints get new connections. In: every endpoint of a service port with what its conditions allow. Out: the
//! ready set and those that only keep what they have.

use std::collections::{BTreeMap, BTreeSet};

use super::Target;

/// What an endpoint may be used for. Where slices disagree about a target, the greater counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Use {
    /// Nothing new.
    Keep,
    /// New connections if no endpoint is ready: it is terminating and still serves.
    Fallback,
    /// New connections.
    Ready,
}

impl Use {
    pub(super) fn of(ready: bool, serving: bool, terminating: bool) -> Self {
        match (ready, serving && terminating) {
            (true, _) => Self::Ready,
            (false, true) => Self::Fallback,
            (false, false) => Self::Keep,
        }
    }
}

/// The endpoints of one service port.
#[derive(Debug, Default)]
pub(super) struct Endpoints(BTreeMap<Target, Use>);

impl Endpoints {
    /// Whether all that was said of the target before is the same.
    pub(super) fn add(&mut self, target: Target, usable: Use) -> bool {
        let entry = self.0.entry(target).or_insert(usable);
        let agrees = *entry == usable;
        *entry = usable.max(*entry);
        agrees
    }

    /// (ready, draining): ready are the best there are, be they only terminating ones.
    pub(super) fn split(self) -> (BTreeSet<Target>, BTreeSet<Target>) {
        let best = self.0.values().copied().max().unwrap_or(Use::Keep);
        let mut ready = BTreeSet::new();
        let mut draining = BTreeSet::new();
        for (target, usable) in self.0 {
            if usable == best && best != Use::Keep {
                ready.insert(target);
            } else {
                draining.insert(target);
            }
        }
        (ready, draining)
    }
}
