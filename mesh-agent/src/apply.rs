//! Carries out transactions: each write that succeeds is recorded, the first that fails ends the transaction.

use mesh_common::SetWord;

use crate::plan::{Applied, Step, Time, Transaction, Write};

/// The kernel's tables, as far as they are written.
pub trait MapWriter {
    /// Makes one write. Stores are releases: whoever sees one sees all writes before it.
    ///
    /// # Errors
    /// If the kernel refused; then nothing has changed.
    fn write(&mut self, write: &Write) -> Result<(), WriteError>;

    /// Returns when no program reads what was replaced or deleted before the call (an RCU grace period).
    ///
    /// # Errors
    /// If the kernel offers no way to know.
    fn grace(&mut self) -> Result<(), WriteError>;
}

/// Why a write failed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The kernel has no room, though the agent's books say there is.
    #[error("the map `{map}` is full; raise its size by a flag of `run` and restart")]
    Full {
        /// The map.
        map: &'static str,
    },
    /// Anything else.
    #[error("writing to the map `{map}` failed: {source}; it is tried again")]
    Io {
        /// The map.
        map: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
}

impl WriteError {
    /// The map.
    #[must_use]
    pub const fn map(&self) -> &'static str {
        match self {
            Self::Full { map } | Self::Io { map, .. } => map,
        }
    }
}

/// Monotonic time.
pub trait Clock {
    /// Time since some moment in the past.
    fn now(&self) -> Time;
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// System calls on maps.
    pub map_ops: u64,
    /// Single stores into mapped arrays.
    pub stores: u64,
    /// Grace periods waited for.
    pub graces: u64,
}

impl Tally {
    /// All writes.
    #[must_use]
    pub const fn writes(&self) -> u64 {
        self.map_ops + self.stores
    }

    fn count(&mut self, write: &Write) {
        if write.is_store() {
            self.stores += 1;
        } else {
            self.map_ops += 1;
        }
    }
}

/// Carries out a transaction and adds what was done to `tally`.
///
/// # Errors
/// The first write that failed. What was written before it is recorded; planning again goes on from there.
pub fn execute(
    transaction: &Transaction,
    applied: &mut Applied,
    writer: &mut impl MapWriter,
    clock: &impl Clock,
    tally: &mut Tally,
) -> Result<(), WriteError> {
    applied.begin(transaction);
    for step in &transaction.steps {
        if wants_grace(transaction, step) && applied.needs_grace(clock.now()) {
            writer.grace()?;
            applied.grace_passed();
            tally.graces += 1;
        }
        writer.write(&step.write)?;
        tally.count(&step.write);
        applied.record(step, clock.now());
    }
    applied.finish(transaction, clock.now());
    Ok(())
}

/// What no program may see while it still reads a frontend from before: another in its place, or that the set is empty
/// which it led to when a policy was Local.
fn wants_grace(transaction: &Transaction, step: &Step) -> bool {
    match step.write {
        Write::PutFrontend(..) => true,
        Write::StoreSet(set, SetWord::EMPTY) => {
            set != step.set && transaction.narrowed.contains(&step.set)
        }
        Write::PutBackend(..)
        | Write::StoreBackendWord(..)
        | Write::StoreSlot(..)
        | Write::StoreSet(..)
        | Write::StoreService(..)
        | Write::DeleteFrontend(..)
        | Write::PutRange(..)
        | Write::DeleteRange(..) => false,
    }
}
