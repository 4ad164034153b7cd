//! How often each operation on each map was done, and how it ended: for the metric, and for tests that count.

use std::sync::atomic::{AtomicU64, Ordering};

use mesh_common::MAPS;

use crate::telemetry::MapOperations;

/// The operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// One aligned store into a mapped array.
    Store,
    /// bpf(BPF_MAP_UPDATE_ELEM)
    Update,
    /// bpf(BPF_MAP_DELETE_ELEM)
    Delete,
}

const NAMES: [&str; 3] = ["store", "update", "delete"];
const OUTCOMES: [&str; 2] = ["ok", "error"];

/// Counts since the agent started.
#[derive(Debug, Default)]
pub struct Operations([[[AtomicU64; 2]; 3]; MAPS.len()]);

impl Operations {
    /// Counts one.
    pub(super) fn count(&self, map: &str, operation: Operation, ok: bool) {
        if let Some(index) = MAPS.iter().position(|spec| spec.name == map) {
            self.0[index][operation as usize][usize::from(!ok)].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All that are not zero.
    #[must_use]
    pub fn figures(&self) -> Vec<MapOperations> {
        let mut figures = Vec::new();
        for (spec, operations) in MAPS.iter().zip(&self.0) {
            for (op, outcomes) in NAMES.into_iter().zip(operations) {
                for (outcome, count) in OUTCOMES.into_iter().zip(outcomes) {
                    let count = count.load(Ordering::Relaxed);
                    if count > 0 {
                        figures.push(MapOperations {
                            map: spec.name,
                            op,
                            outcome,
                            count,
                        });
                    }
                }
            }
        }
        figures
    }
}
