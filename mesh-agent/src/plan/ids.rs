//! Who has which index of an array. Index 0 is never given out: it means none.

use std::{
    collections::{BTreeSet, btree_set},
    iter::{Chain, Copied},
    ops::Range,
};

use super::{Time, rest::Resting};

/// Ids that may be given out, in the order in which they should be.
pub(super) type Available<'a> = Chain<Copied<btree_set::Iter<'a, u32>>, Range<u32>>;

/// The ids of one array.
#[derive(Clone, Debug)]
pub(super) struct Ids {
    /// Ids from here to the capacity were never used.
    next: u32,
    capacity: u32,
    free: BTreeSet<u32>,
    resting: Resting<u32>,
}

impl Ids {
    /// For an array of so many entries.
    pub(super) fn new(capacity: u32) -> Self {
        Self {
            next: 1,
            capacity,
            free: BTreeSet::new(),
            resting: Resting::default(),
        }
    }

    pub(super) fn available(&self) -> Available<'_> {
        let unused = self.next..self.capacity.max(self.next);
        self.free.iter().copied().chain(unused)
    }

    /// The id is somebody's.
    pub(super) fn take(&mut self, id: u32) {
        if id < self.next {
            self.free.remove(&id);
            return;
        }
        self.free.extend(self.next..id);
        self.next = id.saturating_add(1);
    }

    /// The id is nobody's; it can be somebody's again after its rest.
    pub(super) fn rest(&mut self, id: u32, now: Time) {
        self.resting.push(id, now);
    }

    /// Ends the rests that are over. Says whether there were any.
    pub(super) fn settle(&mut self, now: Time) -> bool {
        let before = self.free.len();
        while let Some(id) = self.resting.pop(now) {
            self.free.insert(id);
        }
        self.free.len() > before
    }

    pub(super) fn next_rest(&self) -> Option<Time> {
        self.resting.next()
    }

    /// How many are in use, rests included.
    pub(super) fn used(&self) -> usize {
        (self.next as usize)
            .saturating_sub(1)
            .saturating_sub(self.free.len())
    }

    /// How many can be in use.
    pub(super) fn capacity(&self) -> u32 {
        self.capacity.saturating_sub(1)
    }
}
