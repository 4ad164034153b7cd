//! When sockets are looked at next. Looking costs the same however many backends are gone, so where one after the other
//! goes they wait for each other: long enough that looking stays a small share of a processor, and never long. Even the
//! first waits a moment: what departs together is looked for together, and an exchange that is about to end does. Pure.

use std::time::{Duration, Instant};

/// From a departure to its look at least.
const MOMENT: Duration = Duration::from_millis(10);
/// From one look to the next at least.
const LEAST: Duration = Duration::from_millis(50);
/// Looks take one part in so many of the time.
const SHARE: u32 = 20;
/// So long at most a client may have to wait for others' looks.
const MOST: Duration = Duration::from_millis(250);

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace(Option<Instant>);

impl Pace {
    /// How long it is until somebody who departs now is looked for.
    #[must_use]
    pub fn pause(&self, now: Instant) -> Duration {
        let rest = self.0.map(|next| next.saturating_duration_since(now));
        rest.map_or(MOMENT, |rest| rest.max(MOMENT))
    }

    /// A look began and took so long.
    pub fn looked(&mut self, began: Instant, took: Duration) {
        self.0 = Some(began + (took * SHARE).clamp(LEAST, MOST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_look_is_soon_and_the_next_ones_are_a_small_share_of_the_time() {
        let now = Instant::now();
        let mut pace = Pace::default();
        assert_eq!(pace.pause(now), MOMENT);
        for (took, rest) in [(0, 50), (2, 50), (5, 100), (100, 250)] {
            pace.looked(now, Duration::from_millis(took));
            assert_eq!(pace.pause(now), Duration::from_millis(rest), "{took} ms");
        }
        assert_eq!(pace.pause(now + Duration::from_secs(1)), MOMENT);
    }
}
