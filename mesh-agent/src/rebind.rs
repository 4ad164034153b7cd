//! Which ids flows should hold for their backends. Tables that were made anew give out ids anew, while flows and the ids in
//! them stay. Pure: tables and a flow's request in, the id out.

use std::collections::BTreeMap;

use mesh_common::{
    Address, Backend, BackendId, BackendState, Entry, FlowKey, FlowValue, FrontendKey,
    FrontendValue, Port, SetId, held_backend,
};

use crate::plan::TableDump;

/// The tables, as far as ids are asked for.
pub struct Backends<'a> {
    tables: &'a TableDump,
    /// Those that are served, by address.
    ids: BTreeMap<(Address, Port), Vec<BackendId>>,
    /// What frontends lead to.
    frontends: BTreeMap<FrontendKey, FrontendValue>,
}

impl<'a> Backends<'a> {
    /// Of what the maps hold.
    #[must_use]
    pub fn new(tables: &'a TableDump) -> Self {
        let mut ids: BTreeMap<_, Vec<BackendId>> = BTreeMap::new();
        for (backend, id) in tables.backends.iter().zip(0..) {
            if is_served(backend) {
                ids.entry(end(backend)).or_default().push(id);
            }
        }
        Self {
            tables,
            ids,
            frontends: tables.frontends.iter().copied().collect(),
        }
    }

    /// What a flow should hold of its backend instead, if it holds a wrong id and its backend is still there.
    #[must_use]
    pub fn rebound(&self, key: &FlowKey, value: &FlowValue) -> Option<u32> {
        let id = self.rebound_id(key, value)?;
        let backend = self.tables.backends.get(usize::try_from(id).ok()?)?;
        Some(held_backend(id, backend.word().generation()))
    }

    fn rebound_id(&self, key: &FlowKey, value: &FlowValue) -> Option<BackendId> {
        let is_request = value.entry() == Some(Entry::Request);
        let held = usize::try_from(value.backend()).ok();
        let held = held.and_then(|id| self.tables.backends.get(id));
        let is_right = |held: &Backend| {
            end(held) == value.target() && value.is_of_generation(held.word().generation())
        };
        if !is_request || held.is_some_and(is_right) {
            return None;
        }
        let ids = self.ids.get(&value.target())?;
        let own = self.of_frontend(key);
        // Several service ports may have the same endpoint; its state is each one's own.
        ids.iter()
            .find(|id| own.iter().any(|slots| slots.contains(id)))
            .or(ids.first())
            .copied()
    }

    /// The backends that new flows by the same frontend are given.
    fn of_frontend(&self, request: &FlowKey) -> [&[BackendId]; 2] {
        self.frontends
            .get(&request.frontend())
            .map_or([&[], &[]], |frontend| {
                [frontend.cluster(), frontend.local()].map(|set| self.slots(set))
            })
    }

    fn slots(&self, set: SetId) -> &[BackendId] {
        let set = usize::try_from(set).ok();
        let set = set.and_then(|set| self.tables.sets.get(set));
        let slots = set.and_then(|word| {
            let first = usize::try_from(word.base()).ok()?;
            let count = usize::try_from(word.count()).ok()?;
            self.tables.slots.get(first..first + count)
        });
        slots.unwrap_or_default()
    }
}

fn end(backend: &Backend) -> (Address, Port) {
    (backend.address(), backend.word().port())
}

fn is_served(backend: &Backend) -> bool {
    backend.address() != Address::UNSPECIFIED && backend.word().state() != BackendState::Gone
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use mesh_common::{BackendWord, Direction, LAST_BACKEND, Protocol, SetWord};

    use super::*;

    fn at(host: u8, port: u16) -> (Address, Port) {
        (Ipv4Addr::new(10, 0, 0, host).into(), Port::new(port))
    }

    fn backend(host: u8, state: BackendState) -> Backend {
        let (address, port) = at(host, 8080);
        Backend::new(address, BackendWord::new(port, state, 1))
    }

    fn key(host: u8) -> FlowKey {
        FlowKey::new(
            Direction::Ingress,
            Protocol::Tcp,
            at(1, 40_000),
            at(host, 80),
        )
    }

    /// A frontend at 10.0.0.9 with backends 3 and 2, at 10.0.0.20; backend 1 is another's at the same place, backend 4
    /// at 10.0.0.21 is gone.
    fn tables() -> TableDump {
        let (address, port) = at(9, 80);
        let frontend = FrontendKey::new(address, port, Protocol::Tcp.number());
        TableDump {
            frontends: vec![(frontend, FrontendValue::new(1, 2, 2))],
            sets: vec![SetWord::new(0, 0), SetWord::new(0, 0), SetWord::new(1, 2)],
            slots: vec![0, 3, 2],
            backends: vec![
                Backend::new(Address::UNSPECIFIED, BackendWord::from_word(0)),
                backend(20, BackendState::Ready),
                backend(20, BackendState::Ready),
                backend(22, BackendState::Ready),
                backend(21, BackendState::Gone),
            ],
            ..TableDump::default()
        }
    }

    fn rebound(frontend: u8, host: u8, id: BackendId) -> Option<BackendId> {
        let key = key(frontend);
        rebound_of(&key, &FlowValue::request(at(host, 8080), (id, 1), 1000))
    }

    /// The id alone, where the generation is that of the tables.
    fn rebound_of(key: &FlowKey, value: &FlowValue) -> Option<BackendId> {
        let held = Backends::new(&tables()).rebound(key, value)?;
        assert_eq!(held >> 24, 1);
        Some(held & LAST_BACKEND)
    }

    #[test]
    fn an_id_of_another_generation_is_wrong() {
        let value = FlowValue::request(at(20, 8080), (2, 7), 1000);
        assert_eq!(rebound_of(&key(9), &value), Some(2));
    }

    #[test]
    fn a_wrong_id_becomes_that_of_the_frontends_own_backend() {
        assert_eq!(rebound(9, 20, 3), Some(2));
        assert_eq!(rebound(9, 20, 77), Some(2));
        assert_eq!(rebound(9, 22, 2), Some(3));
    }

    #[test]
    fn of_an_unknown_frontend_any_backend_at_the_place_will_do() {
        assert_eq!(rebound(8, 20, 3), Some(1));
    }

    #[test]
    fn what_is_right_or_gone_stays() {
        assert_eq!(rebound(9, 20, 1), None);
        assert_eq!(rebound(9, 21, 4), None);
        assert_eq!(rebound(9, 21, 3), None);
        assert_eq!(rebound(9, 30, 3), None);
    }

    #[test]
    fn only_requests_hold_ids() {
        let key = key(9);
        let value = FlowValue::reply(at(20, 8080), 1000);
        assert_eq!(Backends::new(&tables()).rebound(&key, &value), None);
    }
}
