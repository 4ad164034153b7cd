//! Session affinity: which backend a client had last.

use crate::{BackendId, Client, ServiceId, plain::plain};

/// Set in the service id of a choice among this node's endpoints alone: who was led elsewhere by another address of the
/// Service must not be led there again where the policy is Local. Ids are indices of an array and never so great.
pub const LOCAL_CHOICE: ServiceId = 1 << 31;

plain! {
    /// Key of `affinity`.
    #[derive(Debug, Hash, PartialOrd, Ord)]
    pub struct AffinityKey { client: Client, service: ServiceId, reserved: u32 }
}

impl AffinityKey {
    /// A client of a service port, which may be with `LOCAL_CHOICE`.
    #[must_use]
    #[inline(always)]
    pub const fn new(client: Client, service: ServiceId) -> Self {
        Self {
            client,
            service,
            reserved: 0,
        }
    }

    /// The client.
    #[must_use]
    pub const fn client(self) -> Client {
        self.client
    }

    /// The service port, with `LOCAL_CHOICE` or without.
    #[must_use]
    pub const fn service(self) -> ServiceId {
        self.service
    }
}

plain! {
    /// Value of `affinity`. The service is in the value too: an element that is reused while it is read shows another
    /// service's entry, and then it is not believed.
    #[derive(Debug)]
    pub struct AffinityValue { stamp: u64, backend: BackendId, generation: u32, service: ServiceId, reserved: u32 }
}

impl AffinityValue {
    /// The backend chosen, and when (nanoseconds of the monotonic clock).
    #[must_use]
    #[inline(always)]
    pub const fn new(service: ServiceId, backend: BackendId, generation: u32, stamp: u64) -> Self {
        Self {
            stamp,
            backend,
            generation,
            service,
            reserved: 0,
        }
    }

    /// When the last connection was made, nanoseconds of the monotonic clock.
    #[must_use]
    #[inline(always)]
    pub const fn stamp(self) -> u64 {
        self.stamp
    }

    /// The backend.
    #[must_use]
    #[inline(always)]
    pub const fn backend(self) -> BackendId {
        self.backend
    }

    /// The backend's generation then.
    #[must_use]
    #[inline(always)]
    pub const fn generation(self) -> u32 {
        self.generation
    }

    /// The service port, with `LOCAL_CHOICE` or without.
    #[must_use]
    #[inline(always)]
    pub const fn service(self) -> ServiceId {
        self.service
    }
}
