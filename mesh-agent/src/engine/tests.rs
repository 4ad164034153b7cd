//! The engine over a kernel in memory: scenarios, laws, counts and full maps.

mod capacity;
mod counts;
mod gone;
pub(crate) mod kernel;
mod laws;
mod reference;
mod scenarios;
mod takeover;
pub(crate) mod words;

use std::collections::BTreeSet;

use mesh_common::{BackendState, FrontendKey, SourceRangeKey};

use super::*;
use crate::{desired::PortId, model::TrafficPolicy, plan::Capacities, store::StoreOptions};
use kernel::{Kernel, TestClock};
use reference::Reference;

pub(crate) const ROOMY: Capacities = Capacities {
    frontends: 256,
    services: 256,
    sets: 256,
    slots: 4096,
    backends: 1024,
    ranges: 64,
};

/// Of a node `one`.
pub(crate) fn store() -> Store {
    Store::new(StoreOptions {
        node: "one".to_owned(),
        ..StoreOptions::default()
    })
}

/// An engine, its kernel, and what the kernel should hold.
pub(crate) struct World {
    clock: TestClock,
    engine: Engine<Kernel, TestClock, SplitMix>,
    reference: Reference,
    /// Without failures each write is held against invariant 1.
    watched: bool,
}

impl World {
    pub(crate) fn new(capacities: Capacities) -> Self {
        let clock = TestClock::default();
        let kernel = Kernel::new(clock.clone(), capacities);
        let applied = Applied::new(capacities);
        let mut world = Self {
            clock: clock.clone(),
            engine: Engine::new(store(), applied, kernel, clock, SplitMix(1)),
            reference: Reference::default(),
            watched: true,
        };
        world.sync();
        world
    }

    fn sync(&mut self) {
        self.engine.submit(Kind::ALL.map(Change::Synced));
        self.engine.submit([self.reference.addresses()]);
    }

    pub(crate) fn change(&mut self, line: &str) {
        self.submit(words::change(line));
    }

    fn submit(&mut self, change: Change) {
        self.reference.apply(&change);
        self.engine.submit([change]);
    }

    pub(crate) fn step(&mut self) -> StepReport {
        if self.watched {
            let mut after = self.reference.routes();
            let given_up = self.given_up();
            // A frontend that its port gives up leads until then where the port's others lead.
            for (key, port) in &given_up {
                for outside in [false, true] {
                    let targets = self.reference.targets_of(port);
                    after.entry((*key, outside)).or_default().extend(targets);
                }
            }
            let given_up: BTreeSet<FrontendKey> = given_up.into_keys().collect();
            let between = self.between();
            self.engine
                .writer
                .begin_transition(after, between, given_up);
        }
        let report = self.engine.step();
        self.engine.writer.transition = None;
        let dump = self.kernel().dump();
        assert_eq!(self.engine.applied.differences(&dump), []);
        report
    }

    /// Frontends that lead to a port which should not have them any more.
    fn given_up(&self) -> BTreeMap<FrontendKey, PortId> {
        let records = self.engine.applied.records();
        records
            .filter_map(|record| Some((record.port.as_ref()?, &record.frontends)))
            .flat_map(|(port, keys)| keys.iter().map(move |key| (port, *key)))
            .filter(|(port, key)| self.engine.store.winner(key) != Some(&port.owner))
            .map(|(port, key)| (key, port.clone()))
            .collect()
    }

    /// A policy and the endpoints may change in one step. They are changes of two objects, and either may count first.
    fn between(&self) -> kernel::Routes {
        let mut between = kernel::Routes::new();
        let frontends = &self.kernel().frontends;
        for ((key, outside), policy) in self.reference.policies() {
            let is_local = policy == TrafficPolicy::Local;
            let value = frontends.get(&key);
            let port = self.reference.port_of(&key);
            if let (Some(value), Some(port)) = (value, port)
                && value.choice(outside).is_local != is_local
            {
                between.insert((key, outside), self.reference.targets_of(&port));
            }
        }
        between
    }

    pub(crate) fn does(&mut self, line: &str) -> StepReport {
        self.change(line);
        self.step()
    }

    fn wait(&mut self, time: Time) {
        self.clock.0.set(self.clock.now() + time);
    }

    fn kernel(&self) -> &Kernel {
        &self.engine.writer
    }

    /// Steps until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..1000 {
            match self.step().next_wakeup {
                Some(wakeup) => self.clock.0.set(wakeup.max(self.clock.now())),
                None => return,
            }
        }
        panic!("no end of it");
    }

    /// A new agent takes over what the kernel holds, and is told every object again.
    fn restart(&mut self, order: impl FnOnce(&mut Vec<Change>)) {
        let clock = self.clock.clone();
        let kernel = std::mem::replace(
            &mut self.engine.writer,
            Kernel::new(clock.clone(), self.engine.applied.capacities()),
        );
        let applied = Applied::restore(&kernel.dump(), kernel.capacities, clock.now());
        let mut changes = self.reference.changes();
        order(&mut changes);
        self.engine = Engine::new(store(), applied, kernel, clock, SplitMix(1));
        self.engine.submit(changes);
        let untouched = self.kernel().log.len();
        assert_eq!(self.engine.step().writes, 0, "nothing before the full list");
        assert_eq!(self.kernel().log.len(), untouched);
        self.sync();
    }

    /// Kernel and reference are the same, as sets.
    fn check(&self) {
        let kernel = self.kernel();
        assert_eq!(kernel.routes(), self.reference.routes());
        for (key, seconds) in self.reference.affinities() {
            let service = kernel.frontends[&key].service();
            let word = kernel.services.get(&service);
            assert_eq!(word.map_or(0, |word| word.affinity_seconds()), seconds);
        }
        for (key, wanted) in self.reference.accesses() {
            let value = kernel.frontends[&key];
            let held = (
                value.is_external(),
                value.is_for_host(),
                value.has_source_ranges(),
            );
            assert_eq!(
                held,
                (wanted.external, wanted.host, !wanted.ranges.is_empty()),
                "{key:?}"
            );
            if held.2 {
                let ranges = kernel.ranges_of(value.service());
                let ranges: BTreeSet<_> =
                    ranges.map(|it| (it.address(), it.address_bits())).collect();
                assert_eq!(ranges, wanted.ranges, "{key:?}");
            }
        }
        let ranged = kernel.frontends.values();
        let ranged = ranged.filter(|value| value.has_source_ranges());
        let ranged: BTreeSet<u32> = ranged.map(|value| value.service()).collect();
        let open: BTreeSet<u32> = kernel
            .ranges
            .iter()
            .map(|it: &SourceRangeKey| it.service())
            .collect();
        assert_eq!(open, ranged, "ranges that no frontend needs");
        let alive = self.reference.alive();
        let shown: BTreeSet<u32> = kernel
            .frontends
            .values()
            .flat_map(|value| [value.cluster(), value.local()])
            .flat_map(|set| kernel.members(set))
            .collect();
        for (id, backend) in &kernel.backends {
            let state = backend.word().state();
            if shown.contains(id) {
                assert_eq!(state, BackendState::Ready, "backend {id}");
            } else if alive.contains(&backend.address()) {
                assert_ne!(state, BackendState::Ready, "backend {id}");
            } else {
                assert_eq!(state, BackendState::Gone, "backend {id}");
            }
        }
        self.check_sharing();
    }

    /// Each set and each service id is one port's.
    fn check_sharing(&self) {
        let owners = self.reference.owners();
        let mut ports = BTreeMap::new();
        let mut locals = BTreeMap::new();
        let mut members = BTreeSet::new();
        for (key, value) in &self.kernel().frontends {
            if key.is_whole_address() {
                continue;
            }
            let owner = (owners[key].clone(), key.address().is_v4());
            let ids = (value.service(), value.cluster());
            let port_of_local = locals.entry(value.local()).or_insert(ids);
            assert!(value.local() == 0 || *port_of_local == ids, "{key:?}");
            if *ports.entry(ids).or_insert(owner.clone()) == owner {
                continue;
            }
            panic!("{key:?} shares {ids:?} with another port");
        }
        for ids in ports.keys() {
            let own = locals
                .iter()
                .filter(|(local, of)| **local != 0 && *of == ids);
            let sets = own.map(|(local, _)| *local).chain([ids.1]);
            let own: BTreeSet<u32> = sets.flat_map(|set| self.kernel().members(set)).collect();
            for id in own {
                assert!(members.insert(id), "backend {id} is in sets of two ports");
            }
        }
    }

    /// The state of a backend by its address, if the kernel has it.
    fn states(&self, address: &str) -> Vec<BackendState> {
        let address: std::net::IpAddr = address.parse().unwrap();
        self.kernel()
            .backends
            .values()
            .filter(|backend| backend.address() == address.into())
            .map(|backend| backend.word().state())
            .collect()
    }
}

fn frontend(text: &str) -> FrontendKey {
    let (socket, protocol) = text.split_once('/').unwrap();
    let socket: std::net::SocketAddr = socket.parse().unwrap();
    let number = if protocol == "TCP" { 6 } else { 17 };
    FrontendKey::new(
        socket.ip().into(),
        mesh_common::Port::new(socket.port()),
        number,
    )
}
