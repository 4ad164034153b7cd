//! From desired and applied to ordered writes; pure.
//!
//! A Service, or a Pod with host ports, is planned in two parts: `plan_raise` brings what is new into force, `plan_lower` takes away what is not
//! wanted any more. A frontend that goes from one owner to another is replaced by the first's raise, before the
//! second's lower could delete it.

mod applied;
mod capacity;
mod dump;
mod garbage;
mod ids;
mod kernel;
mod layout;
mod lower;
mod owners;
mod queries;
mod raise;
mod regions;
mod rest;
mod restore;
mod set;

use mesh_common::{
    Address, Backend, BackendId, BackendWord, FrontendKey, FrontendValue, ServiceId, ServiceWord,
    SetId, SetWord, SourceRangeKey,
};

use crate::{desired::PortId, model::ObjectId};

pub use applied::Applied;
pub use capacity::{Capacities, PlanError, Usage};
pub use dump::Difference;
pub use garbage::{plan_garbage, plan_lost};
pub use lower::{Surroundings, plan_lower};
pub use owners::PortRecord;
pub use queries::{BackendRecord, Holders};
pub use raise::{plan_known, plan_raise};
pub use rest::REST;

/// Monotonic time since some moment in the past.
pub type Time = std::time::Duration;

/// One write to the kernel's tables. `Put` and `Delete` are map operations (system calls); `Store` is one aligned
/// 64-bit release store into a mapped array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// A whole record in `backends`, of an id that nobody holds.
    PutBackend(BackendId, Backend),
    /// The state of a backend.
    StoreBackendWord(BackendId, BackendWord),
    /// A slot of a set's region.
    StoreSlot(u32, BackendId),
    /// A set: the publication point.
    StoreSet(SetId, SetWord),
    /// A service port's word.
    StoreService(ServiceId, ServiceWord),
    /// A frontend.
    PutFrontend(FrontendKey, FrontendValue),
    /// A frontend no more.
    DeleteFrontend(FrontendKey),
    /// A range of clients.
    PutRange(SourceRangeKey),
    /// A range no more.
    DeleteRange(SourceRangeKey),
}

impl Write {
    /// The map it goes to.
    #[must_use]
    pub const fn map(&self) -> &'static str {
        match self {
            Self::PutBackend(..) | Self::StoreBackendWord(..) => "backends",
            Self::StoreSlot(..) => "slots",
            Self::StoreSet(..) => "sets",
            Self::StoreService(..) => "services",
            Self::PutFrontend(..) | Self::DeleteFrontend(..) => "frontends",
            Self::PutRange(..) | Self::DeleteRange(..) => "source_ranges",
        }
    }

    /// Whether it is a single store into a mapped array rather than a system call.
    #[must_use]
    pub const fn is_store(&self) -> bool {
        match self {
            Self::StoreBackendWord(..)
            | Self::StoreSlot(..)
            | Self::StoreSet(..)
            | Self::StoreService(..) => true,
            Self::PutBackend(..)
            | Self::PutFrontend(..)
            | Self::DeleteFrontend(..)
            | Self::PutRange(..)
            | Self::DeleteRange(..) => false,
        }
    }
}

/// A write, and the service port (by its set; 0: none) on whose behalf it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The service port's set.
    pub set: SetId,
    /// The write.
    pub write: Write,
}

/// A service port and the ids it works with, new or found in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Whose they are.
    pub port: PortId,
    /// Its id in `services`.
    pub service: ServiceId,
    /// Its id in `sets`.
    pub set: SetId,
    /// The id of its set of this node's endpoints; 0 if it has none.
    pub local: SetId,
}

/// Ordered writes for one owner, a Service or a Pod, and what its books say before and after them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Whose; None for what nobody owns.
    pub owner: Option<ObjectId>,
    /// Service ports that are the owner's before the first write.
    pub claims: Vec<Claim>,
    /// Whole addresses that are the owner's before the first write.
    pub addresses: Vec<Address>,
    /// The writes, in order.
    pub steps: Vec<Step>,
    /// Sets of service ports that own nothing any more once every write is done.
    pub released: Vec<SetId>,
    /// Sets of service ports that give up their sets of this node's endpoints once every write is done.
    pub narrowed: Vec<SetId>,
    /// Whole addresses that are not the owner's any more once every write is done.
    pub dropped: Vec<Address>,
    /// Something stays that another owner has yet to take: it is to be planned again.
    pub waits: bool,
}

impl Transaction {
    fn of(owner: Option<&ObjectId>) -> Self {
        Self {
            owner: owner.cloned(),
            ..Self::default()
        }
    }

    fn push(&mut self, set: SetId, write: Write) {
        self.steps.push(Step { set, write });
    }

    /// Whether there is nothing to do, neither in the kernel nor in the books.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
            && self.addresses.is_empty()
            && self.steps.is_empty()
            && self.released.is_empty()
            && self.narrowed.is_empty()
            && self.dropped.is_empty()
            && !self.waits
    }
}

/// What the kernel held when the agent started, read from the pinned maps; all derived maps, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableDump {
    /// Every entry of `frontends`.
    pub frontends: Vec<(FrontendKey, FrontendValue)>,
    /// `services`, by index.
    pub services: Vec<ServiceWord>,
    /// `sets`, by index.
    pub sets: Vec<SetWord>,
    /// `slots`, by index.
    pub slots: Vec<BackendId>,
    /// `backends`, by index.
    pub backends: Vec<Backend>,
    /// Every key of `source_ranges`.
    pub ranges: Vec<SourceRangeKey>,
}
