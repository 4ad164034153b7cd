//! Where flows lie: lines of fifteen cells, each with the tags of what is in them at its head. A look-up reads a head, which
//! is one cache line, and then the one cell that has its tag. An array of lines is mapped into the agent, which so reads
//! a million flows without a system call.
//!
//! A flow's tuple has one line in `opening` and two in `flows`, of which it takes the one with more room: so the table
//! is nearly full before the first tuple finds none. The programs fill and free cells under the lock of the line
//! (`flow_locks`); a tag is written after its cell. The agent frees a cell by replacing its tag, if it is still there.

use core::hint::black_box;

use crate::{
    Address, BackendId, Direction, Entry, FlowKey, FlowValue, Port, Seen, conntrack::spread,
    plain::plain,
};

/// Cells of a line.
pub const FLOW_WAYS: u32 = 15;

/// Locks of `flow_locks`: a line's is that of its number's low bits.
pub const FLOW_LOCKS: u32 = 1024;

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
        backend: BackendId,
    }
}

const ENTRY: u32 = 6;

impl FlowCell {
    /// In which word of eight bytes of a cell the backend's id is, in its high half; the low half is the stamp.
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
            backend: value.backend(),
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
        self.bits = (self.bits & !((1 << ENTRY) - 1)) | seen.0;
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
    /// Value of `opening` and `flows`: sixteen blocks of 64 bytes. The first is the head: `last` is the block that was filled
    /// last where all are full, `tags` those of the blocks after it, 0 where one is free.
    #[derive(Debug)]
    pub struct FlowLine { last: u32, tags: [u32; 15], cells: [FlowCell; 15] }
}

const _: () = assert!(size_of::<FlowCell>() == 64 && size_of::<FlowLine>() == 1024);

plain! {
    /// Value of `flow_locks`: the kernel's struct bpf_spin_lock, and room to eight bytes.
    #[derive(Debug)]
    pub struct FlowLock { lock: u32, room: u32 }
}

/// What a cell is known by in its line's head; never 0.
#[must_use]
#[inline(always)]
pub const fn flow_tag(key: &FlowKey) -> u32 {
    key.digest() | 1
}

/// The first line of a tag, among so many. `seed` is a number that nobody outside the host knows.
#[must_use]
#[inline(always)]
pub const fn flow_line(tag: u32, seed: u32, lines: u32) -> u32 {
    among(spread(tag ^ seed.rotate_left(16)), lines)
}

/// Its second line in `flows`.
#[must_use]
#[inline(always)]
pub const fn second_flow_line(tag: u32, seed: u32, lines: u32) -> u32 {
    among(spread(tag.rotate_left(16) ^ !seed), lines)
}

/// Lines of `flows` for so many flows: each has two tuples, and a table with 88 of 100 cells taken still refuses less
/// than one in a thousand.
#[must_use]
pub const fn flow_lines(flows: u32) -> u32 {
    let tuples = 2 * flows as u64;
    let lines = (tuples * 100).div_ceil(FLOW_WAYS as u64 * 88);
    if lines > u32::MAX as u64 {
        u32::MAX
    } else {
        lines as u32
    }
}

/// Which of its lines a tuple goes into, by their room. As long as the first has room enough the second is not looked at.
#[must_use]
#[inline(always)]
pub fn takes_second(first: u32, second: impl FnOnce() -> u32) -> bool {
    const ENOUGH: u32 = 5;
    first <= ENOUGH && second() > first
}

#[inline(always)]
const fn among(number: u32, lines: u32) -> u32 {
    ((number as u64 * lines as u64) >> 32) as u32
}

/// The block that has a tag among those from 1 to 15, 0 for none. `tag_at` reads the tag of a block; 0 looks for a free one.
#[must_use]
#[inline(always)]
pub fn flow_block(tag_at: impl Fn(u32) -> u32, tag: u32) -> u32 {
    let mut block = 1;
    // The end is hidden from the compiler: fifteen comparisons in a row are more code than a processor fetches in the time
    // of the loop. Eight bytes, because the verifier of Linux 5.10 remembers no shorter constant on the stack.
    let end = black_box(u64::from(FLOW_WAYS) + 1);
    while block < end {
        if tag_at(block as u32) == tag {
            return forget(block, tag);
        }
        block += 1;
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

/// How many of a line's blocks are free.
#[must_use]
#[inline(always)]
pub fn flow_room(tag_at: impl Fn(u32) -> u32) -> u32 {
    let mut room = 0;
    let end = black_box(u64::from(FLOW_WAYS) + 1);
    let mut block = 1;
    while block < end {
        // Arithmetic, or the verifier would walk every way through the comparisons: 1 where the tag is 0.
        room += (u64::from(tag_at(block as u32)).wrapping_sub(1) >> 63) as u32;
        block += 1;
    }
    room
}

impl FlowLine {
    /// A line that has nothing.
    pub const EMPTY: Self = Self {
        last: 0,
        tags: [0; 15],
        cells: [FlowCell::NONE; 15],
    };

    /// What is in it. A cell whose tag is another tuple's is being written at this moment.
    pub fn flows(&self) -> impl Iterator<Item = (FlowKey, FlowValue)> {
        let taken = self
            .tags
            .iter()
            .zip(&self.cells)
            .filter(|(tag, _)| **tag != 0);
        taken
            .map(|(tag, cell)| (tag, cell.key(), cell.value()))
            .filter(|(tag, key, _)| flow_tag(key) == **tag)
            .map(|(_, key, value)| (key, value))
    }

    /// Puts a tuple into a free cell; false if there is none. For who alone has the line.
    #[must_use]
    pub fn put(&mut self, key: &FlowKey, value: &FlowValue) -> bool {
        let mut places = self.tags.iter_mut().zip(&mut self.cells);
        let Some((tag, cell)) = places.find(|(tag, _)| **tag == 0) else {
            return false;
        };
        (*tag, *cell) = (flow_tag(key), FlowCell::new(key, value));
        true
    }
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

    fn block(line: &FlowLine, tag: u32) -> u32 {
        flow_block(|block| line.tags[block as usize - 1], tag)
    }

    fn room(line: &FlowLine) -> u32 {
        flow_room(|block| line.tags[block as usize - 1])
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
        let value = FlowValue::request(end, 77, 9);
        let mut cell = FlowCell::new(&request, &value);
        assert_eq!((cell.key(), cell.value()), (request, value));
        cell.note(Seen(3), 12);
        assert_eq!((cell.value().seen(), cell.value().stamp()), (Seen(3), 12));
        assert_eq!(
            (cell.value().entry(), cell.key()),
            (Some(Entry::Request), request)
        );
    }

    #[test]
    fn a_head_knows_each_of_fifteen() {
        let mut line = FlowLine::EMPTY;
        for port in 1..=15 {
            assert_eq!(block(&line, flow_tag(&key(port))), 0);
            assert_eq!(room(&line), 16 - u32::from(port));
            assert_eq!(block(&line, 0), u32::from(port));
            assert!(line.put(&key(port), &FlowValue::leaving(false, 9)));
        }
        assert!(!line.put(&key(16), &FlowValue::leaving(false, 9)));
        for port in 1..=15 {
            assert_eq!(block(&line, flow_tag(&key(port))), u32::from(port));
        }
        assert_eq!((block(&line, 0), room(&line)), (0, 0));
        assert_eq!(line.flows().count(), 15);
    }

    #[test]
    fn as_many_flows_fit_as_a_table_is_made_for() {
        const FLOWS: u16 = 3000;
        let lines = flow_lines(u32::from(FLOWS));
        let mut table = [FlowLine::EMPTY; 512];
        let table = &mut table[..lines as usize];
        let refused = (0..2 * FLOWS).filter(|number| {
            let key = key(*number);
            let tag = flow_tag(&key);
            let first = flow_line(tag, 5, lines) as usize;
            let second = second_flow_line(tag, 5, lines) as usize;
            let room = |line: usize| room(&table[line]);
            let line = if takes_second(room(first), || room(second)) {
                second
            } else {
                first
            };
            !table[line].put(&key, &FlowValue::leaving(false, 9))
        });
        assert!(refused.count() < 6);
    }
}
