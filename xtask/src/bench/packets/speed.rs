//! How fast the machine is at a moment. One that shares its processors with others has more than one speed, and changes between
//! them within seconds. A fixed piece of work beside what is measured tells them apart, whatever comes out of the measurement.
//! In: blocks of calls, each with what the fixed work took meanwhile. Out: which of them ran at full speed.

use std::time::Instant;

use anyhow::Result;
use mesh_lab::packet::EmptyProgram;

use super::hooks::median;

/// The fixed work: a program without instructions, with one frame; its system call is timed.
pub(super) struct Yardstick<'a> {
    program: &'a EmptyProgram,
    frame: Vec<u8>,
}

impl<'a> Yardstick<'a> {
    pub(super) const fn new(program: &'a EmptyProgram, frame: Vec<u8>) -> Self {
        Self { program, frame }
    }

    /// Nanoseconds that it takes now.
    pub(super) fn nanoseconds(&self) -> Result<i64> {
        let began = Instant::now();
        self.program.run(&self.frame)?;
        Ok(i64::try_from(began.elapsed().as_nanos())?)
    }
}

/// A number of calls one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    /// What they cost, in nanoseconds.
    pub(super) cost: i64,
    /// What the fixed work took beside them: the median.
    pub(super) yardstick: i64,
}

/// How much slower than at its fastest the fixed work may be, in percent: the speeds are further apart than that, and the
/// medians of one speed are closer together.
pub(super) const TOLERANCE: i64 = 15;

/// At its fastest are so many of a hundred blocks of a run: one alone may be a chance.
const FASTEST: usize = 5;

/// The longest that the fixed work takes at full speed, by all blocks of a run. The machine may be slow all the time, so the
/// figure is to be shown: runs of one machine are compared by it.
pub(super) fn limit<'a>(blocks: impl Iterator<Item = &'a Block>) -> i64 {
    let mut yardsticks: Vec<i64> = blocks.map(|block| block.yardstick).collect();
    yardsticks.sort_unstable();
    let fastest = yardsticks.get(yardsticks.len() * FASTEST / 100);
    fastest.copied().unwrap_or_default() * (100 + TOLERANCE) / 100
}

/// The median cost of the blocks that ran at full speed, and how many those are.
pub(super) fn at_full_speed(blocks: &[Block], limit: i64) -> (Option<i64>, usize) {
    let fast = blocks.iter().filter(|block| block.yardstick <= limit);
    let mut costs: Vec<i64> = fast.map(|block| block.cost).collect();
    let count = costs.len();
    ((count > 0).then(|| median(&mut costs)), count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_counts_by_its_yardstick_and_not_by_its_cost() {
        let block = |cost, yardstick| Block { cost, yardstick };
        let blocks = [
            block(500, 1000),
            block(900, 1150),
            block(300, 1151),
            block(510, 1010),
            block(700, 1500),
        ];
        let limit = limit(blocks.iter());
        assert_eq!(limit, 1150);
        assert_eq!(at_full_speed(&blocks, limit), (Some(510), 3));
        assert_eq!(at_full_speed(&blocks[4..], limit), (None, 0));
    }

    #[test]
    fn one_fast_block_in_a_hundred_is_a_chance() {
        let yardsticks = std::iter::once(500).chain([1000; 99]);
        let blocks: Vec<Block> = yardsticks
            .map(|yardstick| Block { cost: 1, yardstick })
            .collect();
        assert_eq!(limit(blocks.iter()), 1150);
    }
}
