//! The flow tables read and collected.

use mesh_common::{FlowKey, FlowValue};

use super::{DatapathError, Reader, flow_lines::FlowLines, load::host_number, sys::Words};
use crate::{
    collect::{FlowTable, over},
    rebind::Backends,
};

/// The programs' word on whether ids in flows are those of the tables: the object's data section, which is theirs alone.
pub(super) const TRUST: &str = ".data";

/// Both tables.
struct Flows {
    opening: FlowLines,
    confirmed: FlowLines,
}

impl FlowTable for Flows {
    fn flow(&self, key: &FlowKey) -> Option<FlowValue> {
        let found = self.confirmed.find(key).or_else(|| self.opening.find(key));
        found.map(|(_, value)| value)
    }
}

impl Reader {
    pub(super) fn flow_lines(&self, name: &'static str) -> Result<FlowLines, DatapathError> {
        let words = Words::map(self.map(name)?.fd());
        let words = words.map_err(DatapathError::map("map", name))?;
        Ok(FlowLines::new(words, host_number()))
    }

    fn flow_tables(&self) -> Result<Flows, DatapathError> {
        Ok(Flows {
            opening: self.flow_lines("opening")?,
            confirmed: self.flow_lines("flows")?,
        })
    }

    /// Every entry of `opening` and `flows` in turn, with whether it is in `opening`.
    ///
    /// # Errors
    /// As above.
    pub fn flows(
        &self,
        see: &mut dyn FnMut(FlowKey, FlowValue, bool),
    ) -> Result<(), DatapathError> {
        let tables = self.flow_tables()?;
        tables
            .opening
            .for_each(&mut |_, key, value| see(key, value, true));
        tables
            .confirmed
            .for_each(&mut |_, key, value| see(key, value, false));
        Ok(())
    }

    /// Takes the flows that are over out of `flows`. `now` is seconds of the monotonic clock. Gives how many entries were
    /// looked at and how many were deleted.
    ///
    /// # Errors
    /// As above.
    pub fn collect_flows(&self, now: u32) -> Result<Collected, DatapathError> {
        let tables = self.flow_tables()?;
        let mut collected = Collected {
            capacity: tables.confirmed.capacity(),
            ..Collected::default()
        };
        tables.confirmed.for_each(&mut |_, key, value| {
            collected.looked_at += 1;
            for key in over(&tables, &key, &value, now) {
                // One that another entry of its flow took away before is not there.
                let place = tables.confirmed.find(&key).map(|(place, _)| place);
                if place.is_some_and(|place| tables.confirmed.free(place)) {
                    collected.deleted += 1;
                }
            }
        });
        Ok(collected)
    }

    /// Gives flows the ids that their backends have in the tables now, and then lets the programs believe them. Until it
    /// has gone well they do not: they go on with the addresses that flows hold.
    ///
    /// # Errors
    /// As above.
    pub fn rebind_flows(&self) -> Result<u64, DatapathError> {
        let tables = self.tables()?;
        let backends = Backends::new(&tables);
        let flows = self.flow_tables()?;
        let mut rebound = 0;
        // A flow that moves meanwhile moves to `flows`, which is looked at last.
        for lines in [&flows.opening, &flows.confirmed] {
            lines.for_each(&mut |place, key, value| {
                let id = backends.rebound(&key, &value);
                if id.is_some_and(|id| lines.set_backend(place, id)) {
                    rebound += 1;
                }
            });
        }
        self.map(TRUST)?
            .update(&0_u32.to_ne_bytes(), &1_u64.to_ne_bytes(), 0)
            .map_err(DatapathError::map("update", TRUST))?;
        Ok(rebound)
    }
}

/// What a collection of flows did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Entries of `flows`.
    pub looked_at: u64,
    /// Entries that were deleted.
    pub deleted: u64,
    /// Entries that there is room for.
    pub capacity: u64,
}
