//! What takes an owner out of force, as far as it is not wanted any more, in the reverse order of its raising: whole
//! addresses, frontends, ranges, sets, backends. Backends whose address lives on keep the connections they have.

use std::collections::BTreeSet;

use mesh_common::{
    Address, BackendId, BackendState, BackendWord, FrontendKey, Protocol, SetId, SetWord,
};

use super::{Applied, PortRecord, Transaction, Write, raise::keys};
use crate::{
    desired::{Desired, DesiredPort, PortId, Target},
    model::ObjectId,
};

/// What `plan_lower` asks about.
pub struct Surroundings<'a> {
    /// Whether an EndpointSlice or an unfinished Pod has the address.
    pub alive: &'a dyn Fn(Address) -> bool,
    /// Whether another owner is to have the frontend. It replaces it when it is raised; until then it stays.
    pub claimed: &'a dyn Fn(&FrontendKey) -> bool,
}

/// The writes that take away what an owner has and should not have. Its raise must have succeeded. A port that goes
/// takes its backends along: without a frontend nothing asks for them any more.
#[must_use]
pub fn plan_lower(
    applied: &Applied,
    owner: &ObjectId,
    desired: &Desired,
    around: &Surroundings<'_>,
) -> Transaction {
    let mut transaction = Transaction::of(Some(owner));
    for address in applied.owners.addresses_of(owner) {
        if desired.addresses.contains(&address) {
            continue;
        }
        if (around.claimed)(&FrontendKey::whole_address(address)) {
            transaction.waits = true;
        } else {
            drop_address(applied, &mut transaction, address);
        }
    }
    let mut waiting = BTreeSet::new();
    for (id, set, record) in applied.owners.ports_of(owner) {
        let wanted = desired.ports.get(id).map(|port| &port.frontends);
        for key in &record.frontends {
            if wanted.is_some_and(|wanted| wanted.contains_key(key)) {
                continue;
            }
            if (around.claimed)(key) {
                waiting.insert(set);
            } else {
                transaction.push(set, Write::DeleteFrontend(*key));
            }
        }
        if !waiting.contains(&set) {
            close(
                applied,
                &mut transaction,
                set,
                record,
                desired.ports.get(id),
            );
        }
    }
    transaction.waits |= !waiting.is_empty();
    let unwanted =
        |id: &PortId, set: &SetId| !desired.ports.contains_key(id) && !waiting.contains(set);
    for (id, set, record) in applied.owners.ports_of(owner) {
        if unwanted(id, &set) {
            empty(applied, &mut transaction, set, set);
            empty(applied, &mut transaction, set, record.local);
        } else if record.local != 0 && !waiting.contains(&set) && !wants_local(desired, id) {
            empty(applied, &mut transaction, set, record.local);
            transaction.narrowed.push(set);
        }
    }
    for (id, set, _) in applied.owners.ports_of(owner) {
        if unwanted(id, &set) {
            retire(applied, &mut transaction, set, None, &|_| false);
            transaction.released.push(set);
        } else if let Some(port) = desired.ports.get(id) {
            let keeps = |it: Target| {
                (around.alive)(it.address) && !(id.protocol == Protocol::Udp && moved(port, it))
            };
            retire(applied, &mut transaction, set, Some(port), &keeps);
        }
    }
    transaction
}

/// A whole address is nobody's any more.
pub(super) fn drop_address(applied: &Applied, transaction: &mut Transaction, address: Address) {
    let key = FrontendKey::whole_address(address);
    if applied.kernel.frontends().contains_key(&key) {
        transaction.push(0, Write::DeleteFrontend(key));
    }
    transaction.dropped.push(address);
}

/// The ranges of a service port that are not wanted any more. What needed them is gone, or is for all by now.
pub(super) fn close(
    applied: &Applied,
    transaction: &mut Transaction,
    set: SetId,
    record: &PortRecord,
    port: Option<&DesiredPort>,
) {
    // Those of no service port are found at start, and go with the garbage.
    if record.service == 0 {
        return;
    }
    let wanted = keys(record.service, port);
    for key in applied.kernel.ranges_of(record.service) {
        if !wanted.contains(&key) {
            transaction.push(set, Write::DeleteRange(key));
        }
    }
}

fn wants_local(desired: &Desired, id: &PortId) -> bool {
    let port = desired.ports.get(id);
    port.is_some_and(|port| port.local.is_some())
}

/// A set of a service port shows nothing any more; 0 never did.
pub(super) fn empty(applied: &Applied, transaction: &mut Transaction, port: SetId, set: SetId) {
    if set != 0 && applied.kernel.set(set) != SetWord::EMPTY {
        transaction.push(port, Write::StoreSet(set, SetWord::EMPTY));
    }
}

/// What new connections are given of a service port's.
fn shown(applied: &Applied, set: SetId, port: &DesiredPort) -> BTreeSet<BackendId> {
    let record = applied.owners.records.get(&set);
    let local = record.filter(|_| port.local.is_some());
    let local = local.map_or(&[][..], |record| applied.members(record.local));
    let all = applied.members(set);
    all.iter().chain(local).copied().collect()
}

/// Whether a service port's endpoint has the address, and is at another port by now. Who sends datagrams is told nothing
/// by the port of before if nobody listens there any more, so as in kube-proxy they go to the new one. A TCP connection
/// is the Pod's to end.
fn moved(port: &DesiredPort, target: Target) -> bool {
    let own = port.local.iter().flatten();
    let all = || port.ready.iter().chain(own.clone()).chain(&port.draining);
    let same = all().any(|it| *it == target);
    !same && all().any(|it| it.address == target.address)
}

/// The backends of a set that are not shown, or for a port that is not wanted any: draining while they keep their
/// connections, else gone. Says whether the port keeps any.
pub(super) fn retire(
    applied: &Applied,
    transaction: &mut Transaction,
    set: SetId,
    port: Option<&DesiredPort>,
    keeps: &dyn Fn(Target) -> bool,
) -> bool {
    let shown: BTreeSet<BackendId> = match port {
        Some(port) => shown(applied, set, port),
        None => BTreeSet::new(),
    };
    let mut left = false;
    for id in applied.owners.backends_of(set) {
        if shown.contains(&id) {
            left = true;
            continue;
        }
        let backend = applied.kernel.backend(id);
        let word = backend.word();
        let target = Target {
            address: backend.address(),
            port: word.port(),
        };
        let state = if keeps(target) {
            left = true;
            BackendState::Draining
        } else {
            BackendState::Gone
        };
        if word.state() != state {
            let word = BackendWord::new(word.port(), state, word.generation());
            transaction.push(set, Write::StoreBackendWord(id, word));
        }
    }
    left
}
