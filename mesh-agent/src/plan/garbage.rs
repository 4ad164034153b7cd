//! What an earlier run left and nobody wants. Only to be asked once every kind has delivered its first full list.

use mesh_common::{Address, FrontendKey, SetId};

use super::{Applied, PortRecord, Transaction, Write, lower};

/// The writes that take away frontends which nobody wants from beside others that somebody does, as at an address that the node
/// has lost. Before any Service is raised: who takes over what is left fills the sets, and those would lead there too.
#[must_use]
pub fn plan_lost(applied: &Applied, wanted: &dyn Fn(&FrontendKey) -> bool) -> Transaction {
    let mut transaction = Transaction::of(None);
    for (set, record) in unclaimed(applied) {
        if !record.frontends.iter().any(wanted) {
            continue;
        }
        for key in record.frontends.iter().filter(|key| !wanted(key)) {
            transaction.push(set, Write::DeleteFrontend(*key));
        }
    }
    transaction
}

fn unclaimed(applied: &Applied) -> impl Iterator<Item = (SetId, &PortRecord)> {
    let records = applied.owners.records.iter();
    records
        .filter(|(_, record)| record.port.is_none())
        .map(|(set, record)| (*set, record))
}

/// The writes that take it away, after every Service has been raised. What a Service wants is spared even if the Service could
/// not claim it.
#[must_use]
pub fn plan_garbage(
    applied: &Applied,
    wanted: &dyn Fn(&FrontendKey) -> bool,
    alive: &dyn Fn(Address) -> bool,
) -> Transaction {
    let mut transaction = Transaction::of(None);
    for address in applied.owners.unclaimed_addresses() {
        if !wanted(&FrontendKey::whole_address(address)) {
            lower::drop_address(applied, &mut transaction, address);
        }
    }
    for key in &applied.owners.strays {
        if !wanted(key) {
            transaction.push(0, Write::DeleteFrontend(*key));
        }
    }
    for key in &applied.owners.stray_ranges {
        transaction.push(0, Write::DeleteRange(*key));
    }
    let unwanted = || unclaimed(applied).filter(|(_, record)| !record.frontends.iter().any(wanted));
    for (set, record) in unwanted() {
        for key in &record.frontends {
            transaction.push(set, Write::DeleteFrontend(*key));
        }
        lower::close(applied, &mut transaction, set, record, None);
    }
    for (set, record) in unwanted() {
        lower::empty(applied, &mut transaction, set, set);
        lower::empty(applied, &mut transaction, set, record.local);
    }
    for (set, _) in unwanted() {
        if !lower::retire(applied, &mut transaction, set, None, &|it| {
            alive(it.address)
        }) {
            transaction.released.push(set);
        }
    }
    lower::retire(applied, &mut transaction, 0, None, &|it| alive(it.address));
    transaction
}
