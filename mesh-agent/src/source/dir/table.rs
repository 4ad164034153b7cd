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
    /// Something of it has no good version.
    incomplete: bool,
}

/// The files and what came of them.
#[derive(Debug, Default)]
pub(super) struct FileTable {
    files: BTreeMap<String, File>,
    /// The files that have an object, in byte order; the first one counts.
    holders: BTreeMap<ObjectId, BTreeSet<String>>,
    /// The objects with more than one holder.
    contested: BTreeSet<ObjectId>,
    /// What was told last.
    told: BTreeMap<ObjectId, Arc<Object>>,
    /// Objects no file has any more, and when that counts.
    missing: BTreeMap<ObjectId, Instant>,
    /// Whether what was told last is incomplete.
    incomplete: bool,
}

impl FileTable {
    /// A file was read.
    pub(super) fn put(&mut self, name: &str, decoded: Decoded, now: Instant) -> Vec<Change> {
        let old = self.files.remove(name);
        let never_read = old.as_ref().is_none_or(|old| old.incomplete);
        let old = old.unwrap_or_default();
        let (mut objects, incomplete) = if decoded.unreadable {
            (old.objects.clone(), never_read)
        } else {
            let bad = decoded.bad.len();
            let objects = self.last_good(&old, decoded.bad);
            let incomplete = objects.len() < bad;
            (objects, incomplete)
        };
        let good = decoded.objects.into_iter();
        objects.extend(good.map(|object| (object.id(), Arc::new(object))));
        let file = File {
            objects,
            problems: decoded.problems,
            incomplete,
        };
        self.replace(name, &old, Some(file), now)
    }

    /// The last good versions of bad objects: this file's own, or that of a file that went away just now, since it may
    /// have been renamed.
    fn last_good(&self, old: &File, bad: BTreeSet<ObjectId>) -> BTreeMap<ObjectId, Arc<Object>> {
        let version = |id: &ObjectId| {
            let left = || self.missing.contains_key(id).then(|| self.told.get(id));
            old.objects.get(id).or_else(|| left().flatten()).cloned()
        };
        bad.into_iter()
            .filter_map(|id| version(&id).map(|object| (id, object)))
            .collect()
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

    /// Whether something has no good version, if that is not what was told last.
    pub(super) fn completeness(&mut self) -> Option<Change> {
        let incomplete = self.files.values().any(|file| file.incomplete);
        let changed = incomplete != std::mem::replace(&mut self.incomplete, incomplete);
        changed.then_some(Change::Incomplete(incomplete))
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
        for id in &self.contested {
            let mut holders = self.holders.get(id).into_iter().flatten();
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
            self.hold(id, name, objects.contains_key(id));
        }
        if let Some(file) = new {
            self.files.insert(name.to_owned(), file);
        }
        touched
            .into_iter()
            .filter_map(|id| self.tell(id, now))
            .collect()
    }

    fn hold(&mut self, id: &ObjectId, name: &str, held: bool) {
        let holders = self.holders.entry(id.clone()).or_default();
        if held {
            holders.insert(name.to_owned());
        } else {
            holders.remove(name);
        }
        if holders.len() > 1 {
            self.contested.insert(id.clone());
        } else {
            self.contested.remove(id);
        }
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
mod tests;
