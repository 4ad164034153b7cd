//! When traffic ends: after a count, after a time, or when it is asked to (SIGTERM, or its stdin is closed).

use std::{
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use nix::sys::signal::{SigSet, Signal};

/// Shared by all threads of one call.
#[derive(Clone, Debug)]
pub(super) struct Until {
    left: Arc<AtomicU64>,
    end: Option<Instant>,
    asked: Arc<AtomicBool>,
    gap: Duration,
}

impl Until {
    /// Call it before any other thread exists: threads inherit the mask that keeps SIGTERM for `sigwait`.
    pub(super) fn new(
        count: Option<u64>,
        duration: Option<Duration>,
        rate: Option<u32>,
    ) -> Result<Self> {
        let asked = on_sigterm()?;
        if count.is_none() && duration.is_none() {
            on_end_of_stdin(Arc::clone(&asked));
        }
        Ok(Self {
            left: Arc::new(AtomicU64::new(count.unwrap_or(u64::MAX))),
            end: duration.map(|duration| Instant::now() + duration),
            asked,
            gap: rate.map_or(Duration::ZERO, |rate| Duration::from_secs(1) / rate.max(1)),
        })
    }

    /// Whether it is over.
    pub(super) fn over(&self) -> bool {
        self.asked.load(Ordering::Relaxed) || self.end.is_some_and(|end| Instant::now() >= end)
    }

    /// Takes one of the count, at the pace; false when it is over.
    pub(super) fn next(&self, pace: &mut Pace) -> bool {
        if self.over() {
            return false;
        }
        pace.wait(self.gap);
        let taken = self
            .left
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
        taken.is_ok()
    }

    /// Sleeps, unless it is over before that.
    pub(super) fn pause(&self, duration: Duration) {
        const STEP: Duration = Duration::from_millis(5);
        let end = Instant::now() + duration;
        while !self.over() && Instant::now() < end {
            std::thread::sleep(STEP.min(duration));
        }
    }
}

/// When a thread's next attempt is due.
#[derive(Debug, Default)]
pub(super) struct Pace {
    due: Option<Instant>,
}

impl Pace {
    fn wait(&mut self, gap: Duration) {
        if gap.is_zero() {
            return;
        }
        let now = Instant::now();
        let due = *self.due.get_or_insert(now);
        std::thread::sleep(due.saturating_duration_since(now));
        // What was missed is not made up for: a stall must not be followed by a burst.
        self.due = Some(due.max(now) + gap);
    }
}

/// Sleeps until SIGTERM.
pub(super) fn pause() -> Result<()> {
    let asked = on_sigterm()?;
    while !asked.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// A flag that SIGTERM raises.
pub(super) fn on_sigterm() -> Result<Arc<AtomicBool>> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    let asked = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&asked);
    std::thread::spawn(move || {
        if signals.wait().is_ok() {
            flag.store(true, Ordering::Relaxed);
        }
    });
    Ok(asked)
}

fn on_end_of_stdin(flag: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        let mut stdin = std::io::stdin().lock();
        while matches!(stdin.read(&mut buffer), Ok(1..)) {}
        flag.store(true, Ordering::Relaxed);
    });
}
