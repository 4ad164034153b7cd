//! Packets changed by chance: bytes, whole fields, ends; by a number that gives the same again.

use super::Recorded;

/// An endless row of mutated packets.
#[derive(Clone, Debug)]
pub struct Mutations {
    state: u64,
}

impl Mutations {
    /// Every number is as good as any other.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// SplitMix64.
    const fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    const fn below(&mut self, end: usize) -> usize {
        if end == 0 {
            return 0;
        }
        (self.random() % end as u64) as usize
    }

    /// One of the packets, changed at up to four places.
    #[must_use]
    pub fn next(&mut self, packets: &[&Recorded]) -> Vec<u8> {
        let mut frame = packets[self.below(packets.len())].frame.clone();
        for _ in 0..=self.below(4) {
            self.change(&mut frame, packets);
        }
        frame
    }

    fn change(&mut self, frame: &mut Vec<u8>, packets: &[&Recorded]) {
        // Headers are at the beginning; behind the link header there is something to be read.
        let header = 14 + self.below(80.min(frame.len().saturating_sub(14)));
        let byte = self.random() as u8;
        match self.below(8) {
            0 | 1 => set(frame, header, byte),
            2 => {
                let bit = frame.get(header).map_or(0, |old| old ^ 1 << (byte % 8));
                set(frame, header, bit);
            }
            3 => {
                let edges = [
                    0, 1, 4, 6, 17, 43, 44, 51, 58, 60, 0x45, 0x60, 0x7f, 0x80, 0xff,
                ];
                set(frame, header, edges[self.below(edges.len())]);
            }
            4 => frame.truncate(14 + self.below(frame.len())),
            5 => {
                let more = self.below(40);
                frame.extend(std::iter::repeat_n(byte, more));
            }
            // What another packet has there.
            6 => {
                let other = &packets[self.below(packets.len())].frame;
                let end = header + self.below(16);
                for place in header..end {
                    let byte = other.get(place).copied().unwrap_or(byte);
                    set(frame, place, byte);
                }
            }
            _ => {
                let place = self.below(frame.len());
                set(frame, place, byte);
            }
        }
    }
}

fn set(frame: &mut [u8], place: usize, byte: u8) {
    if let Some(old) = frame.get_mut(place) {
        *old = byte;
    }
}
