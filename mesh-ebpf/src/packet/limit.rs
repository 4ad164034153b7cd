//! How many ICMP errors a processor makes: as many a second as the host allows itself, so that a flood of refused
//! datagrams is not answered by another one. Resets need no limit: each is no longer than what it answers.

use crate::Env;

/// How many ICMP errors are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpLimit {
    /// Nanoseconds that each costs; 0 is no limit.
    pub interval: u32,
    /// How many may be made at once after a silence.
    pub burst: u32,
}

/// What the kernel allows itself (icmp_msgs_per_sec, icmp_msgs_burst) where nobody said otherwise.
impl Default for IcmpLimit {
    fn default() -> Self {
        Self {
            interval: 1_000_000,
            burst: 50,
        }
    }
}

impl IcmpLimit {
    /// Until when all that were made will be paid for, one more included; None if that is one too many. `paid` is the
    /// same before it.
    #[inline(always)]
    pub(crate) const fn one_more(self, paid: u64, now: u64) -> Option<u64> {
        let interval = self.interval as u64;
        let begin = if paid > now { paid } else { now };
        let until = begin + interval;
        if until - now > interval * self.burst as u64 {
            return None;
        }
        Some(until)
    }
}

/// Whether one more may be made, which is then accounted for.
#[inline(always)]
pub(super) fn may_answer<E: Env>(env: &E) -> bool {
    match env.icmp_limit().one_more(env.icmp_paid(), env.now()) {
        Some(until) => {
            env.set_icmp_paid(until);
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// How many of these, at distances of so many nanoseconds, are made.
    fn made(limit: IcmpLimit, distances: &[u64]) -> u64 {
        let (mut now, mut paid, mut made) = (5 * SECOND, 0, 0);
        for distance in distances {
            now += distance;
            if let Some(until) = limit.one_more(paid, now) {
                paid = until;
                made += 1;
            }
        }
        made
    }

    #[test]
    fn a_burst_and_then_so_many_a_second() {
        let limit = IcmpLimit::default();
        assert_eq!(made(limit, &[0; 1000]), 50);
        assert_eq!(made(limit, &[1_000_000; 1000]), 1000);
        // Ten times as many as are allowed.
        assert_eq!(made(limit, &[100_000; 10_000]), 1049);
        let nothing = IcmpLimit { burst: 0, ..limit };
        assert_eq!(made(nothing, &[SECOND; 10]), 0);
        let unlimited = IcmpLimit {
            interval: 0,
            ..limit
        };
        assert_eq!(made(unlimited, &[0; 1000]), 1000);
    }

    proptest! {
        /// In no stretch of time are there more than the burst and what the time pays for.
        #[test]
        fn no_stretch_has_more(distances in proptest::collection::vec(0_u64..2_000_000, 1..500)) {
            let limit = IcmpLimit { interval: 1_000_000, burst: 5 };
            let time: u64 = distances.iter().skip(1).sum();
            prop_assert!(made(limit, &distances) <= 5 + time / 1_000_000);
        }
    }
}
