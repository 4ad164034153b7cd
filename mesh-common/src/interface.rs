//! Addresses of interfaces, which stand for clients whose replies would not come back by themselves; and the addresses
//! of network namespaces.

use crate::{Address, plain::plain};

/// Interfaces with a number below are in `interfaces`, an array; the others, which came to the host after hundreds, are in
/// `late_interfaces`, where to find one is a tenth of what a new flow costs.
pub const EARLY_INTERFACES: u32 = 256;

plain! {
    /// Value of `interfaces` and `late_interfaces`, by the kernel's number of the interface: the address that stands for
    /// clients whose packets leave by it, in each family; unspecified where there is none.
    #[derive(Debug)]
    pub struct Interface { v4: Address, v6: Address }
}

impl Interface {
    /// The addresses.
    #[must_use]
    pub const fn new(v4: Address, v6: Address) -> Self {
        Self { v4, v6 }
    }

    /// The address of a family.
    #[must_use]
    #[inline(always)]
    pub const fn address(&self, is_v4: bool) -> Option<Address> {
        known(if is_v4 { self.v4 } else { self.v6 })
    }
}

plain! {
    /// Value of `clients`, by the cookie of a network namespace: the addresses of who is in it. The cookie is in the
    /// value too: an element that is reused while it is read is another's.
    #[derive(Debug)]
    pub struct ClientAddresses { cookie: u64, v4: Address, v6: Address }
}

impl ClientAddresses {
    /// The addresses of a namespace; unspecified where there is none.
    #[must_use]
    #[inline(always)]
    pub const fn new(cookie: u64, v4: Address, v6: Address) -> Self {
        Self { cookie, v4, v6 }
    }

    /// Whether this is the entry of that namespace.
    #[must_use]
    #[inline(always)]
    pub const fn is_of(&self, cookie: u64) -> bool {
        self.cookie == cookie
    }

    /// The address of a family, if this is the entry of that namespace.
    #[must_use]
    #[inline(always)]
    pub const fn address(&self, cookie: u64, is_v4: bool) -> Option<Address> {
        if !self.is_of(cookie) {
            return None;
        }
        known(if is_v4 { self.v4 } else { self.v6 })
    }
}

#[inline(always)]
const fn known(address: Address) -> Option<Address> {
    if address.is_unspecified() {
        return None;
    }
    Some(address)
}
