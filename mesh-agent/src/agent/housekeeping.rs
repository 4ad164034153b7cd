//! What is done now and then: entries of sockets that nobody will take away, and the comparison of kernel and mirror.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_common::SocketKey;

use super::shared::Shared;
use crate::{
    config::Intervals, conntrack_timeouts::Keeper, sweep::sweep, telemetry::metrics::Metrics,
};

pub(super) struct Housekeeping {
    shared: Arc<Shared>,
    metrics: Metrics,
    intervals: Intervals,
    next_sweep: Instant,
    next_audit: Instant,
    suspects: BTreeSet<SocketKey>,
    conntrack: Keeper,
}

impl Housekeeping {
    pub(super) fn new(
        shared: Arc<Shared>,
        metrics: Metrics,
        intervals: Intervals,
        mut conntrack: Keeper,
    ) -> Self {
        let now = Instant::now();
        conntrack.apply();
        Self {
            shared,
            metrics,
            intervals,
            next_sweep: now + intervals.sweep,
            next_audit: now + intervals.audit,
            suspects: BTreeSet::new(),
            conntrack,
        }
    }

    /// Does what is due. Gives how long it may be until it is asked again: not at all if the engine has something to
    /// repair.
    pub(super) fn run(&mut self, now: Instant) -> Duration {
        if now >= self.next_sweep {
            self.next_sweep = now + self.intervals.sweep;
            self.sweep();
            self.conntrack.apply();
        }
        if now >= self.next_audit {
            self.next_audit = now + self.intervals.audit;
            if audit(&self.shared, &self.metrics) {
                return Duration::ZERO;
            }
        }
        let next = self.next_sweep.min(self.next_audit);
        next.saturating_duration_since(Instant::now())
    }

    fn sweep(&mut self) {
        let found = match self.shared.reader().sockets() {
            Ok(dump) => sweep(&dump, &self.suspects),
            Err(error) => {
                tracing::warn!("{error}; sweeping again later");
                return;
            }
        };
        self.suspects = found.suspects;
        if let Err(error) = self
            .shared
            .engine()
            .writer()
            .maps
            .delete_sockets(&found.dead)
        {
            tracing::warn!("{error}; sweeping again later");
        }
    }
}

/// The kernel is believed: what differs is planned anew by the engine's next step. Gives whether anything does.
fn audit(shared: &Shared, metrics: &Metrics) -> bool {
    let mut engine = shared.engine();
    match shared.reader().tables() {
        Ok(dump) => {
            let differences = engine.audit(&dump);
            for difference in &differences {
                metrics.repaired(difference.map);
                tracing::error!(
                    map = difference.map,
                    entry = difference.entry,
                    kernel = difference.kernel,
                    expected = difference.expected,
                    "the kernel holds something else than was written: repairing"
                );
            }
            !differences.is_empty()
        }
        Err(error) => {
            tracing::warn!("{error}; comparing again later");
            false
        }
    }
}
