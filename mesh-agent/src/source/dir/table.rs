//! What the files of a directory say together: files in, changes of objects out. Time is handed in, and nothing here
//! touches a file.
//!
//! An object in two files is that of the first path in byte order. A removal counts after a pause without
//! reappearance, since editors and ConfigMaps rename files.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::super::{Problem, decode::Decoded};
use crate::model::{Change, Object, ObjectId};

/// How long an object may be missing.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct File {
    objects: BTreeMap<ObjectId, Arc<Object>>,
    problems: Vec<Problem>,
}

/// The files and what came of them.
#[derive(Debug, Default)]
pub(super) struct FileTable {
    files: BTreeMap<String, File>,
    /// The files that have an object, in byte order; the first one counts.
    holders: BTreeMap<ObjectId, BTreeSet<String>>,
    /// What was told last.
    told: BTreeMap<ObjectId, Arc<Object>>,
    /// Objects no file has any more, and when that counts.
    missing: BTreeMap<ObjectId, Instant>,
}

impl FileTable {
    /// A file was read.
    pub(super) fn put(&mut self, name: &str, decoded: Decoded, now: Instant) -> Vec<Change> {
        let old = self.files.remove(name).unwrap_or_default();
        let mut file = File {
            problems: decoded.problems,
            objects: BTreeMap::new(),
        };
        if decoded.unreadable {
            file.objects = old.objects.clone();
        } else {
            let kept = old
                .objects
                .iter()
                .filter(|(id, _)| decoded.bad.contains(*id));
            file.objects = kept
                .map(|(id, object)| (id.clone(), Arc::clone(object)))
                .collect();
            file.objects.extend(
                decoded
                    .objects
                    .into_iter()
                    .map(|object| (object.id(), Arc::new(object))),
            );
        }
        self.replace(name, &old, Some(file), now)
    }

    /// A file is gone.
    pub(super) fn remove(&mut self, name: &str, now: Instant) -> Vec<Change> {
        match self.files.remove(name) {
            Some(old) => self.replace(name, &old, None, now),
            None => Vec::new(),
        }
    }

    /// Removals that count by now.
    pub(super) fn settle(&mut self, now: Instant) -> Vec<Change> {
        let due: Vec<ObjectId> = self
            .missing
            .iter()
            .filter(|(_, deadline)| **deadline <= now)
            .map(|(id, _)| id.clone())
            .collect();
        due.into_iter()
            .map(|id| {
                self.missing.remove(&id);
                self.told.remove(&id);
                Change::Remove(id)
            })
            .collect()
    }

    /// When `settle` has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.missing.values().min().copied()
    }

    /// Every problem there is, those between files included.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = self
            .files
            .values()
            .flat_map(|file| file.problems.clone())
            .collect();
        for (id, holders) in self.holders.iter().filter(|(_, holders)| holders.len() > 1) {
            let mut holders = holders.iter();
            let Some(first) = holders.next() else {
                continue;
            };
            problems.extend(holders.map(|loser| Problem {
                object: Some(id.to_string()),
                ..Problem::of_file(
                    loser,
                    format!("{first} has the object too, and counts"),
                    "remove one of them",
                )
            }));
        }
        problems.sort();
        problems
    }

    /// The whole step from one content of a file to the next.
    fn replace(&mut self, name: &str, old: &File, new: Option<File>, now: Instant) -> Vec<Change> {
        let empty = BTreeMap::new();
        let objects = new.as_ref().map_or(&empty, |file| &file.objects);
        let touched: BTreeSet<ObjectId> =
            old.objects.keys().chain(objects.keys()).cloned().collect();
        for id in &touched {
            if objects.contains_key(id) {
                self.holders
                    .entry(id.clone())
                    .or_default()
                    .insert(name.to_owned());
            } else if let Some(holders) = self.holders.get_mut(id) {
                holders.remove(name);
            }
        }
        if let Some(file) = new {
            self.files.insert(name.to_owned(), file);
        }
        touched
            .into_iter()
            .filter_map(|id| self.tell(id, now))
            .collect()
    }

    fn tell(&mut self, id: ObjectId, now: Instant) -> Option<Change> {
        let holder = self.holders.get(&id).and_then(BTreeSet::first);
        let Some(object) = holder.and_then(|holder| self.files.get(holder)?.objects.get(&id))
        else {
            self.holders.remove(&id);
            if self.told.contains_key(&id) {
                self.missing.entry(id).or_insert(now + PAUSE);
            }
            return None;
        };
        self.missing.remove(&id);
        if self.told.get(&id).is_some_and(|told| told == object) {
            return None;
        }
        let change = Change::Put(Object::clone(object));
        self.told.insert(id, Arc::clone(object));
        Some(change)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Node, ObjectName};

    fn node(name: &str, address: u8) -> Object {
        let addresses = vec![std::net::Ipv4Addr::new(10, 0, 0, address).into()];
        Object::Node(Node {
            name: ObjectName::new("", name),
            addresses,
            zone: None,
        })
    }

    fn good(objects: &[Object]) -> Decoded {
        Decoded {
            objects: objects.to_vec(),
            ..Decoded::default()
        }
    }

    fn unreadable() -> Decoded {
        Decoded {
            unreadable: true,
            problems: vec![Problem::of_file("f", "bad", "mend")],
            ..Decoded::default()
        }
    }

    #[test]
    fn the_first_path_counts_and_the_other_is_named() {
        let (mut table, now) = (FileTable::default(), Instant::now());
        assert_eq!(
            table.put("b", good(&[node("n", 2)]), now),
            [Change::Put(node("n", 2))]
        );
        assert_eq!(
            table.put("a", good(&[node("n", 1)]), now),
            [Change::Put(node("n", 1))]
        );
        assert_eq!(
            table.problems()[0].to_string(),
            "b: Node n: a has the object too, and counts; remove one of them"
        );
        assert_eq!(table.remove("a", now), [Change::Put(node("n", 2))]);
        assert!(table.problems().is_empty());
    }

    #[test]
    fn a_rename_removes_nothing() {
        let (mut table, now) = (FileTable::default(), Instant::now());
        table.put("a", good(&[node("n", 1)]), now);
        assert!(table.remove("a", now).is_empty());
        assert!(table.settle(now).is_empty());
        assert!(table.put("b", good(&[node("n", 1)]), now).is_empty());
        assert!(table.settle(now + PAUSE).is_empty());
        table.remove("b", now);
        assert_eq!(
            table.settle(now + PAUSE),
            [Change::Remove(node("n", 1).id())]
        );
        assert!(table.deadline().is_none());
    }

    #[test]
    fn bad_content_keeps_the_last_good_one() {
        let (mut table, now) = (FileTable::default(), Instant::now());
        table.put("a", good(&[node("n", 1), node("m", 1)]), now);
        assert!(table.put("a", unreadable(), now).is_empty());
        assert_eq!(table.problems().len(), 1);
        let bad = Decoded {
            bad: [node("n", 1).id()].into(),
            ..good(&[node("m", 2)])
        };
        assert_eq!(table.put("a", bad, now), [Change::Put(node("m", 2))]);
        assert!(table.settle(now + PAUSE).is_empty());
    }

    #[derive(Clone, Debug)]
    enum Event {
        Put(u8, Vec<(u8, u8)>),
        Break(u8),
        Remove(u8),
        Wait,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (0_u8..3, proptest::collection::vec((0_u8..4, 0_u8..3), 0..4)).prop_map(|(file, it)| Event::Put(file, it)),
            1 => (0_u8..3).prop_map(Event::Break),
            2 => (0_u8..3).prop_map(Event::Remove),
            1 => Just(Event::Wait),
        ]
    }

    proptest! {
        /// Whatever happened to the files, what was told adds up to what a reader of their last good contents sees.
        #[test]
        fn what_was_told_is_what_the_files_say(events in proptest::collection::vec(event(), 0..40)) {
            let (mut table, mut now) = (FileTable::default(), Instant::now());
            let mut contents: BTreeMap<u8, BTreeMap<ObjectId, Object>> = BTreeMap::new();
            let mut seen: BTreeMap<ObjectId, Object> = BTreeMap::new();
            for event in events {
                let changes = match event {
                    Event::Put(file, nodes) => {
                        let nodes: BTreeMap<ObjectId, Object> = nodes.iter().map(|(name, address)| {
                            let node = node(&format!("n{name}"), *address);
                            (node.id(), node)
                        }).collect();
                        let objects: Vec<Object> = nodes.values().cloned().collect();
                        contents.insert(file, nodes);
                        table.put(&file.to_string(), good(&objects), now)
                    }
                    Event::Break(file) if contents.contains_key(&file) => table.put(&file.to_string(), unreadable(), now),
                    Event::Break(_) => Vec::new(),
                    Event::Remove(file) => {
                        contents.remove(&file);
                        table.remove(&file.to_string(), now)
                    }
                    Event::Wait => {
                        now += PAUSE;
                        table.settle(now)
                    }
                };
                for change in changes {
                    match change {
                        Change::Put(object) => drop(seen.insert(object.id(), object)),
                        Change::Remove(id) => prop_assert!(seen.remove(&id).is_some()),
                        Change::Synced(_) => prop_assert!(false),
                    }
                }
            }
            for change in table.settle(now + PAUSE) {
                if let Change::Remove(id) = change { seen.remove(&id); }
            }
            let mut wanted = BTreeMap::new();
            for nodes in contents.values().rev() {
                wanted.extend(nodes.clone());
            }
            prop_assert_eq!(seen, wanted);
        }
    }
}
