//! The periodic check that compares the kernel with what was written, and repairs.

use super::{Engine, Random};
use crate::{
    apply::{Clock, MapWriter},
    plan::{Applied, Difference, TableDump},
};

impl<W: MapWriter, C: Clock, R: Random> Engine<W, C, R> {
    /// Compares a dump, taken since the last step, with what was written. If they differ the kernel is believed, as at
    /// start, and every Service is planned anew by the next step. Returns the first differences.
    pub fn audit(&mut self, dump: &TableDump) -> Vec<Difference> {
        let differences = self.applied.differences(dump);
        if differences.is_empty() {
            return differences;
        }
        let now = self.clock.now();
        self.applied = Applied::restore(dump, self.applied.capacities(), now);
        self.freed = 0;
        self.plan_all(now);
        differences
    }
}
