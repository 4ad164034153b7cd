//! The clock of flows: whole seconds, read by every packet of one. The kernel's count of timer ticks is one load, where the
//! nanoseconds are the call of a helper and a division. In: jiffies. Out: the seconds of the monotonic clock.

/// How the kernel's ticks become seconds of CLOCK_MONOTONIC. With high-resolution timers the count follows that clock
/// (tick_do_update_jiffies64 in kernel/time/tick-sched.c), so what holds once holds until the host starts anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jiffies {
    /// The count where the clock was 0.
    pub first: u64,
    /// A tick's part of a second, of 2^34: what is lost by rounding is less than a second in two years, and nothing overflows
    /// in thirty. 0 where the count is not to be used.
    pub part: u32,
}

/// How much older than the monotonic clock the count may be, or younger, in seconds. They begin together, give or take what a
/// host needs until its timer is set up; where it is more, ticks were lost.
const APART: u64 = 60;

const SECOND: u64 = 1_000_000_000;
const BITS: u32 = 34;

impl Jiffies {
    /// Of a kernel whose count nobody knows.
    pub const UNKNOWN: Self = Self { first: 0, part: 0 };

    /// By the low half of the count at a time of the monotonic clock, and the length of a tick, both in nanoseconds. None if
    /// the two do not belong together.
    #[must_use]
    pub fn new(low: u32, now: u64, tick: u64) -> Option<Self> {
        if !(SECOND / 10_000..=SECOND / 10).contains(&tick) {
            return None;
        }
        // INITIAL_JIFFIES: five minutes before the low half overflows.
        let usual = (1_u64 << 32) - 300 * (SECOND / tick);
        let first = low.wrapping_sub((now / tick) as u32);
        let apart = first.wrapping_sub(usual as u32).cast_signed();
        if u64::from(apart.unsigned_abs()) * tick > APART * SECOND {
            return None;
        }
        Some(Self {
            first: usual.wrapping_add_signed(i64::from(apart)),
            part: u32::try_from(((tick << BITS) + SECOND / 2) / SECOND).ok()?,
        })
    }

    /// The second of a count.
    #[must_use]
    #[inline(always)]
    pub const fn seconds(self, jiffies: u64) -> u32 {
        (jiffies
            .wrapping_sub(self.first)
            .wrapping_mul(self.part as u64)
            >> BITS) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: u64 = 365 * 24 * 3600;

    /// Of a kernel with such ticks whose count began half a second late: the count after so many seconds.
    fn after(tick: u64, seconds: u64) -> u64 {
        (1 << 32) - 300 * (SECOND / tick) + (seconds * SECOND - SECOND / 2) / tick
    }

    #[test]
    fn ticks_are_the_seconds_of_the_clock() {
        for tick in [10_000_000, 4_000_000, 3_333_333, 1_000_000] {
            for up in [1, 299, 301, 100_000, 3 * YEAR] {
                let jiffies = Jiffies::new(after(tick, up) as u32, up * SECOND, tick);
                let jiffies = jiffies.expect("the clocks belong together");
                for later in [1, 60, YEAR] {
                    let seconds = u64::from(jiffies.seconds(after(tick, up + later)));
                    assert!(
                        seconds.abs_diff(up + later) <= 2,
                        "{tick}, {up}, {later}: {seconds}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_does_not_belong_together_is_not_used() {
        let (now, tick) = (1000 * SECOND, SECOND / 250);
        let low = |seconds| after(tick, seconds) as u32;
        assert_eq!(Jiffies::new(low(1000 - 61), now, tick), None);
        assert_eq!(Jiffies::new(low(1000 + 62), now, tick), None);
        for other in [SECOND / 100, 1, SECOND] {
            assert_eq!(Jiffies::new(low(1000), now, other), None);
        }
        assert!(Jiffies::new(low(1000), now, tick).is_some());
    }
}
