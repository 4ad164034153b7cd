//! When something came in, by two clocks: the world's, and the CPU time of the thread that took it in. What follows on the
//! same thread is told from what the thread waited for.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// See the module. Only the thread that it is from may ask for its CPU time.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// By the world's clock.
    pub at: Instant,
    cpu: Duration,
}

impl Moment {
    /// Now, on this thread.
    #[must_use]
    pub fn now() -> Self {
        Self {
            at: Instant::now(),
            cpu: cpu_time(),
        }
    }

    /// The earlier of two of one thread.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        if other.at < self.at { other } else { self }
    }

    /// What this thread has worked since.
    #[must_use]
    pub fn worked(&self) -> Duration {
        cpu_time().saturating_sub(self.cpu)
    }
}

/// Of this thread so far; nothing where the kernel has no such clock.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_no_work() {
        let moment = Moment::now();
        std::thread::sleep(Duration::from_millis(30));
        assert!(moment.at.elapsed() >= Duration::from_millis(30));
        assert!(moment.worked() < Duration::from_millis(20));
    }

    #[test]
    fn work_is_counted() {
        let moment = Moment::now();
        while moment.worked() < Duration::from_millis(2) {
            std::hint::spin_loop();
        }
        assert!(moment.at.elapsed() >= Duration::from_millis(2));
    }

    #[test]
    fn the_earlier_one_counts() {
        let (first, second) = (Moment::now(), Moment::now());
        assert_eq!(second.min(first).at, first.at);
        assert_eq!(first.min(second).at, first.at);
    }
}
