//! The Services and Pods that are to be written, and when. One that failed waits, twice as long each time.

use std::collections::BTreeMap;

use super::Random;
use crate::{model::ObjectId, plan::Time};

const FIRST_WAIT: Time = Time::from_millis(100);
const LONGEST_WAIT: Time = Time::from_secs(30);

/// When something is tried, and how often it has failed before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Retry {
    due: Time,
    failures: u32,
}

impl Retry {
    pub(super) fn at(due: Time) -> Self {
        Self { due, failures: 0 }
    }

    pub(super) fn due(&self) -> Time {
        self.due
    }

    pub(super) fn is_due(&self, now: Time) -> bool {
        self.due <= now
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// After one failure more; between half the wait and all of it.
    pub(super) fn later(self, now: Time, random: &mut impl Random) -> Self {
        let wait = FIRST_WAIT
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST_WAIT);
        let half = wait / 2;
        let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
        let jitter = Time::from_nanos(random.next() % nanos.max(1));
        Self {
            due: now.saturating_add(half).saturating_add(jitter),
            failures: self.failures.saturating_add(1),
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue(BTreeMap<ObjectId, Retry>);

impl Queue {
    /// It is to be written now; past failures stay counted.
    pub(super) fn add(&mut self, owner: &ObjectId, now: Time) {
        match self.0.get_mut(owner) {
            Some(retry) => retry.due = retry.due.min(now),
            None => {
                self.0.insert(owner.clone(), Retry::at(now));
            }
        }
    }

    pub(super) fn put_back(&mut self, owner: ObjectId, retry: Retry) {
        self.0.insert(owner, retry);
    }

    pub(super) fn take_due(&mut self, now: Time) -> Vec<(ObjectId, Retry)> {
        self.0
            .extract_if(.., |_, retry| retry.is_due(now))
            .collect()
    }

    pub(super) fn next_due(&self) -> Option<Time> {
        self.0.values().map(Retry::due).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
