//! Which endpoints get new connections. In: every endpoint of a service port with what its conditions allow and where it
//! is. Out: those that each traffic policy leads to, and those that only keep what they have.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Target,
    topology::{Hint, Topology, Verdict},
};

/// What an endpoint may be used for. Where slices disagree about a target, the greater counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
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

/// What is known of an endpoint, as seen from this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What its conditions allow.
    pub usable: Use,
    /// It is on this node.
    pub local: bool,
    /// hints.forNodes
    pub node: Hint,
    /// hints.forZones
    pub zone: Hint,
}

impl Facts {
    /// Where slices disagree, what is said for the endpoint counts.
    fn merge(&mut self, other: Self) {
        self.usable = self.usable.max(other.usable);
        self.local |= other.local;
        self.node = self.node.max(other.node);
        self.zone = self.zone.max(other.zone);
    }
}

/// The endpoints of one service port.
#[derive(Debug, Default)]
pub struct Endpoints(BTreeMap<Target, Facts>);

/// What they are used for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Split {
    /// By the policy Cluster.
    pub(super) ready: BTreeSet<Target>,
    /// By the policy Local, if it was asked for.
    pub(super) local: Option<BTreeSet<Target>>,
    /// Nothing new.
    pub(super) draining: BTreeSet<Target>,
}

impl Endpoints {
    /// Whether the conditions are what was said of the target before.
    pub(super) fn add(&mut self, target: Target, facts: Facts) -> bool {
        let entry = self.0.entry(target).or_insert(facts);
        let agrees = entry.usable == facts.usable;
        entry.merge(facts);
        agrees
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = (&Target, &Facts)> {
        self.0.iter()
    }

    /// How hints narrow the ready ones.
    #[must_use]
    pub fn topology(&self, has_zone: bool) -> Verdict {
        let ready = self.0.values().filter(|it| it.usable == Use::Ready);
        Verdict::of(ready.map(|it| (it.node, it.zone)), has_zone)
    }

    /// Each policy for itself is led to the best there are, be they only terminating ones. Hints are about ready ones
    /// alone: if there are none, there is nothing to prefer.
    pub(super) fn split(self, topology: Topology, wants_local: bool) -> Split {
        let all = self.best(|_| true);
        let local = wants_local.then(|| self.best(|it| it.local));
        let near = |it: &Facts| it.usable != Use::Ready || topology.admits(it.node, it.zone);
        let mut split = Split {
            ready: self.of(|it| Some(it.usable) == all && near(it)),
            local: local.map(|best| self.of(|it| it.local && Some(it.usable) == best)),
            draining: BTreeSet::new(),
        };
        let own = split.local.iter().flatten();
        let used: BTreeSet<Target> = split.ready.iter().chain(own).copied().collect();
        let all = self.0.into_keys();
        split.draining = all.filter(|target| !used.contains(target)).collect();
        split
    }

    /// The best use that endpoints of a kind can be put to.
    fn best(&self, is_of: impl Fn(&Facts) -> bool) -> Option<Use> {
        let uses = self.0.values().filter(|it| is_of(it)).map(|it| it.usable);
        uses.max().filter(|best| *best != Use::Keep)
    }

    fn of(&self, is_wanted: impl Fn(&Facts) -> bool) -> BTreeSet<Target> {
        let wanted = self.0.iter().filter(|(_, facts)| is_wanted(facts));
        wanted.map(|(target, _)| *target).collect()
    }
}
