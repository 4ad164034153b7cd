//! The flow table read and collected.

use mesh_common::{FlowKey, FlowValue};

use super::{DatapathError, Reader, flow_lines::FlowLines, load::host_number, sys::Words};
use crate::{
    collect::{FlowTable, over},
    rebind::Backends,
};

/// The programs' word on whether ids in flows are those of the tables: the object's data section, which is theirs alone.
pub(super) const TRUST: &str = ".data";

impl FlowTable for FlowLines {
    fn flow(&self, key: &FlowKey) -> Option<FlowValue> {
        self.find(key).map(|(_, value)| value)
    }
}

impl Reader {
    pub(super) fn flow_lines(&self) -> Result<FlowLines, DatapathError> {
        let words = Words::map(self.map("flows")?.fd());
        let words = words.map_err(DatapathError::map("map", "flows"))?;
        Ok(FlowLines::new(words, host_number()))
    }

    /// Every entry of `flows` in turn, with whether its flow is half-open.
    ///
    /// # Errors
    /// As above.
    pub fn flows(
        &self,
        see: &mut dyn FnMut(FlowKey, FlowValue, bool),
    ) -> Result<(), DatapathError> {
        let lines = self.flow_lines()?;
        lines.for_each(&mut |place, key, value| see(key, value, lines.is_opening(place)));
        Ok(())
    }

    /// Takes the flows that are over out of `flows`. `now` is seconds of the monotonic clock. Gives how many entries were
    /// looked at and how many were deleted.
    ///
    /// # Errors
    /// As above.
    pub fn collect_flows(&self, now: u32) -> Result<Collected, DatapathError> {
        let lines = self.flow_lines()?;
        let mut collected = Collected::default();
        let mut left = 0;
        lines.for_each(&mut |place, key, value| {
            collected.looked_at += 1;
            left += u64::from(!lines.is_spilled(place));
            for key in over(&lines, &key, &value, now) {
                // One that another entry of its flow took away before is not there.
                let place = lines.find(&key).map(|(place, _)| place);
                if place.is_some_and(|place| lines.free(place)) {
                    collected.deleted += 1;
                }
            }
        });
        collected.is_short =
            left.saturating_sub(collected.deleted) * 4 > lines.confirmed_capacity() * 3;
        Ok(collected)
    }

    /// Entries of confirmed flows that there is room for.
    ///
    /// # Errors
    /// If the map is not there.
    pub fn confirmed_capacity(&self) -> Result<u64, DatapathError> {
        Ok(self.flow_lines()?.confirmed_capacity())
    }

    /// Gives flows the ids that their backends have in the tables now, and then lets the programs believe them. Until it
    /// has gone well they do not: they go on with the addresses that flows hold. Gives how many it were.
    ///
    /// # Errors
    /// As above.
    pub fn rebind_flows(&self) -> Result<u64, DatapathError> {
        let tables = self.tables()?;
        let backends = Backends::new(&tables);
        let lines = self.flow_lines()?;
        let mut rebound = 0;
        lines.for_each(&mut |place, key, value| {
            let held = backends.rebound(&key, &value);
            if held.is_some_and(|held| lines.set_backend(place, held)) {
                rebound += 1;
            }
        });
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
    /// Whether more than three quarters of the room for confirmed flows are taken.
    pub is_short: bool,
}
