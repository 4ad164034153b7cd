//! Who has which region of `slots`. Regions are powers of two in size and aligned to it (buddies), with room to grow
//! in place.

use std::collections::BTreeSet;

use super::{Time, rest::Resting};

/// 2^order slots from `base`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) base: u32,
    pub(super) order: u32,
}

/// The smallest region has four slots.
const MIN_ORDER: u32 = 2;

impl Region {
    /// The order of a new region for so many backends: at least one more fits without growth.
    pub(super) fn order_for(count: u32) -> u32 {
        Self::order_of(count.saturating_add(1))
    }

    /// The order of the smallest region that holds so many.
    pub(super) fn order_of(count: u32) -> u32 {
        count
            .checked_next_power_of_two()
            .map_or(31, u32::trailing_zeros)
            .max(MIN_ORDER)
    }

    pub(super) const fn capacity(self) -> u32 {
        1 << self.order
    }
}

/// Free blocks by order.
#[derive(Clone, Debug)]
pub(super) struct Blocks(Vec<BTreeSet<u32>>);

impl Blocks {
    fn new(capacity: u32) -> Self {
        let mut blocks = Self(vec![BTreeSet::new(); 32]);
        let mut base = 0;
        while base < capacity {
            let order = base.trailing_zeros().min((capacity - base).ilog2()).min(31);
            blocks.insert(Region { base, order });
            base += 1 << order;
        }
        blocks
    }

    fn insert(&mut self, region: Region) {
        if let Some(free) = self.0.get_mut(region.order as usize) {
            free.insert(region.base);
        }
    }

    fn remove(&mut self, region: Region) -> bool {
        self.0
            .get_mut(region.order as usize)
            .is_some_and(|free| free.remove(&region.base))
    }

    /// A free region, from the smallest block that holds one.
    pub(super) fn find(&self, order: u32) -> Option<Region> {
        self.0
            .iter()
            .skip(order as usize)
            .find_map(|free| free.first())
            .map(|base| Region { base: *base, order })
    }

    /// Takes a region out of the free block that it is in. False if it is not free as a whole.
    pub(super) fn take(&mut self, region: Region) -> bool {
        if !region.base.is_multiple_of(region.capacity()) {
            return false;
        }
        let block = |order: u32| Region {
            base: region.base >> order << order,
            order,
        };
        let Some(order) = (region.order..32).find(|order| self.remove(block(*order))) else {
            return false;
        };
        for order in region.order..order {
            let own = block(order);
            self.insert(Region {
                base: own.base ^ own.capacity(),
                order,
            });
        }
        true
    }

    /// A region is free; with its buddy, if that is free too, it is one of the next order.
    fn give(&mut self, mut region: Region) {
        while region.order < 31 {
            let buddy = Region {
                base: region.base ^ region.capacity(),
                order: region.order,
            };
            if !self.remove(buddy) {
                break;
            }
            region = Region {
                base: region.base.min(buddy.base),
                order: region.order + 1,
            };
        }
        self.insert(region);
    }
}

/// All of `slots`.
#[derive(Clone, Debug)]
pub(super) struct Regions {
    capacity: u32,
    free: Blocks,
    resting: Resting<Region>,
}

impl Regions {
    pub(super) fn new(capacity: u32) -> Self {
        Self {
            capacity,
            free: Blocks::new(capacity),
            resting: Resting::default(),
        }
    }

    pub(super) fn free(&self) -> &Blocks {
        &self.free
    }

    pub(super) fn take(&mut self, region: Region) -> bool {
        self.free.take(region)
    }

    pub(super) fn rest(&mut self, region: Region, now: Time) {
        self.resting.push(region, now);
    }

    /// Whatever is free below a slot rests.
    pub(super) fn rest_below(&mut self, end: usize, now: Time) {
        let end = u32::try_from(end).unwrap_or(u32::MAX).min(self.capacity);
        for base in (0..end).step_by(1 << MIN_ORDER) {
            let region = Region {
                base,
                order: MIN_ORDER,
            };
            if self.take(region) {
                self.rest(region, now);
            }
        }
    }

    /// Ends the rests that are over. Says whether there were any.
    pub(super) fn settle(&mut self, now: Time) -> bool {
        let before = self.resting.len();
        while let Some(region) = self.resting.pop(now) {
            self.free.give(region);
        }
        self.resting.len() < before
    }

    pub(super) fn next_rest(&self) -> Option<Time> {
        self.resting.next()
    }

    /// Slots in regions, rests included.
    pub(super) fn used(&self) -> usize {
        let free: usize = self
            .free
            .0
            .iter()
            .enumerate()
            .map(|(order, bases)| bases.len() << order)
            .sum();
        (self.capacity as usize).saturating_sub(free)
    }

    pub(super) fn capacity(&self) -> u32 {
        self.capacity
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Regions never overlap, and once all are free and rested the space is whole again.
        #[test]
        fn blocks_are_disjoint_and_merge(
            capacity in 1u32..5000,
            orders in prop::collection::vec((2u32..8, any::<bool>()), 1..60),
        ) {
            let mut regions = Regions::new(capacity);
            let whole = regions.free.0.clone();
            let mut held: Vec<Region> = Vec::new();
            for (order, drop) in orders {
                if let Some(region) = regions.free().find(order) {
                    prop_assert!(regions.take(region));
                    prop_assert!(region.base + region.capacity() <= capacity);
                    for other in &held {
                        let apart = region.base >= other.base + other.capacity()
                            || other.base >= region.base + region.capacity();
                        prop_assert!(apart);
                    }
                    held.push(region);
                }
                if drop && !held.is_empty() {
                    regions.rest(held.swap_remove(0), Time::ZERO);
                    regions.settle(super::super::REST);
                }
            }
            for region in held {
                regions.rest(region, Time::ZERO);
            }
            prop_assert!(!regions.settle(Time::ZERO));
            regions.settle(super::super::REST);
            prop_assert_eq!(regions.free.0, whole);
        }

        #[test]
        fn orders_hold_what_they_are_for(count in 0u32..1_000_000) {
            prop_assert!(1u32 << Region::order_of(count) >= count);
            prop_assert!(1u32 << Region::order_for(count) > count);
        }
    }
}
