//! Which entries of `sockets` nothing will ever take away: what hangs from the head of a closed socket, and what hangs
//! from no head at all (two threads that sent through one socket at the same instant). Pure: a dump in, keys out.

use std::collections::{BTreeMap, BTreeSet};

use mesh_common::{SocketKey, SocketValue};

/// What a sweep found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Entries to delete now.
    pub dead: Vec<SocketKey>,
    /// Entries that hang from no head: dead if the next sweep finds them so again. Until then they may have been in
    /// the middle of being linked while the dump was taken.
    pub suspects: BTreeSet<SocketKey>,
}

/// Looks through a whole dump of `sockets`. `suspects` are those of the sweep before.
#[must_use]
pub fn sweep(dump: &[(SocketKey, SocketValue)], suspects: &BTreeSet<SocketKey>) -> Sweep {
    let entries: BTreeMap<SocketKey, SocketValue> = dump.iter().copied().collect();
    let mut found = Sweep::default();
    let mut linked = BTreeSet::new();
    for (key, head) in entries
        .iter()
        .filter(|(key, _)| key.kind() == SocketKey::HEAD)
    {
        let list = walk(&entries, head);
        if head.entry().closed != 0 {
            found.dead.push(*key);
            found.dead.extend(&list);
        }
        linked.extend(list);
    }
    let on_a_list = |key: &SocketKey| matches!(key.kind(), SocketKey::CHOSEN | SocketKey::REPLY);
    for key in entries
        .keys()
        .filter(|key| on_a_list(key) && !linked.contains(*key))
    {
        if suspects.contains(key) {
            found.dead.push(*key);
        } else {
            found.suspects.insert(*key);
        }
    }
    found
}

/// The entries of a list; a loop, which no program makes, ends the walk.
fn walk(entries: &BTreeMap<SocketKey, SocketValue>, head: &SocketValue) -> BTreeSet<SocketKey> {
    let mut list = BTreeSet::new();
    let mut next = head.next();
    while let Some(key) = next {
        if !list.insert(key) {
            break;
        }
        next = entries.get(&key).and_then(SocketValue::next);
    }
    list
}

#[cfg(test)]
mod tests {
    use mesh_common::{Address, Port, SocketEntry};

    use super::*;

    fn chosen(cookie: u64, host: u8) -> SocketKey {
        SocketKey::chosen(
            cookie,
            Address::from(std::net::Ipv4Addr::new(10, 96, 0, host)),
            Port::new(53),
        )
    }

    fn value(cookie: u64, next: Option<SocketKey>, closed: u8) -> SocketValue {
        let mut value = SocketValue::new(
            cookie,
            SocketEntry {
                closed,
                ..SocketEntry::EMPTY
            },
        );
        value.set_next(next);
        value
    }

    #[test]
    fn a_closed_head_takes_its_list_along() {
        let dump = [
            (SocketKey::head(1), value(1, Some(chosen(1, 1)), 1)),
            (chosen(1, 1), value(1, Some(chosen(1, 2)), 0)),
            (chosen(1, 2), value(1, None, 0)),
            (SocketKey::head(2), value(2, Some(chosen(2, 1)), 0)),
            (chosen(2, 1), value(2, None, 0)),
        ];
        let found = sweep(&dump, &BTreeSet::new());
        assert_eq!(found.dead, [SocketKey::head(1), chosen(1, 1), chosen(1, 2)]);
        assert!(found.suspects.is_empty());
    }

    #[test]
    fn an_orphan_goes_at_the_second_sweep() {
        let dump = [(chosen(1, 1), value(1, None, 0))];
        let first = sweep(&dump, &BTreeSet::new());
        assert!(first.dead.is_empty());
        let second = sweep(&dump, &first.suspects);
        assert_eq!(second.dead, [chosen(1, 1)]);
        assert!(second.suspects.is_empty());
    }

    #[test]
    fn a_loop_ends() {
        let dump = [
            (SocketKey::head(1), value(1, Some(chosen(1, 1)), 0)),
            (chosen(1, 1), value(1, Some(chosen(1, 1)), 0)),
        ];
        assert_eq!(sweep(&dump, &BTreeSet::new()), Sweep::default());
    }
}
