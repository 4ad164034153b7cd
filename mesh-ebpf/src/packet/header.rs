//! What is read from an IP header, be it the packet's own or that of the packet in an ICMP error.

use mesh_common::Address;

/// A word as it lies in the header.
#[inline(always)]
const fn word<const N: usize>(header: &[u8; N], at: usize) -> u32 {
    u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

/// Source and destination of an IPv4 header.
#[inline(always)]
pub(super) const fn v4_addresses(header: &[u8; 20]) -> (Address, Address) {
    (
        Address::from_v4_word(word(header, 12)),
        Address::from_v4_word(word(header, 16)),
    )
}

/// Bytes of an IPv4 header with its options; None if it is none.
#[inline(always)]
pub(super) const fn v4_length(header: &[u8; 20]) -> Option<u32> {
    let length = (header[0] & 0xf) as u32 * 4;
    if header[0] >> 4 != 4 || length < 20 {
        return None;
    }
    Some(length)
}

/// Source and destination of an IPv6 header.
#[inline(always)]
pub(super) const fn v6_addresses(header: &[u8; 40]) -> (Address, Address) {
    (v6_address(header, 8), v6_address(header, 24))
}

#[inline(always)]
const fn v6_address(header: &[u8; 40], at: usize) -> Address {
    Address::from_words([
        word(header, at),
        word(header, at + 4),
        word(header, at + 8),
        word(header, at + 12),
    ])
}
