//! What was freed rests before it is used again: a program that was interrupted between two loads may still hold it.

use std::collections::VecDeque;

use super::Time;

/// How long.
pub const REST: Time = Time::from_secs(1);

/// Freed things, in the order in which they were freed.
#[derive(Clone, Debug)]
pub(super) struct Resting<T>(VecDeque<(Time, T)>);

impl<T> Default for Resting<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Resting<T> {
    pub(super) fn push(&mut self, thing: T, now: Time) {
        self.0.push_back((now.saturating_add(REST), thing));
    }

    /// One that has rested long enough.
    pub(super) fn pop(&mut self, now: Time) -> Option<T> {
        self.0
            .pop_front_if(|(until, _)| *until <= now)
            .map(|(_, thing)| thing)
    }

    /// When the next one will have rested.
    pub(super) fn next(&self) -> Option<Time> {
        self.0.front().map(|(until, _)| *until)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
