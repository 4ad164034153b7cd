//! A kernel in memory that is written by the engine's writes and looks, after each of them, at what a connection would
//! meet. It knows nothing of the agent's books.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use mesh_common::{
    Address, Backend, BackendState, BackendWord, FrontendKey, FrontendValue, ServiceWord, SetWord,
    SourceRangeKey,
};

use crate::{
    apply::{Clock, MapWriter, WriteError},
    desired::Target,
    plan::{Capacities, REST, TableDump, Time, Write},
};

/// The time of a test.
#[derive(Clone, Debug, Default)]
pub(crate) struct TestClock(pub(crate) Rc<Cell<Time>>);

impl Clock for TestClock {
    fn now(&self) -> Time {
        self.0.get()
    }
}

/// What a client asks for, and whether it is outside.
pub(crate) type Route = (FrontendKey, bool);

/// What each frontend leads to; a refused one to nothing.
pub(crate) type Routes = BTreeMap<Route, BTreeSet<Target>>;

#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) clock: TestClock,
    pub(crate) capacities: Capacities,
    pub(crate) frontends: BTreeMap<FrontendKey, FrontendValue>,
    pub(crate) services: BTreeMap<u32, ServiceWord>,
    pub(crate) sets: BTreeMap<u32, SetWord>,
    pub(crate) slots: BTreeMap<u32, u32>,
    pub(crate) backends: BTreeMap<u32, Backend>,
    pub(crate) ranges: BTreeSet<SourceRangeKey>,
    /// When an id became free.
    gone: BTreeMap<u32, Time>,
    /// Slots that a set does not show any more: which set, since when.
    left: BTreeMap<u32, (u32, Time)>,
    frontend_freed: Option<Time>,
    /// Routes before the step and after it, and what is right in between; None: not looked at.
    pub(crate) transition: Option<(Routes, Routes)>,
    between: Routes,
    given_up: BTreeSet<FrontendKey>,
    /// Writes may fail: then a route may be missing for a while, but none may be wrong.
    pub(crate) may_miss: bool,
    /// The tables were nonsense at the start: only the end is looked at.
    pub(crate) lenient: bool,
    /// Which writes fail, by their number.
    pub(crate) fails: Box<dyn Failure>,
    pub(crate) log: Vec<Write>,
    pub(crate) graces: usize,
}

/// Decides which writes fail.
pub(crate) trait Failure: std::fmt::Debug {
    fn fails(&mut self) -> bool;
}

impl Failure for () {
    fn fails(&mut self) -> bool {
        false
    }
}

impl Kernel {
    pub(crate) fn new(clock: TestClock, capacities: Capacities) -> Self {
        Self {
            clock,
            capacities,
            frontends: BTreeMap::new(),
            services: BTreeMap::new(),
            sets: BTreeMap::new(),
            slots: BTreeMap::new(),
            backends: BTreeMap::new(),
            ranges: BTreeSet::new(),
            gone: BTreeMap::new(),
            left: BTreeMap::new(),
            frontend_freed: None,
            transition: None,
            between: Routes::new(),
            given_up: BTreeSet::new(),
            may_miss: false,
            lenient: false,
            fails: Box::new(()),
            log: Vec::new(),
            graces: 0,
        }
    }

    pub(crate) fn dump(&self) -> TableDump {
        fn array<T: Copy>(map: &BTreeMap<u32, T>, capacity: u32, zero: T) -> Vec<T> {
            (0..capacity)
                .map(|index| map.get(&index).copied().unwrap_or(zero))
                .collect()
        }
        let zero = Backend::new(Address::UNSPECIFIED, BackendWord::from_word(0));
        let capacities = self.capacities;
        TableDump {
            frontends: self.frontends.iter().map(|(k, v)| (*k, *v)).collect(),
            services: array(
                &self.services,
                capacities.services,
                ServiceWord::from_word(0),
            ),
            sets: array(&self.sets, capacities.sets, SetWord::EMPTY),
            slots: array(&self.slots, capacities.slots, 0),
            backends: array(&self.backends, capacities.backends, zero),
            ranges: self.ranges.iter().copied().collect(),
        }
    }

    fn set(&self, id: u32) -> SetWord {
        self.sets.get(&id).copied().unwrap_or(SetWord::EMPTY)
    }

    pub(crate) fn members(&self, set: u32) -> Vec<u32> {
        let word = self.set(set);
        let end = u64::from(word.base()) + u64::from(word.count());
        assert!(
            end <= self.capacities.slots.into(),
            "set {set} is out of range"
        );
        (word.base()..word.base() + word.count())
            .map(|slot| self.slots.get(&slot).copied().unwrap_or(0))
            .collect()
    }

    pub(crate) fn ranges_of(&self, service: u32) -> impl Iterator<Item = &SourceRangeKey> {
        let ranges = self.ranges.iter();
        ranges.filter(move |key| key.service() == service)
    }

    /// A frontend with ranges has some: none would be open to nobody, and its flag says that there are.
    fn check_ranges(&self) {
        for (key, value) in &self.frontends {
            let is_open = !value.has_source_ranges();
            let some = self.ranges_of(value.service()).next().is_some();
            assert!(is_open || some || self.lenient, "{key:?} has no ranges");
        }
    }

    fn state(&self, id: u32) -> BackendState {
        self.backends
            .get(&id)
            .map_or(BackendState::Gone, |backend| backend.word().state())
    }

    /// Where a new connection may go, as the datapath would choose. Panics if it would find nonsense.
    pub(crate) fn route(&self, (key, outside): &Route) -> BTreeSet<Target> {
        let value = self.frontends[key];
        if key.is_whole_address() {
            assert!(value.is_refuse());
            return BTreeSet::new();
        }
        assert!(!value.is_refuse() && value.service() != 0 && value.cluster() != 0);
        self.members(value.choice(*outside).set)
            .into_iter()
            .map(|id| {
                assert_ne!(id, 0, "{key:?} shows an empty slot");
                assert_ne!(self.state(id), BackendState::Gone, "{key:?} shows {id}");
                let backend = self.backends[&id];
                assert_eq!(backend.address().is_v4(), key.address().is_v4());
                Target {
                    address: backend.address(),
                    port: backend.word().port(),
                }
            })
            .collect()
    }

    pub(crate) fn routes(&self) -> Routes {
        self.frontends
            .keys()
            .flat_map(|key| [(*key, false), (*key, true)])
            .map(|route| (route, self.route(&route)))
            .collect()
    }

    fn rested(&self, since: Time) -> bool {
        self.clock.now() >= since + REST
    }

    fn check_backend(&self, id: u32, backend: &Backend) {
        if self.lenient {
            return;
        }
        assert!((1..self.capacities.backends).contains(&id));
        assert_eq!(
            self.state(id),
            BackendState::Gone,
            "{id} is somebody's already"
        );
        if let Some(since) = self.gone.get(&id) {
            assert!(self.rested(*since), "backend {id} has not rested");
        }
        if let Some(old) = self.backends.get(&id) {
            let generations = (old.word().generation(), backend.word().generation());
            assert_eq!(generations.0.wrapping_add(1), generations.1);
        }
    }

    /// A region that another set has shown, or this one at another time, has rested.
    fn check_set(&mut self, set: u32, word: SetWord) {
        if self.lenient {
            return;
        }
        assert!((1..self.capacities.sets).contains(&set));
        let old = self.set(set);
        let range = |word: SetWord| word.base()..word.base() + word.count();
        for slot in range(word).filter(|slot| !range(old).contains(slot)) {
            if let Some((owner, since)) = self.left.get(&slot) {
                let same = *owner == set && old.base() == word.base() && old.count() > 0;
                assert!(same || self.rested(*since), "slot {slot} has not rested");
            }
        }
        for slot in range(old).filter(|slot| !range(word).contains(slot)) {
            self.left.insert(slot, (set, self.clock.now()));
        }
        for (other, word_of_other) in self.sets.iter().filter(|(other, _)| **other != set) {
            let apart = range(*word_of_other).all(|slot| !range(word).contains(&slot));
            assert!(apart, "sets {set} and {other} share slots");
        }
    }

    fn frontend_changes(&mut self, key: &FrontendKey, put: bool) {
        if put && let Some(since) = self.frontend_freed {
            assert!(self.rested(since), "{key:?} may reuse an element in use");
        }
        if self.frontends.contains_key(key) {
            self.frontend_freed = Some(self.clock.now());
        }
    }

    fn apply(&mut self, write: &Write) {
        match *write {
            Write::PutBackend(id, backend) => {
                self.check_backend(id, &backend);
                self.backends.insert(id, backend);
            }
            Write::StoreBackendWord(id, word) => {
                let old = self.backends[&id];
                assert_eq!(old.word().generation(), word.generation());
                assert_eq!(old.word().port(), word.port());
                assert_ne!(old.word().state(), BackendState::Gone);
                if word.state() == BackendState::Gone {
                    self.gone.insert(id, self.clock.now());
                }
                self.backends.insert(id, Backend::new(old.address(), word));
            }
            Write::StoreSlot(slot, id) => {
                assert!(slot < self.capacities.slots);
                assert_ne!(self.state(id), BackendState::Gone);
                self.slots.insert(slot, id);
            }
            Write::StoreSet(set, word) => {
                self.check_set(set, word);
                self.sets.insert(set, word);
            }
            Write::StoreService(service, word) => {
                assert!((1..self.capacities.services).contains(&service));
                self.services.insert(service, word);
            }
            Write::PutFrontend(key, value) => {
                self.frontend_changes(&key, true);
                self.frontends.insert(key, value);
                assert!(self.frontends.len() <= self.capacities.frontends as usize);
            }
            Write::DeleteFrontend(key) => {
                self.frontend_changes(&key, false);
                assert!(self.frontends.remove(&key).is_some());
            }
            Write::PutRange(key) => {
                assert!(self.ranges.insert(key), "{key:?} is there already");
                assert!(self.ranges.len() <= self.capacities.ranges as usize);
            }
            Write::DeleteRange(key) => assert!(self.ranges.remove(&key), "{key:?} is not there"),
        }
    }

    /// Each write until the next transition is held against what the routes are now and are to be.
    pub(crate) fn begin_transition(
        &mut self,
        after: Routes,
        between: Routes,
        given_up: BTreeSet<FrontendKey>,
    ) {
        self.transition = Some((self.routes(), after));
        self.between = between;
        self.given_up = given_up;
    }

    /// Invariant 1: at any instant a new connection is given what was right before or what is right after.
    fn check_transition(&self) {
        let Some((before, after)) = &self.transition else {
            return;
        };
        let now = self.routes();
        for (key, targets) in &now {
            let none = BTreeSet::new();
            let old = before.get(key).unwrap_or(&none);
            let new = after.get(key).unwrap_or(&none);
            let between = self.between.get(key).unwrap_or(&none);
            for target in targets {
                assert!(
                    old.contains(target) || new.contains(target) || between.contains(target),
                    "{key:?} leads to {target:?}, which is neither old nor new"
                );
            }
            let steady = !self.may_miss && !self.given_up.contains(&key.0);
            if steady && !old.is_empty() && !new.is_empty() {
                assert!(!targets.is_empty(), "{key:?} leads nowhere");
            }
        }
        let both = before.keys().filter(|key| after.contains_key(key));
        for key in both.filter(|key| !self.may_miss && !self.given_up.contains(&key.0)) {
            assert!(now.contains_key(key), "{key:?} is missing");
        }
    }
}

impl MapWriter for Kernel {
    fn write(&mut self, write: &Write) -> Result<(), WriteError> {
        if self.fails.fails() {
            return Err(WriteError::Io {
                map: write.map(),
                source: std::io::Error::other("injected"),
            });
        }
        self.apply(write);
        self.log.push(*write);
        self.check_transition();
        self.check_ranges();
        Ok(())
    }

    fn grace(&mut self) -> Result<(), WriteError> {
        self.graces += 1;
        self.frontend_freed = None;
        Ok(())
    }
}
