//! How much the maps hold, and what is said when that is not enough.

use crate::model::ObjectId;

/// Entries of each derived map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacities {
    /// `frontends`
    pub frontends: u32,
    /// `services`, index 0 included.
    pub services: u32,
    /// `sets`, index 0 included.
    pub sets: u32,
    /// `slots`
    pub slots: u32,
    /// `backends`, index 0 included.
    pub backends: u32,
    /// `source_ranges`
    pub ranges: u32,
}

/// How full a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The map.
    pub map: &'static str,
    /// Entries in use; ids and regions that rest count.
    pub entries: usize,
    /// Entries that can be in use.
    pub capacity: u32,
}

/// Why a Service, or a Pod's host port, cannot be programmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// It does not fit.
    #[error(
        "{owner} does not fit into the map `{map}`, which holds {capacity} entries; raise {flag} and restart"
    )]
    Full {
        /// Whose it is.
        owner: ObjectId,
        /// The map.
        map: &'static str,
        /// Entries that it can hold.
        capacity: u32,
        /// The flag that makes it larger.
        flag: &'static str,
    },
}

impl PlanError {
    pub(super) fn full(owner: &ObjectId, map: &'static str, capacity: u32) -> Self {
        Self::Full {
            owner: owner.clone(),
            map,
            capacity,
            flag: match map {
                "backends" | "slots" => "--max-backends",
                "source_ranges" => "--max-source-ranges",
                _ => "--max-services",
            },
        }
    }
}
