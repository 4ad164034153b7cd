//! Who a client is, as affinity keys it: an address, or a network namespace while the address is not known.

use core::net::IpAddr;

use crate::{Address, plain::plain};

plain! {
    /// Sixteen bytes: a client's address, or its namespace cookie under `100::/64`, which no client can have as its
    /// address (RFC 6666: discard-only).
    #[derive(Hash, PartialOrd, Ord)]
    pub struct Client { address: Address }
}

const DISCARD_PREFIX: [u32; 2] = [0x0100_0000_u32.to_be(), 0];

impl Client {
    /// A client known by its address.
    #[must_use]
    #[inline(always)]
    pub const fn from_address(address: Address) -> Self {
        Self { address }
    }

    /// A client known by the cookie of its network namespace.
    #[must_use]
    #[inline(always)]
    pub const fn from_netns_cookie(cookie: u64) -> Self {
        Self {
            address: Address::from_words([
                DISCARD_PREFIX[0],
                DISCARD_PREFIX[1],
                (cookie >> 32) as u32,
                cookie as u32,
            ]),
        }
    }

    /// The namespace cookie, if that is what the client is known by.
    #[must_use]
    pub const fn netns_cookie(self) -> Option<u64> {
        let words = self.address.words();
        if words[0] != DISCARD_PREFIX[0] || words[1] != DISCARD_PREFIX[1] {
            return None;
        }
        Some((words[2] as u64) << 32 | words[3] as u64)
    }

    /// The address, if that is what the client is known by.
    #[must_use]
    pub fn ip(self) -> Option<IpAddr> {
        match self.netns_cookie() {
            Some(_) => None,
            None => Some(self.address.to_ip()),
        }
    }
}

impl core::fmt::Display for Client {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.netns_cookie() {
            Some(cookie) => write!(f, "netns:{cookie}"),
            None => write!(f, "{}", self.address),
        }
    }
}

impl core::fmt::Debug for Client {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}
