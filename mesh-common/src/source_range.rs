//! Source ranges: whom the load balancer's addresses of a Service are open to.

use crate::{Address, ServiceId, plain::plain};

/// Bits of `service`, which every prefix covers whole.
const SERVICE_BITS: u32 = 32;

plain! {
    /// Key of `source_ranges`, a trie of prefixes (BPF_MAP_TYPE_LPM_TRIE): the bits that count, of service id and
    /// address together. Of IPv4 they count the 96 that make it a mapped address, too.
    pub struct SourceRangeKey { prefix_bits: u32, service: ServiceId, address: Address }
}

impl SourceRangeKey {
    /// A range: the first so many bits of an address of 16 bytes.
    #[must_use]
    pub const fn new(service: ServiceId, address: Address, address_bits: u32) -> Self {
        Self {
            prefix_bits: SERVICE_BITS + address_bits,
            service,
            address,
        }
    }

    /// One client, to be looked up.
    #[must_use]
    #[inline(always)]
    pub const fn client(service: ServiceId, address: Address) -> Self {
        Self::new(service, address, 128)
    }

    /// The service port.
    #[must_use]
    pub const fn service(self) -> ServiceId {
        self.service
    }

    /// The range's first address.
    #[must_use]
    pub const fn address(self) -> Address {
        self.address
    }

    /// Bits that count of the 128 of the address.
    #[must_use]
    pub const fn address_bits(self) -> u32 {
        self.prefix_bits.saturating_sub(SERVICE_BITS)
    }

    /// Whether an address is in the range.
    #[must_use]
    pub fn covers(self, address: Address) -> bool {
        let number = |address: Address| {
            let words = address.words().map(u32::from_be);
            words
                .into_iter()
                .fold(0_u128, |number, word| number << 32 | u128::from(word))
        };
        let free = 128_u32.saturating_sub(self.address_bits());
        let differing = number(self.address) ^ number(address);
        differing.checked_shr(free).unwrap_or(0) == 0
    }

    /// By service port, so that those of one stand together.
    const fn parts(self) -> (ServiceId, Address, u32) {
        (self.service, self.address, self.prefix_bits)
    }
}

impl Ord for SourceRangeKey {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for SourceRangeKey {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl core::fmt::Debug for SourceRangeKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "service {} from {}/{}",
            self.service,
            self.address,
            if self.address.is_v4() && self.address_bits() >= 96 {
                self.address_bits() - 96
            } else {
                self.address_bits()
            }
        )
    }
}
