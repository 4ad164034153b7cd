//! Where flows lie: lines of fifteen cells, each with the tags of what is in them at its head. A look-up reads a head, which
//! is one cache line, and then the one cell that has its tag. An array of lines is mapped into the agent, which so reads
//! a million flows without a system call.
//!
//! A tuple has three lines and goes into the first that is not short of room, else into the one with more; as long as its
//! first has enough nothing else is looked at, neither then nor later. The first one comes of the end with the higher port,
//! which is the client's as a rule: so the tuples of a flow lie together, and a new flow costs one visit to a place that no
//! cache has; the client's next flows go to the same page of memory. Where it is a server's, its line is full at once; the
//! second and the third come of the whole tuple.
//!
//! Half-open and confirmed flows lie side by side. A half-open one that finds no free cell there, or a third of the line with
//! others of its kind, goes into a line of the spill, where it pushes out another one; one that is confirmed there may send a
//! half-open one of its line into the spill. So newcomers push out newcomers alone, and where all is full of confirmed flows
//! there still is room for some thousands of others.
//!
//! The programs claim and free cells under the lock of the line, and write a tag after its cell. The agent
//! frees a cell by replacing its tag, if it is still there.

use core::hint::black_box;

use crate::{
    Address, Direction, Entry, FlowKey, FlowValue, Port, Seen, conntrack::spread, plain::plain,
};

/// Cells of a line.
pub const FLOW_WAYS: u32 = 15;

/// Lines of a page of memory, which a client's next connections have in common: where a page lies is known to a processor for
/// some thousands of them, and to look it up costs more than to fetch the line.
pub(crate) const NEIGHBOUR_LINES: u32 = 4;

/// Lines of the spill, which are the last ones of `flows`: 65,550 cells.
pub const SPILL_LINES: u32 = 4_370;

plain! {
    /// One tuple of a flow: `FlowKey` and `FlowValue` in one cache line. `bits` are what the value has; the entry's number
    /// is in the two highest, and says the direction.
    #[derive(Debug)]
    pub struct FlowCell {
        source: Address,
        destination: Address,
        address: Address,
        ports: u32,
        port: Port,
        protocol: u8,
        bits: u8,
        stamp: u32,
        backend: u32,
    }
}

const ENTRY: u32 = 6;

impl FlowCell {
    /// In which word of eight bytes of a cell the backend is, in its high half; the low half is the stamp.
    pub const BACKEND_WORD: usize = core::mem::offset_of!(Self, stamp) / 8;

    const NONE: Self = Self {
        source: Address::UNSPECIFIED,
        destination: Address::UNSPECIFIED,
        address: Address::UNSPECIFIED,
        ports: 0,
        port: Port::from_be(0),
        protocol: 0,
        bits: 0,
        stamp: 0,
        backend: 0,
    };

    /// A tuple and what is remembered of it.
    #[must_use]
    #[inline(always)]
    pub const fn new(key: &FlowKey, value: &FlowValue) -> Self {
        let (address, port) = value.target();
        Self {
            source: key.source().0,
            destination: key.destination().0,
            address,
            ports: key.ports(),
            port,
            protocol: key.protocol(),
            bits: value.bits() | (value.number() << ENTRY),
            stamp: value.stamp(),
            backend: value.held(),
        }
    }

    /// The tuple.
    #[must_use]
    #[inline(always)]
    pub const fn key(&self) -> FlowKey {
        FlowKey::from_parts(
            self.source,
            self.destination,
            self.ports,
            self.protocol,
            self.direction(),
        )
    }

    /// What is remembered of it.
    #[must_use]
    #[inline(always)]
    pub const fn value(&self) -> FlowValue {
        FlowValue::from_parts(
            (self.address, self.port),
            self.bits & ((1 << ENTRY) - 1),
            self.bits >> ENTRY,
            self.stamp,
            self.backend,
        )
    }

    #[inline(always)]
    const fn direction(&self) -> Direction {
        const REQUEST: u8 = Entry::Request as u8;
        const RETURNING: u8 = Entry::Returning as u8;
        match self.bits >> ENTRY {
            REQUEST | RETURNING => Direction::Ingress,
            _ => Direction::Egress,
        }
    }

    /// Whether it is this tuple's.
    #[must_use]
    #[inline(always)]
    pub fn is_of(&self, key: &FlowKey) -> bool {
        self.source == key.source().0
            && self.destination == key.destination().0
            && self.ports == key.ports()
            && self.protocol == key.protocol()
            && self.direction() as u8 == key.direction() as u8
    }

    /// Notes what was sent, and when.
    #[inline(always)]
    pub const fn note(&mut self, seen: Seen, stamp: u32) {
        self.bits = (self.bits & !Seen::BITS) | seen.0;
        self.stamp = stamp;
    }

    /// The address of a `Leaving`'s source. It counts once the port is there.
    #[inline(always)]
    pub const fn set_source_address(&mut self, address: Address) {
        self.address = address;
    }

    /// The port of a `Leaving`'s source.
    #[inline(always)]
    pub const fn set_source_port(&mut self, port: Port) {
        self.port = port;
    }
}

plain! {
    /// Value of `flows`: sixteen blocks of 64 bytes. The first is the head: `tags` are those of the blocks after it, 0 where
    /// one is free, and `state` what `FlowState` says.
    #[derive(Debug)]
    pub struct FlowLine { state: u32, tags: [u32; 15], cells: [FlowCell; 15] }
}

const _: () = assert!(size_of::<FlowCell>() == 64 && size_of::<FlowLine>() == 1024);

/// By what a tuple is found: a tag and its lines. Tag and each line come of digests of 64 bits and have all but two of
/// them: that two tuples of a table have the same tag in the same line is not to be expected. They would be taken for one
/// another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowTag {
    /// What its cell is known by in its line's head. As long as it is being filled its lowest bit is 0; never is all of it.
    pub tag: u32,
    end: u32,
    place: u32,
}

impl FlowTag {
    /// That of a tuple. `seed` is a number that nobody outside the host knows.
    #[must_use]
    #[inline(always)]
    pub const fn of(key: &FlowKey, seed: u32) -> Self {
        let (end, digest) = key.digests(seed);
        Self {
            tag: (digest >> 32) as u32 | 3,
            end: end as u32,
            place: digest as u32,
        }
    }

    /// The first line, among so many that are not the spill's, of which there are a page's at least.
    #[must_use]
    #[inline(always)]
    pub const fn first(self, lines: u32) -> u32 {
        let page = among(self.end, lines / NEIGHBOUR_LINES);
        page * NEIGHBOUR_LINES + (self.end & (NEIGHBOUR_LINES - 1))
    }

    /// The second line.
    #[must_use]
    #[inline(always)]
    pub const fn second(self, lines: u32) -> u32 {
        among(self.place, lines)
    }

    /// The third line.
    #[must_use]
    #[inline(always)]
    pub const fn third(self, lines: u32) -> u32 {
        among(spread(self.place), lines)
    }

    /// Whether both have the same first line, whatever the number of lines.
    #[must_use]
    #[inline(always)]
    pub const fn lies_with(self, other: Self) -> bool {
        self.end == other.end
    }

    /// The line in the spill, which follows so many others and has so many lines.
    #[must_use]
    #[inline(always)]
    pub const fn spill(self, lines: u32, spill: u32) -> u32 {
        lines + among(spread(!self.place), spill)
    }
}

/// A number of this host's that is the same until it starts anew, and that only root can read. `boot_id` is the text of
/// /proc/sys/kernel/random/boot_id.
#[must_use]
pub fn host_number(boot_id: &str) -> u32 {
    // FNV-1a (Fowler, Noll, Vo).
    let mix = |number: u32, byte: u8| (number ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    boot_id.bytes().fold(0x811c_9dc5, mix)
}

/// The tag while its cell is being filled: nobody finds it, and nobody else can add it.
#[must_use]
#[inline(always)]
pub const fn claimed_tag(tag: u32) -> u32 {
    tag & !1
}

/// Whether a cell with this tag is being filled.
#[must_use]
#[inline(always)]
pub const fn is_claimed(tag: u32) -> bool {
    tag & 1 == 0 && tag != 0
}

/// Lines of `flows`, without the spill, for so many flows: each has two tuples, and a table with 86 of 100 cells taken still
/// refuses less than one in a thousand.
#[must_use]
pub const fn flow_lines(flows: u32) -> u32 {
    let tuples = 2 * flows as u64;
    let lines = (tuples * 100).div_ceil(FLOW_WAYS as u64 * 86);
    let lines = lines.next_multiple_of(NEIGHBOUR_LINES as u64);
    if lines > u32::MAX as u64 {
        u32::MAX
    } else {
        lines as u32
    }
}

/// Whether a tuple's next line is looked at too, by the room in its first: it goes into the one with more room.
#[must_use]
#[inline(always)]
pub const fn is_short(room: u32) -> bool {
    room <= 7
}

#[inline(always)]
const fn among(number: u32, lines: u32) -> u32 {
    ((number as u64 * lines as u64) >> 32) as u32
}

/// Tags that are looked at in a row: all of a line's in so many are whole turns of a loop.
pub const TAGS_IN_ROW: usize = 3;

const _: () = assert!((FLOW_WAYS as usize).is_multiple_of(TAGS_IN_ROW));

/// The block that has a tag among those from 1 to 15, 0 for none. `tags_at` reads those of a block and the next ones.
#[must_use]
#[inline(always)]
pub fn flow_block(tags_at: impl Fn(u32) -> [u32; TAGS_IN_ROW], tag: u32) -> u32 {
    let mut block = 1;
    // The end is hidden from the compiler: fifteen comparisons in a row are more code than a processor fetches in the time
    // of the loop; one in each turn is more than it looks ahead while the first is not there yet. Eight bytes, because the
    // verifier of Linux 5.10 remembers no shorter constant on the stack.
    let end = black_box(u64::from(FLOW_WAYS) + 1);
    while block < end {
        let tags = tags_at(block as u32);
        let [first, second, third] = tags;
        if first == tag {
            return forget(block, tag);
        }
        if second == tag {
            return forget(block + 1, tag);
        }
        if third == tag {
            return forget(block + 2, tag);
        }
        block += TAGS_IN_ROW as u64;
    }
    0
}

/// A number up to 15 of which the kernel's verifier no longer knows how it came about: it would walk what follows once for
/// each.
#[inline(always)]
fn forget(block: u64, unknown: u32) -> u32 {
    let unknown = u64::from(unknown);
    (black_box(block.wrapping_add(unknown)).wrapping_sub(unknown) & 15) as u32
}

/// What a line's head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowHead {
    /// Whether one of the tags that are asked for is there, or a cell is being filled for it.
    pub has: bool,
    /// The blocks that are taken, as bits by their numbers.
    pub taken: u32,
}

/// A one in each half.
const ONES: u64 = 0x1_0000_0001;

impl FlowHead {
    /// Reads the head once, two words at a time: `pair_at` reads those of blocks 2n and 2n + 1, the latter into the high
    /// half.
    #[must_use]
    #[inline(always)]
    pub fn read<const N: usize>(pair_at: impl Fn(u32) -> u64, tags: [u32; N]) -> Self {
        let tags = tags.map(|tag| u64::from(tag) * ONES);
        let (mut found, mut taken) = (0_u64, 0_u64);
        let (mut pair, end) = (0_u64, black_box(u64::from(FLOW_WAYS).div_ceil(2)));
        // The first word is the line's state, which is no tag.
        let mut mask = u64::MAX << 32;
        // Arithmetic, or the verifier would walk every way through the comparisons.
        while pair < end {
            let at = pair_at(pair as u32) & mask;
            mask = u64::MAX;
            // Of a tag that is there the second bit is 1.
            let bits = (at >> 1) & ONES;
            taken |= (bits | bits >> 31) << ((2 * pair) & 15);
            for tag in tags {
                // The lowest bits are 1 here and there, so a half is 0 or at least 2: to take 1 away, and 1 more for the
                // half below, turns the highest bit of a 0 alone from 0 to 1.
                let other = (at | ONES) ^ tag;
                found |= other.wrapping_sub(ONES) & !other;
            }
            pair += 1;
        }
        Self {
            has: found & (ONES << 31) != 0,
            taken: taken as u32 & FlowState::BLOCKS,
        }
    }

    /// The first free block, 0 for none.
    #[must_use]
    #[inline(always)]
    pub const fn free(self) -> u32 {
        let free = !self.taken & FlowState::BLOCKS;
        if free == 0 { 0 } else { zeros_below(free) }
    }

    /// The same, without it.
    #[inline(always)]
    pub const fn take_free(&mut self) -> u32 {
        let block = self.free();
        self.taken |= 1 << block;
        block
    }
}

/// How many zeros are below the lowest one.
#[inline(always)]
const fn zeros_below(bits: u32) -> u32 {
    (bits & bits.wrapping_neg()).wrapping_sub(1).count_ones()
}

/// A line's state. Bits 0 to 11 are its lock: how many processors hold it or try to. Bits 12 to 15 are where the search for a
/// cell to push out begins. Bit 16 says that a tuple of this line may lie in another one or in the spill; bits 17 to 31 are
/// the confirmed ones among the blocks that are taken. Only the programs write it: the low half by atomic additions, the high
/// half under the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowState(pub u32);

impl FlowState {
    /// What is added by who wants the lock, and taken away again.
    pub const LOCK: i32 = 1;
    const LOCKS: u32 = 0xfff;
    const TURN: u32 = 12;
    const MORE: u32 = 1 << 16;
    const BLOCKS: u32 = 0xfffe;

    /// Of who has added to it: whether nobody else has.
    #[must_use]
    #[inline(always)]
    pub const fn is_mine(self) -> bool {
        self.0 & Self::LOCKS == Self::LOCK.cast_unsigned()
    }

    /// The half that is written under the lock.
    #[must_use]
    #[inline(always)]
    pub const fn high(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Whether tuples of this line may lie elsewhere.
    #[must_use]
    #[inline(always)]
    pub const fn has_more(self) -> bool {
        self.0 & Self::MORE != 0
    }

    /// From now on they may.
    #[must_use]
    #[inline(always)]
    pub const fn with_more(self) -> Self {
        Self(self.0 | Self::MORE)
    }

    /// Whether a block that is taken is a confirmed flow's.
    #[must_use]
    #[inline(always)]
    pub const fn is_confirmed(self, block: u32) -> bool {
        self.0 >> (16 + (block & 15)) & 1 != 0
    }

    /// The same with a block confirmed or not.
    #[must_use]
    #[inline(always)]
    pub const fn with(self, block: u32, is_confirmed: bool) -> Self {
        let bit = 1 << (16 + (block & 15));
        Self(if is_confirmed {
            self.0 | bit
        } else {
            self.0 & !bit
        })
    }

    /// How many blocks are not a confirmed flow's. `taken` is what the head says; with all ones it is at least so many,
    /// since what the agent has freed still counts as confirmed.
    #[must_use]
    #[inline(always)]
    pub const fn room(self, taken: u32) -> u32 {
        FLOW_WAYS - (taken & (self.0 >> 16) & Self::BLOCKS).count_ones()
    }

    /// Whether half-open flows have as many of the taken blocks as they may. A flood of them takes a third of the table, and not
    /// all the ports that may stand for clients.
    #[must_use]
    #[inline(always)]
    pub const fn has_most_open(self, taken: u32) -> bool {
        const MOST: u32 = FLOW_WAYS / 3;
        (taken & !(self.0 >> 16)).count_ones() >= MOST
    }

    /// How many blocks are free for half-open flows.
    #[must_use]
    #[inline(always)]
    pub const fn room_to_open(self, taken: u32) -> u32 {
        if self.has_most_open(taken) {
            return 0;
        }
        FLOW_WAYS - (taken & Self::BLOCKS).count_ones()
    }

    /// Of a line without a free block: the half-open one whose turn it is to go, 0 if there is none, and what to add to the
    /// state so that the next one's turn comes.
    #[must_use]
    #[inline(always)]
    pub const fn push_out(self) -> (u32, i32) {
        let open = (!(self.0 >> 16) & Self::BLOCKS) >> 1;
        let start = (self.0 >> Self::TURN) & 15;
        let turned = ((open >> start) | (open << (15 - start))) & (Self::BLOCKS >> 1);
        if turned == 0 {
            return (0, 0);
        }
        let place = start + zeros_below(turned);
        let place = if place >= FLOW_WAYS {
            place - FLOW_WAYS
        } else {
            place
        };
        let next = if place + 1 >= FLOW_WAYS { 0 } else { place + 1 };
        (
            place + 1,
            (next.cast_signed() - start.cast_signed()) << Self::TURN,
        )
    }
}

impl FlowLine {
    /// A line that has nothing.
    pub const EMPTY: Self = Self {
        state: 0,
        tags: [0; 15],
        cells: [FlowCell::NONE; 15],
    };

    /// What is in it, with whether it is half-open. A cell whose tag is another tuple's is being written at this moment.
    pub fn flows(&self, seed: u32) -> impl Iterator<Item = (FlowKey, FlowValue, bool)> {
        let state = FlowState(self.state);
        let cells = self.tags.iter().zip(&self.cells).zip(1..);
        cells
            .filter(move |((tag, cell), _)| FlowTag::of(&cell.key(), seed).tag == **tag)
            .map(move |((_, cell), block)| (cell.key(), cell.value(), !state.is_confirmed(block)))
    }

    fn room(&self) -> u32 {
        let free = self.tags.iter().filter(|tag| **tag == 0);
        free.count() as u32
    }

    fn put(&mut self, tag: FlowTag, cell: FlowCell, is_confirmed: bool) -> bool {
        let mut places = self.tags.iter_mut().zip(&mut self.cells).zip(1..);
        let Some(((free, place), block)) = places.find(|((tag, _), _)| **tag == 0) else {
            return false;
        };
        (*free, *place) = (tag.tag, cell);
        self.state = FlowState(self.state).with(block, is_confirmed).0;
        true
    }
}

/// Puts a tuple where the programs would put it among these lines, which are all but those of the spill; false if there is no
/// room. For who alone has the table.
#[must_use]
pub fn put_flow(
    lines: &mut [FlowLine],
    seed: u32,
    (key, value): (&FlowKey, &FlowValue),
    is_confirmed: bool,
) -> bool {
    let (tag, count) = (FlowTag::of(key, seed), lines.len() as u32);
    let mut chosen = tag.first(count) as usize;
    for other in [tag.second(count) as usize, tag.third(count) as usize] {
        let room = |number: usize| lines.get(number).map_or(0, FlowLine::room);
        if !is_short(room(chosen)) {
            break;
        }
        if room(other) > room(chosen) {
            chosen = other;
        }
    }
    if chosen != tag.first(count) as usize
        && let Some(first) = lines.get_mut(tag.first(count) as usize)
    {
        first.state = FlowState(first.state).with_more().0;
    }
    let line = lines.get_mut(chosen);
    line.is_some_and(|line| line.put(tag, FlowCell::new(key, value), is_confirmed))
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;
    use crate::Protocol;

    fn key(port: u16) -> FlowKey {
        let end = |host, port| (Ipv4Addr::new(10, 0, 0, host).into(), Port::new(port));
        FlowKey::new(Direction::Egress, Protocol::Udp, end(1, port), end(2, 53))
    }

    const SEED: u32 = 5;

    fn tag(port: u16) -> FlowTag {
        FlowTag::of(&key(port), SEED)
    }

    fn put(line: &mut FlowLine, port: u16, is_confirmed: bool) -> bool {
        let cell = FlowCell::new(&key(port), &FlowValue::leaving(false, 9));
        line.put(tag(port), cell, is_confirmed)
    }

    fn block(line: &FlowLine, tag: u32) -> u32 {
        let at = |block: u32| core::array::from_fn(|next| line.tags[block as usize - 1 + next]);
        flow_block(at, tag)
    }

    fn head<const N: usize>(line: &FlowLine, tags: [u32; N]) -> FlowHead {
        let word = |block: u32| match block {
            0 => line.state,
            block => line.tags[block as usize - 1],
        };
        let pair = |pair| u64::from(word(2 * pair)) | u64::from(word(2 * pair + 1)) << 32;
        FlowHead::read(pair, tags)
    }

    fn room(line: &FlowLine) -> u32 {
        FlowState(line.state).room(head(line, []).taken)
    }

    #[test]
    fn a_cell_gives_back_what_was_put_in() {
        let end = (Address::from_v4_word(7), Port::new(1024));
        let mut leaving = FlowValue::leaving(true, 9);
        leaving.set_source_address(end.0);
        leaving.set_source_port(end.1);
        let mut noted = FlowValue::reply(end, 9);
        noted.note(Seen(7), 10);
        for value in [leaving, noted] {
            let cell = FlowCell::new(&key(4), &value);
            assert_eq!((cell.key(), cell.value()), (key(4), value));
            assert!(cell.is_of(&key(4)) && !cell.is_of(&key(5)) && !cell.is_of(&key(4).reversed()));
        }
        let request = key(4).request(end);
        let value = FlowValue::request(end, (77, 3), 9);
        let mut cell = FlowCell::new(&request, &value);
        assert_eq!((cell.key(), cell.value()), (request, value));
        assert!(cell.value().may_have_leaving());
        let mut value = value.without_leaving();
        value.note(Seen(5), 11);
        cell = FlowCell::new(&request, &value);
        assert_eq!((cell.value(), cell.value().seen()), (value, Seen(5)));
        cell.note(Seen(3), 12);
        assert_eq!((cell.value().seen(), cell.value().stamp()), (Seen(3), 12));
        assert!(!value.may_have_leaving() && !cell.value().may_have_leaving());
        assert_eq!(
            (cell.value().entry(), cell.key()),
            (Some(Entry::Request), request)
        );
    }

    #[test]
    fn a_head_knows_each_of_fifteen() {
        let mut line = FlowLine::EMPTY;
        for port in 1..=15 {
            assert_eq!(block(&line, tag(port).tag), 0);
            assert_eq!(room(&line), 15 - u32::from(port - 1).div_ceil(2));
            let known = head(&line, [tag(99).tag, tag(port.max(2) - 1).tag, tag(98).tag]);
            assert_eq!((known.has, known.free()), (port > 1, u32::from(port)));
            assert!(!head(&line, [tag(port).tag, tag(16).tag]).has);
            assert!(put(&mut line, port, port % 2 == 1));
        }
        assert!(!put(&mut line, 16, true));
        for port in 1..=15 {
            assert_eq!(block(&line, tag(port).tag), u32::from(port));
        }
        assert_eq!((block(&line, 0), room(&line)), (0, 7));
        assert_eq!(
            line.flows(SEED)
                .filter(|(_, _, is_opening)| !is_opening)
                .count(),
            8
        );
    }

    /// Against one word after the other, with tags that differ by a bit, claimed ones, and states that look like tags.
    #[test]
    fn a_head_read_by_pairs_says_the_same() {
        let mut random = 1_u64;
        let mut next = |below: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) % below
        };
        let tags = [3, 7, 0x8000_0003, 0x8000_0007, 0x4000_0003, u32::MAX];
        for _ in 0..100_000 {
            let mut line = FlowLine::EMPTY;
            let mut any = || match next(9) {
                0 => tags[next(6) as usize],
                1 => claimed_tag(tags[next(6) as usize]),
                _ => 0,
            };
            line.state = any();
            line.tags = [0; 15].map(|_: u32| any());
            let asked = [0; 3].map(|_: u32| tags[next(6) as usize]);
            let found = head(&line, asked);
            let is_there = |tag: &u32| {
                let known = |at: &u32| *at == *tag || *at == claimed_tag(*tag);
                line.tags.iter().any(known)
            };
            assert_eq!(
                found.has,
                asked.iter().any(is_there),
                "{asked:x?} {line:x?}"
            );
            let taken = (1..).zip(line.tags).filter(|(_, tag)| *tag != 0);
            let taken: u32 = taken.map(|(block, _): (u32, u32)| 1 << block).sum();
            assert_eq!(found.taken, taken, "{line:x?}");
        }
    }

    #[test]
    fn half_open_ones_go_in_turn_and_confirmed_ones_never() {
        let mut state = FlowState(0).with_more();
        for block in [2, 3, 9, 15] {
            state = state.with(block, true);
        }
        let mut gone = [0; 22];
        for block in &mut gone {
            let (pushed, turn) = state.push_out();
            (*block, state) = (pushed, FlowState(state.0.wrapping_add_signed(turn)));
        }
        let turn = [1, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14];
        assert_eq!((&gone[..11], &gone[11..]), (&turn[..], &turn[..]));
        assert!(state.has_more() && state.is_confirmed(9) && !state.is_confirmed(10));
        let full = (1..=15).fold(state, |state, block| state.with(block, true));
        assert_eq!(full.push_out(), (0, 0));
        assert!(!full.with(9, false).is_confirmed(9));
        assert_eq!((full.room(u32::MAX), full.room(1 << 9)), (0, 14));
        assert!(!full.has_most_open(0xfffe) && FlowState(0).has_most_open(0x3e));
        assert!(!FlowState(0).has_most_open(0x1e) && !state.has_most_open(0x803e));
        let held = FlowState(full.0 + 1);
        assert!(held.is_mine() && !FlowState(held.0 + 1).is_mine() && !full.is_mine());
        assert_eq!(held.high(), full.high());
    }

    /// Request and reply of a client: as a rule both have the same first line.
    fn pair(client: u16) -> [FlowKey; 2] {
        pair_with(client, 8080)
    }

    fn pair_with(client: u16, backend: u16) -> [FlowKey; 2] {
        let end = |host, port| (Ipv4Addr::new(10, 0, 0, host).into(), Port::new(port));
        let client = end(1, 20_000 + client);
        let request = FlowKey::new(Direction::Ingress, Protocol::Tcp, client, end(2, 80));
        [request, request.reply(end(3, backend))]
    }

    #[test]
    fn a_flow_lies_together() {
        let [request, reply] = pair(7).map(|key| FlowTag::of(&key, SEED));
        assert!(request.lies_with(reply) && request.tag != reply.tag);
        assert_eq!(request.first(1000), reply.first(1000));
        let other = FlowTag::of(&pair(8)[0], SEED);
        assert!(!request.lies_with(other));
        let udp = FlowKey::new(
            Direction::Ingress,
            Protocol::Udp,
            pair(7)[0].source(),
            pair(7)[0].destination(),
        );
        assert!(!request.lies_with(FlowTag::of(&udp, SEED)));
    }

    #[test]
    fn a_clients_next_flows_go_to_the_same_page() {
        let lines = flow_lines(100_000);
        let line = |client| FlowTag::of(&pair(client)[0], SEED).first(lines);
        let page = line(0) / NEIGHBOUR_LINES * NEIGHBOUR_LINES;
        assert_eq!([0, 2, 4, 6].map(line), [0, 1, 2, 3].map(|next| page + next));
        assert_ne!(
            [1, 8].map(line).map(|line| line / NEIGHBOUR_LINES),
            [page / NEIGHBOUR_LINES; 2]
        );
        for pairs in [0, 1, 3, 7].map(|client| [pair(0), pair(client + 1)]) {
            let [a, b] = pairs.map(|pair| pair.map(|key| FlowTag::of(&key, SEED).tag));
            assert!(a[0] != b[0] && a[1] != b[1] && a[0] != a[1] && b[0] != b[1]);
        }
    }

    #[test]
    fn as_many_flows_fit_as_a_table_is_made_for() {
        const FLOWS: u16 = 3000;
        let lines = flow_lines(u32::from(FLOWS));
        // The second is higher than the clients' ports: the first line of all replies is the same.
        for (backend, step) in [(8080, 1), (50_051, 1), (8080, 2), (8080, 8)] {
            let mut table = [FlowLine::EMPTY; 512];
            let table = &mut table[..lines as usize];
            let value = FlowValue::leaving(false, 9);
            let flows = (0..FLOWS).flat_map(|client| pair_with(client * step, backend));
            let refused = flows.filter(|key| !put_flow(table, SEED, (key, &value), true));
            let refused = refused.count();
            assert!(refused < 6, "{backend}, {step}: {refused}");
        }
    }
}
