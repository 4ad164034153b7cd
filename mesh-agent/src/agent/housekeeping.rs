//! What is done now and then: entries of sockets that nobody will take away, and the comparison of kernel and mirror.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use mesh_common::SocketKey;

use super::shared::Shared;
use crate::sweep::sweep;

const SWEEP_EVERY: Duration = Duration::from_secs(60);
const AUDIT_EVERY: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(super) struct Housekeeping {
    next_sweep: Instant,
    next_audit: Instant,
    suspects: BTreeSet<SocketKey>,
}

impl Housekeeping {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            next_sweep: now + SWEEP_EVERY,
            next_audit: now + AUDIT_EVERY,
            suspects: BTreeSet::new(),
        }
    }

    /// Whether there is something to repair: the engine's next step does it.
    pub(super) fn run(&mut self, shared: &Shared, now: Instant) -> bool {
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP_EVERY;
            self.sweep(shared);
        }
        if now >= self.next_audit {
            self.next_audit = now + AUDIT_EVERY;
            return audit(shared);
        }
        false
    }

    fn sweep(&mut self, shared: &Shared) {
        let found = match shared.reader().sockets() {
            Ok(dump) => sweep(&dump, &self.suspects),
            Err(error) => {
                tracing::warn!("{error}; sweeping again later");
                return;
            }
        };
        self.suspects = found.suspects;
        if let Err(error) = shared.engine().writer().maps.delete_sockets(&found.dead) {
            tracing::warn!("{error}; sweeping again later");
        }
    }
}

/// The kernel is believed: what differs is planned anew by the engine's next step.
fn audit(shared: &Shared) -> bool {
    let mut engine = shared.engine();
    match shared.reader().tables() {
        Ok(dump) => {
            let differences = engine.audit(&dump);
            for difference in &differences {
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
