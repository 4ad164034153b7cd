//! Where flows lie: lines of fifteen cells, each with the tags of what is in them at its head. A look-up reads a head, which
//! is one cache line, and then the one cell that has its tag. An array of lines is mapped into the agent, which so reads
//! a million flows without a system call.
//!
//! A flow's tuple has one line in `opening` and two in `flows`, of which it takes the one with more room: so the table
//! is nearly full before the first tuple finds none. The programs fill and free cells under the lock of the line
//! (`flow_locks`); a tag is written after its cell. The agent frees a cell by replacing its tag, if it is still there.

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

/// What the head of a line says about a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowHead {
    /// The block that has it, 0 for none.
    pub block: u32,
    /// The last free block, 0 for none.
    pub free: u32,
    /// How many are free.
    pub room: u32,
}

/// 1 where they are equal, 0 where not; arithmetic alone. With branches the kernel's verifier would walk each way through
/// the fifteen comparisons on its own.
#[inline(always)]
const fn is_equal(a: u32, b: u32) -> u32 {
    (((a ^ b) as u64).wrapping_sub(1) >> 63) as u32
}

/// The block that has a tag, 0 for none. The words are those of the head, eight bytes each.
#[must_use]
#[inline(always)]
pub fn flow_block(word: impl Fn(usize) -> u64, tag: u32) -> u32 {
    let mut block = 0;
    for index in 0..8 {
        let two = word(index);
        let even = 2 * index as u32;
        if index != 0 {
            block |= is_equal(two as u32, tag) * even;
        }
        block |= is_equal((two >> 32) as u32, tag) * (even + 1);
    }
    block
}

/// The same, with what is free.
#[must_use]
#[inline(always)]
pub fn flow_head(word: impl Fn(usize) -> u64, tag: u32) -> FlowHead {
    let mut head = FlowHead {
        block: 0,
        free: 0,
        room: 0,
    };
    for index in 0..8 {
        let two = word(index);
        let even = 2 * index as u32;
        if index != 0 {
            head = seen(head, two as u32, tag, even);
        }
        head = seen(head, (two >> 32) as u32, tag, even + 1);
    }
    head
}

#[inline(always)]
const fn seen(head: FlowHead, found: u32, tag: u32, block: u32) -> FlowHead {
    let is_free = is_equal(found, 0);
    FlowHead {
        block: head.block | is_equal(found, tag) * block,
        free: head.free * (1 - is_free) + is_free * block,
        room: head.room + is_free,
    }
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

    fn head(line: &FlowLine, tag: u32) -> FlowHead {
        let word = |index: usize| {
            let at = |place: usize| match place {
                0 => line.last,
                _ => line.tags[place - 1],
            };
            u64::from(at(2 * index)) | u64::from(at(2 * index + 1)) << 32
        };
        let head = flow_head(word, tag);
        assert_eq!(flow_block(word, tag), head.block);
        head
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
        let mut line = FlowLine {
            last: flow_tag(&key(99)),
            ..FlowLine::EMPTY
        };
        for port in 1..=15 {
            assert_eq!(head(&line, flow_tag(&key(port))).block, 0);
            assert_eq!(head(&line, 1).room, 16 - u32::from(port));
            assert_ne!(head(&line, 1).free, 0);
            assert!(line.put(&key(port), &FlowValue::leaving(false, 9)));
        }
        assert!(!line.put(&key(16), &FlowValue::leaving(false, 9)));
        for port in 1..=15 {
            assert_eq!(head(&line, flow_tag(&key(port))).block, u32::from(port));
        }
        assert_eq!(
            head(&line, flow_tag(&key(99))),
            FlowHead {
                block: 0,
                free: 0,
                room: 0
            }
        );
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
            let room = |line: usize| head(&table[line], 1).room;
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
