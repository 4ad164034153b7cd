//! Clients that nobody had to look at: the addresses that a network namespace's own connections showed. What the agent
//! knows (`ClientAddresses`) goes before; this is for namespaces that it has not entered, or may not enter.

use crate::{Address, plain::plain};

plain! {
    /// Value of `learned_clients`, by the cookie of a network namespace. The cookie is in the value too: an element that
    /// is reused while it is read is another's.
    #[derive(Debug)]
    pub struct LearnedClient { cookie: u64, v4: Address, v6: Address, several_v4: u32, several_v6: u32 }
}

impl LearnedClient {
    /// A namespace that has not connected yet.
    #[must_use]
    #[inline(always)]
    pub const fn new(cookie: u64) -> Self {
        Self {
            cookie,
            v4: Address::UNSPECIFIED,
            v6: Address::UNSPECIFIED,
            several_v4: 0,
            several_v6: 0,
        }
    }

    /// Whose it is.
    #[must_use]
    #[inline(always)]
    pub const fn cookie(&self) -> u64 {
        self.cookie
    }

    /// The only address of a family that connections showed.
    #[must_use]
    #[inline(always)]
    pub const fn address(&self, is_v4: bool) -> Option<Address> {
        let (address, several) = if is_v4 {
            (self.v4, self.several_v4)
        } else {
            (self.v6, self.several_v6)
        };
        if several != 0 || address.is_unspecified() {
            return None;
        }
        Some(address)
    }

    /// The same with the address of one connection more; None if that changes nothing. Of two addresses of a family none
    /// is the client's: which one a connection to come will use is not guessed.
    #[must_use]
    #[inline(always)]
    pub fn with(mut self, address: Address) -> Option<Self> {
        let (known, several) = if address.is_v4() {
            (&mut self.v4, &mut self.several_v4)
        } else {
            (&mut self.v6, &mut self.several_v6)
        };
        if *several != 0 || *known == address {
            return None;
        }
        if known.is_unspecified() {
            *known = address;
        } else {
            *several = 1;
        }
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::net::IpAddr;

    use super::*;

    fn address(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn one_address_is_the_clients_and_two_are_nobodys() {
        let (first, second, v6) = (address("10.1.0.2"), address("10.1.0.3"), address("fd00::2"));
        let known = LearnedClient::new(7).with(first).unwrap().with(v6).unwrap();
        assert_eq!(known.cookie(), 7);
        assert_eq!(known.address(true), Some(first));
        assert_eq!(known.address(false), Some(v6));
        assert_eq!(known.with(first), None, "nothing new");
        let several = known.with(second).unwrap();
        assert_eq!(several.address(true), None);
        assert_eq!(several.address(false), Some(v6));
        assert_eq!(several.with(first), None, "it stays so");
    }
}
