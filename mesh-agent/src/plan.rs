//! From desired and applied to ordered writes; pure.

use mesh_common::{
    Backend, BackendId, BackendWord, FrontendKey, FrontendValue, ServiceId, ServiceWord, SetId,
    SetWord,
};

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
}

/// What the kernel held when the agent started, read from the pinned maps; all derived maps, whole.
#[derive(Clone, Debug, Default)]
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
}
