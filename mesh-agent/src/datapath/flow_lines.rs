//! The flow table as memory: which tuples are in it, and what may be changed there while the programs write too. A tag is
//! replaced, and a backend's id, only as long as the word is what was read.

use mesh_common::{
    FLOW_WAYS, FlowCell, FlowKey, FlowLine, FlowState, FlowTag, FlowValue, SPILL_LINES, from_bytes,
};

use super::sys::Words;

const LINE_WORDS: usize = size_of::<FlowLine>() / 8;
const CELL_WORDS: usize = size_of::<FlowCell>() / 8;

/// `flows`, mapped.
#[derive(Debug)]
pub(super) struct FlowLines {
    words: Words,
    lines: u32,
    seed: u32,
}

/// Where a tuple was found, and its tag there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    line: usize,
    /// 1 to 15.
    block: usize,
    tag: u32,
}

impl FlowLines {
    /// `seed` is that of the programs in force.
    pub(super) fn new(words: Words, seed: u32) -> Self {
        let lines = u32::try_from(words.count() / LINE_WORDS).unwrap_or(u32::MAX);
        Self { words, lines, seed }
    }

    /// How many tuples of confirmed flows there is room for.
    pub(super) fn confirmed_capacity(&self) -> u64 {
        u64::from(self.main()) * u64::from(FLOW_WAYS)
    }

    /// Lines that are not the spill's.
    const fn main(&self) -> u32 {
        self.lines.saturating_sub(SPILL_LINES)
    }

    /// Whether a place is in the spill.
    pub(super) const fn is_spilled(&self, place: Place) -> bool {
        place.line >= self.main() as usize
    }

    /// How many there are.
    pub(super) fn used(&self) -> u64 {
        let used = |line| self.tags(line).count() as u64;
        (0..self.lines as usize).map(used).sum()
    }

    /// Every tuple in turn. One that comes or goes meanwhile may be seen or not.
    pub(super) fn for_each(&self, see: &mut dyn FnMut(Place, FlowKey, FlowValue)) {
        for line in 0..self.lines as usize {
            for place in self.tags(line) {
                if let Some((key, value)) = self.read(place) {
                    see(place, key, value);
                }
            }
        }
    }

    /// A tuple's place, in whichever of its lines.
    pub(super) fn find(&self, key: &FlowKey) -> Option<(Place, FlowValue)> {
        let tag = FlowTag::of(key, self.seed);
        let main = self.main();
        let numbers = [
            tag.first(main),
            tag.second(main),
            tag.third(main),
            tag.spill(main, SPILL_LINES),
        ];
        numbers.into_iter().find_map(|number| {
            let mut places = self.tags(number as usize);
            let place = places.find(|place| place.tag == tag.tag)?;
            let (found, value) = self.read(place)?;
            (found == *key).then_some((place, value))
        })
    }

    /// Frees a place; false if it is another tuple's by now.
    pub(super) fn free(&self, place: Place) -> bool {
        let word = place.line * LINE_WORDS + place.block / 2;
        let shift = tag_shift(place.block);
        self.words.change(word, |found| {
            let tag = (found >> shift) as u32;
            (tag == place.tag).then_some(found & !(u64::from(u32::MAX) << shift))
        })
    }

    /// Gives a tuple another backend, as `held_backend` makes it; false if the place is another tuple's by now.
    pub(super) fn set_backend(&self, place: Place, held: u32) -> bool {
        let word = cell(place) + FlowCell::BACKEND_WORD;
        self.words.change(word, |found| {
            let stamp = found & u64::from(u32::MAX);
            self.is_there(place)
                .then_some(stamp | u64::from(held) << 32)
        })
    }

    /// The places of a line that are taken.
    fn tags(&self, line: usize) -> impl Iterator<Item = Place> {
        let head: [u64; CELL_WORDS] =
            std::array::from_fn(|word| self.words.load(line * LINE_WORDS + word));
        (1..=FLOW_WAYS as usize).filter_map(move |block| {
            let tag = (head.get(block / 2)? >> tag_shift(block)) as u32;
            (tag != 0).then_some(Place { line, block, tag })
        })
    }

    /// Whether the flow of a place is half-open.
    pub(super) fn is_opening(&self, place: Place) -> bool {
        let state = FlowState(self.words.load(place.line * LINE_WORDS) as u32);
        u32::try_from(place.block).is_ok_and(|block| !state.is_confirmed(block))
    }

    fn is_there(&self, place: Place) -> bool {
        let word = self.words.load(place.line * LINE_WORDS + place.block / 2);
        (word >> tag_shift(place.block)) as u32 == place.tag
    }

    /// What is in a place; None if it is being written at this moment.
    fn read(&self, place: Place) -> Option<(FlowKey, FlowValue)> {
        let words: [u64; CELL_WORDS] =
            std::array::from_fn(|word| self.words.load(cell(place) + word));
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let cell = from_bytes::<FlowCell>(&bytes)?;
        let key = cell.key();
        let tag = FlowTag::of(&key, self.seed).tag;
        (tag == place.tag && self.is_there(place)).then_some((key, cell.value()))
    }
}

/// The first word of a place's cell.
const fn cell(place: Place) -> usize {
    place.line * LINE_WORDS + place.block * CELL_WORDS
}

/// Where in its word of the head a block's tag is.
const fn tag_shift(block: usize) -> u32 {
    if block.is_multiple_of(2) { 0 } else { 32 }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, net::Ipv4Addr};

    use mesh_common::{Address, Direction, Port, Protocol, flow_lines};

    use super::*;

    /// The first tuples of clients from all over the world.
    fn tuples() -> impl Iterator<Item = FlowKey> {
        let frontend = (Address::from(Ipv4Addr::new(10, 96, 0, 10)), Port::new(53));
        (0..500_000_u64).map(move |number| {
            let chance = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let address = Ipv4Addr::from_bits((chance ^ (chance >> 29)) as u32);
            let client = (address.into(), Port::new((chance >> 48) as u16));
            FlowKey::new(Direction::Ingress, Protocol::Udp, client, frontend)
        })
    }

    #[test]
    fn tuples_of_one_tag_are_not_in_one_line() {
        let lines = flow_lines(1_000_000);
        let (mut tags, mut places) = (BTreeSet::new(), BTreeSet::new());
        for key in tuples() {
            let tag = FlowTag::of(&key, 7);
            tags.insert(tag.tag);
            for line in BTreeSet::from([tag.first(lines), tag.second(lines), tag.third(lines)]) {
                assert!(places.insert((line, tag.tag)), "{key:?}");
            }
        }
        // Some have the same one, of half a million.
        assert!(tags.len() < tuples().count());
    }
}
