//! Random numbers, from outside so that tests replay.

/// Random numbers, for retries that do not all come at one time.
pub trait Random {
    /// Any number, each as likely.
    fn next(&mut self) -> u64;
}

/// SplitMix64 from a seed. Nothing secret hangs on it.
#[derive(Debug)]
pub struct SplitMix(pub u64);

impl Random for SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
