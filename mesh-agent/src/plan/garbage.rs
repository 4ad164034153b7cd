//! What an earlier run left and nobody wants. Only to be asked once every kind has delivered its first full list and
//! every Service has been raised.

use mesh_common::{Address, FrontendKey};

use super::{Applied, Transaction, Write, lower};

/// The writes that take it away. What a Service wants is spared even if the Service could not claim it.
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
    let unclaimed = || {
        applied
            .owners
            .records
            .iter()
            .filter(|(_, record)| record.port.is_none() && !record.frontends.iter().any(wanted))
    };
    for (set, record) in unclaimed() {
        for key in &record.frontends {
            transaction.push(*set, Write::DeleteFrontend(*key));
        }
        lower::close(applied, &mut transaction, *set, record, None);
    }
    for (set, record) in unclaimed() {
        lower::empty(applied, &mut transaction, *set, *set);
        lower::empty(applied, &mut transaction, *set, record.local);
    }
    for (set, _) in unclaimed() {
        if !lower::retire(applied, &mut transaction, *set, None, &|it| {
            alive(it.address)
        }) {
            transaction.released.push(*set);
        }
    }
    lower::retire(applied, &mut transaction, 0, None, &|it| alive(it.address));
    transaction
}
