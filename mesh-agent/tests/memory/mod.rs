//! The agent without a kernel: manifests in, the tables that it would write out.

use std::{cell::RefCell, collections::BTreeMap, collections::BTreeSet, net::IpAddr, rc::Rc};

use anyhow::{Result, ensure};
use mesh_agent::{
    apply::{Clock, MapWriter, WriteError},
    engine::{Engine, SplitMix},
    model::{Change, Kind},
    plan::{Applied, Capacities, TableDump, Time, Write},
    source::decode::{Interner, Options, decode},
    store::{Store, StoreOptions},
};
use mesh_common::{
    Address, Backend, BackendWord, FrontendKey, FrontendValue, ServiceWord, SetWord, SourceRangeKey,
};
use serde_json::{Value, json};

const CAPACITIES: Capacities = Capacities {
    frontends: 4096,
    services: 1024,
    sets: 1024,
    slots: 16384,
    backends: 4096,
    ranges: 1024,
};

/// What was written, map by map.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables(Rc<RefCell<Maps>>);

#[derive(Debug, Default)]
struct Maps {
    frontends: BTreeMap<FrontendKey, FrontendValue>,
    services: BTreeMap<u32, ServiceWord>,
    sets: BTreeMap<u32, SetWord>,
    slots: BTreeMap<u32, u32>,
    backends: BTreeMap<u32, Backend>,
    ranges: BTreeSet<SourceRangeKey>,
}

impl MapWriter for Tables {
    fn write(&mut self, write: &Write) -> Result<(), WriteError> {
        let mut maps = self.0.borrow_mut();
        match *write {
            Write::PutBackend(id, backend) => drop(maps.backends.insert(id, backend)),
            Write::StoreBackendWord(id, word) => {
                if let Some(backend) = maps.backends.get_mut(&id) {
                    *backend = Backend::new(backend.address(), word);
                }
            }
            Write::StoreSlot(index, id) => drop(maps.slots.insert(index, id)),
            Write::StoreSet(id, word) => drop(maps.sets.insert(id, word)),
            Write::StoreService(id, word) => drop(maps.services.insert(id, word)),
            Write::PutFrontend(key, value) => drop(maps.frontends.insert(key, value)),
            Write::DeleteFrontend(key) => drop(maps.frontends.remove(&key)),
            Write::PutRange(key) => drop(maps.ranges.insert(key)),
            Write::DeleteRange(key) => drop(maps.ranges.remove(&key)),
        }
        Ok(())
    }

    fn grace(&mut self) -> Result<(), WriteError> {
        Ok(())
    }
}

/// The time of a test: it goes on when nothing is left to do before.
#[derive(Clone, Debug, Default)]
struct TestClock(Rc<RefCell<Time>>);

impl Clock for TestClock {
    fn now(&self) -> Time {
        *self.0.borrow()
    }
}

impl Tables {
    /// What an agent of a node with these addresses writes for the objects.
    pub(crate) fn of(manifests: &[Value], node: &str, addresses: BTreeSet<IpAddr>) -> Result<Self> {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": manifests});
        let bytes = serde_json::to_vec(&list)?;
        let mut interner = Interner::default();
        let decoded = decode("world.json", &bytes, &Options::default(), &mut interner);
        ensure!(
            decoded.bad.is_empty() && !decoded.unreadable,
            "{:?}",
            decoded.problems
        );
        let tables = Self::default();
        let clock = TestClock::default();
        let store = Store::new(StoreOptions {
            node: node.to_owned(),
            ..StoreOptions::default()
        });
        let applied = Applied::new(CAPACITIES);
        let writer = tables.clone();
        let mut engine = Engine::new(store, applied, writer, clock.clone(), SplitMix(1));
        engine.submit(decoded.objects.into_iter().map(Change::Put));
        engine.submit([Change::NodeAddresses(addresses)]);
        engine.submit(Kind::ALL.map(Change::Synced));
        for _ in 0..100 {
            let report = engine.step();
            ensure!(report.failures == 0, "{report:?}");
            let Some(wakeup) = report.next_wakeup else {
                return Ok(tables);
            };
            let now = clock.now().max(wakeup);
            *clock.0.borrow_mut() = now;
        }
        anyhow::bail!("no end of it")
    }

    /// As a dump of the kernel's maps would show it.
    pub(crate) fn dump(&self) -> TableDump {
        let maps = self.0.borrow();
        let nobody = Backend::new(Address::UNSPECIFIED, BackendWord::from_word(0));
        TableDump {
            frontends: maps
                .frontends
                .iter()
                .map(|(key, value)| (*key, *value))
                .collect(),
            services: array(&maps.services, ServiceWord::from_word(0)),
            sets: array(&maps.sets, SetWord::EMPTY),
            slots: array(&maps.slots, 0),
            backends: array(&maps.backends, nobody),
            ranges: maps.ranges.iter().copied().collect(),
        }
    }
}

fn array<T: Copy>(map: &BTreeMap<u32, T>, zero: T) -> Vec<T> {
    let end = map.last_key_value().map_or(0, |(last, _)| last + 1);
    (0..end)
        .map(|index| map.get(&index).copied().unwrap_or(zero))
        .collect()
}
