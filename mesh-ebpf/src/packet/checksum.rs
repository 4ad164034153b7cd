//! The Internet checksum (RFC 1071) and its change by parts (RFC 1624), computed as the kernel computes it, so that the
//! same bytes come out. Words are as they lie in memory: the sum does not care about byte order.

use mesh_common::{Address, Port};

/// A difference of sums, as bpf_l4_csum_replace takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference(pub u32);

#[inline(always)]
const fn fold_to_32(sum: u64) -> u32 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    ((sum & 0xffff_ffff) + (sum >> 32)) as u32
}

#[inline(always)]
const fn add(a: u32, b: u32) -> u32 {
    fold_to_32(a as u64 + b as u64)
}

/// The sum as the header has it (csum_fold).
#[inline(always)]
pub(crate) const fn fold(sum: u32) -> u16 {
    let sum = (sum >> 16) + (sum & 0xffff);
    !(((sum >> 16) + sum) as u16)
}

impl Difference {
    /// One word for another.
    #[inline(always)]
    pub(crate) const fn of_words(from: u32, to: u32) -> Self {
        Self(add(to, !from))
    }

    /// One 16-bit word for another.
    #[inline(always)]
    pub(crate) const fn of_halves(from: u16, to: u16) -> Self {
        Self::of_words(from as u32, to as u32)
    }

    /// One port for another.
    #[inline(always)]
    pub(crate) const fn of_ports(from: Port, to: Port) -> Self {
        Self::of_halves(from.to_be(), to.to_be())
    }

    /// One address for another of its family.
    #[inline(always)]
    pub(crate) const fn of_addresses(is_v4: bool, from: Address, to: Address) -> Self {
        if is_v4 {
            return Self::of_words(from.v4_word(), to.v4_word());
        }
        let ([a, b, c, d], [e, f, g, h]) = (from.words(), to.words());
        let sum = !a as u64 + !b as u64 + !c as u64 + !d as u64;
        Self(fold_to_32(sum + e as u64 + f as u64 + g as u64 + h as u64))
    }

    /// A checksum after the change (csum_replace_by_diff).
    #[inline(always)]
    pub const fn apply(self, checksum: u16) -> u16 {
        fold(add(self.0, !(checksum as u32)))
    }

    /// The sum of a pseudo header after the change, which is all that is there of a checksum that a device finishes
    /// (inet_proto_csum_replace_by_diff with CHECKSUM_PARTIAL).
    #[cfg(any(test, feature = "sim"))]
    pub(crate) const fn apply_to_partial(self, sum: u16) -> u16 {
        !fold(add(self.0, sum as u32))
    }
}

/// A sum that grows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sum(u64);

impl Sum {
    pub(crate) const EMPTY: Self = Self(0);

    #[inline(always)]
    pub(crate) const fn word(self, word: u32) -> Self {
        Self(self.0 + word as u64)
    }

    #[inline(always)]
    pub(crate) const fn address(self, is_v4: bool, address: Address) -> Self {
        let [a, b, c, d] = address.words();
        if is_v4 {
            return self.word(d);
        }
        self.word(a).word(b).word(c).word(d)
    }

    /// The checksum over all of it.
    #[inline(always)]
    pub(crate) const fn finish(self) -> u16 {
        fold(fold_to_32(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_by_parts_is_the_sum_anew() {
        let words = [0x4500_003c_u32, 0x1c46_4000, 0x4006_0000, 0xac10_0a63];
        let sum = |last: u32| {
            let all = words.iter().fold(Sum::EMPTY, |sum, word| sum.word(*word));
            all.word(last).finish()
        };
        let (from, to) = (0xac10_0a0c, 0x0a60_0001);
        assert_eq!(Difference::of_words(from, to).apply(sum(from)), sum(to));
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let sum = Sum::EMPTY.word(0x0001_f203).word(0xf4f5_f6f7);
        assert_eq!(sum.finish(), !0xddf2);
    }
}
