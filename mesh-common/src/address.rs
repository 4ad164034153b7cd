//! Addresses and ports as every map holds them: sixteen bytes, IPv4 as v4-mapped IPv6 (RFC 4291, 2.5.5.2), network order.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::plain::plain;

plain! {
    /// An IP address: four words whose bytes in memory are in network order.
    #[derive(Hash, Default)]
    pub struct Address { words: [u32; 4] }
}

const MAPPED: u32 = 0xffff_u32.to_be();

impl Address {
    /// The unspecified address `::`.
    pub const UNSPECIFIED: Self = Self { words: [0; 4] };

    /// From the word the kernel keeps for IPv4, network order.
    #[must_use]
    #[inline(always)]
    pub const fn from_v4_word(word: u32) -> Self {
        Self {
            words: [0, 0, MAPPED, word],
        }
    }

    /// From the four words the kernel keeps for IPv6, network order.
    #[must_use]
    #[inline(always)]
    pub const fn from_words(words: [u32; 4]) -> Self {
        Self { words }
    }

    /// The four words, network order.
    #[must_use]
    #[inline(always)]
    pub const fn words(self) -> [u32; 4] {
        self.words
    }

    /// The IPv4 word in network order; meaningful only if `is_v4`.
    #[must_use]
    #[inline(always)]
    pub const fn v4_word(self) -> u32 {
        self.words[3]
    }

    /// Whether this is a v4-mapped address.
    #[must_use]
    #[inline(always)]
    pub const fn is_v4(self) -> bool {
        self.words[0] == 0 && self.words[1] == 0 && self.words[2] == MAPPED
    }

    /// Whether it is `::`.
    #[must_use]
    #[inline(always)]
    pub const fn is_unspecified(self) -> bool {
        let [a, b, c, d] = self.words;
        a | b | c | d == 0
    }

    /// 127.0.0.1 and ::1.
    pub const LOOPBACK: [Self; 2] = [
        Self::from_v4_word(0x7f00_0001_u32.to_be()),
        Self::from_words([0, 0, 0, 1_u32.to_be()]),
    ];

    /// Whether it means nothing beyond its host or its link: 0/8, loopback, link-local, unspecified.
    #[must_use]
    #[inline(always)]
    pub const fn is_local_scope(self) -> bool {
        const LOOPBACK: u32 = 1_u32.to_be();
        let [a, b, c, d] = self.words;
        if self.is_v4() {
            let number = u32::from_be(d);
            return matches!(number >> 24, 0 | 127) || number >> 16 == 0xa9fe;
        }
        let is_first = a == 0 && b == 0 && c == 0 && (d == 0 || d == LOOPBACK);
        is_first || u32::from_be(a) >> 22 == 0x3fa
    }

    /// As the standard library's type, IPv4 unmapped.
    #[must_use]
    pub fn to_ip(self) -> IpAddr {
        if self.is_v4() {
            return IpAddr::V4(Ipv4Addr::from(self.words[3].to_ne_bytes()));
        }
        let mut octets = [0; 16];
        for (chunk, word) in octets.chunks_exact_mut(4).zip(self.words) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        IpAddr::V6(Ipv6Addr::from(octets))
    }
}

impl From<Ipv4Addr> for Address {
    fn from(address: Ipv4Addr) -> Self {
        Self::from_v4_word(u32::from_ne_bytes(address.octets()))
    }
}

impl From<Ipv6Addr> for Address {
    fn from(address: Ipv6Addr) -> Self {
        let octets = address.octets();
        let mut words = [0; 4];
        for (word, chunk) in words.iter_mut().zip(octets.chunks_exact(4)) {
            *word = u32::from_ne_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        }
        Self { words }
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => v6.into(),
        }
    }
}

impl Ord for Address {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.words
            .map(u32::from_be)
            .cmp(&other.words.map(u32::from_be))
    }
}

impl PartialOrd for Address {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl core::fmt::Debug for Address {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(&self.to_ip(), f)
    }
}

impl core::fmt::Display for Address {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(&self.to_ip(), f)
    }
}

plain! {
    /// A port in network order.
    #[derive(Hash, Default)]
    pub struct Port { word: u16 }
}

impl Port {
    /// From the number as people write it.
    #[must_use]
    #[inline(always)]
    pub const fn new(port: u16) -> Self {
        Self { word: port.to_be() }
    }

    /// From network order.
    #[must_use]
    #[inline(always)]
    pub const fn from_be(word: u16) -> Self {
        Self { word }
    }

    /// In network order.
    #[must_use]
    #[inline(always)]
    pub const fn to_be(self) -> u16 {
        self.word
    }

    /// The number as people write it.
    #[must_use]
    #[inline(always)]
    pub const fn get(self) -> u16 {
        u16::from_be(self.word)
    }
}

impl Ord for Port {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.get().cmp(&other.get())
    }
}

impl PartialOrd for Port {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl core::fmt::Debug for Port {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(&self.get(), f)
    }
}

impl core::fmt::Display for Port {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(&self.get(), f)
    }
}
