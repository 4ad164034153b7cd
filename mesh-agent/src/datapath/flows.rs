//! The flow tables read and collected.

use mesh_common::{FlowKey, FlowValue, bytes_of, from_bytes};

use super::{DatapathError, Reader};
use crate::{
    collect::{FlowTable, over},
    rebind::Backends,
};

/// The programs' word on whether ids in flows are those of the tables: the object's data section, which is theirs alone.
pub(super) const TRUST: &str = ".data";
/// BPF_EXIST
const EXIST: u64 = 2;

impl Reader {
    /// Every entry of `opening` and `flows` in turn, with whether it is in `opening`.
    ///
    /// # Errors
    /// As above.
    pub fn flows(
        &self,
        see: &mut dyn FnMut(FlowKey, FlowValue, bool),
    ) -> Result<(), DatapathError> {
        for name in ["opening", "flows"] {
            let mut typed = |key: &[u8], value: &[u8]| {
                if let (Some(key), Some(value)) = (from_bytes(key), from_bytes(value)) {
                    see(key, value, name == "opening");
                }
            };
            self.map(name)?
                .for_each(&mut typed)
                .map_err(DatapathError::map("read", name))?;
        }
        Ok(())
    }

    /// Takes the flows that are over out of `flows`. `now` is seconds of the monotonic clock. Gives how many entries were
    /// looked at and how many were deleted.
    ///
    /// # Errors
    /// As above; those that were found by then are deleted.
    pub fn collect_flows(&self, now: u32) -> Result<Collected, DatapathError> {
        let flows = self.map("flows")?;
        let mut collected = Collected::default();
        let mut see = |key: &[u8], value: &[u8]| {
            let (Some(key), Some(value)) = (from_bytes(key), from_bytes(value)) else {
                return;
            };
            collected.looked_at += 1;
            for key in over(self, &key, &value, now) {
                // One that another entry of its flow took away before is not there.
                if flows.delete(bytes_of(&key)).is_ok() {
                    collected.deleted += 1;
                }
            }
        };
        flows
            .for_each(&mut see)
            .map_err(DatapathError::map("collect", "flows"))?;
        Ok(collected)
    }
}

impl Reader {
    /// Gives flows the ids that their backends have in the tables now, and then lets the programs believe them. Until it
    /// has gone well they do not: they go on with the addresses that flows hold.
    ///
    /// # Errors
    /// As above.
    pub fn rebind_flows(&self) -> Result<u64, DatapathError> {
        let tables = self.tables()?;
        let backends = Backends::new(&tables);
        let mut rebound = 0;
        for name in ["opening", "flows"] {
            let map = self.map(name)?;
            let mut see = |key: &[u8], value: &[u8]| {
                let (Some(key), Some(value)) =
                    (from_bytes::<FlowKey>(key), from_bytes::<FlowValue>(value))
                else {
                    return;
                };
                let Some(id) = backends.rebound(&key, &value) else {
                    return;
                };
                // One that is not there any more has ended or moved to `flows`, which is looked at last.
                let value = value.with_backend(id);
                if map.update(bytes_of(&key), bytes_of(&value), EXIST).is_ok() {
                    rebound += 1;
                }
            };
            map.for_each(&mut see)
                .map_err(DatapathError::map("read", name))?;
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
}

impl FlowTable for Reader {
    fn flow(&self, key: &FlowKey) -> Option<FlowValue> {
        ["flows", "opening"].into_iter().find_map(|name| {
            let value = self.map(name).ok()?.lookup(bytes_of(key)).ok()??;
            from_bytes(&value)
        })
    }
}
