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

    pub(super) fn run(&mut self, shared: &Shared, now: Instant) {
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP_EVERY;
            self.sweep(shared);
        }
        if now >= self.next_audit {
            self.next_audit = now + AUDIT_EVERY;
            audit(shared);
        }
    }

    fn sweep(&mut self, shared: &Shared) {
        let mut engine = shared.engine();
        let flows = engine.writer().flows_mut();
        match flows.sockets() {
            Ok(dump) => {
                let found = sweep(&dump, &self.suspects);
                flows.remove_sockets(&found.dead);
                self.suspects = found.suspects;
            }
            Err(error) => tracing::warn!("{error}; sweeping again later"),
        }
    }
}

/// The kernel is believed: what differs is planned anew by the engine's next step.
fn audit(shared: &Shared) {
    let mut engine = shared.engine();
    let dump = engine.writer().tables();
    match dump {
        Ok(dump) => {
            for difference in engine.audit(&dump) {
                tracing::error!(
                    map = difference.map,
                    entry = difference.entry,
                    kernel = difference.kernel,
                    expected = difference.expected,
                    "the kernel holds something else than was written: repairing"
                );
            }
        }
        Err(error) => tracing::warn!("{error}; comparing again later"),
    }
}
