//! The flow table, `flows`: lines of cells, as `mesh_common::FlowLine` describes them. Cells are claimed and freed under the
//! lock of their line; they are filled and read without.

use core::{
    hint::black_box,
    sync::atomic::{Ordering, compiler_fence},
};

use mesh_common::{
    Address, FlowCell, FlowHead, FlowKey, FlowLine, FlowState, FlowTag, FlowValue, Port, Seen,
    TAGS_IN_ROW, claimed_tag, flow_block, is_claimed, is_short,
};
use mesh_ebpf::{Claim, FlowEntry, Found, NotAdded, NotConfirmed, Place};

use super::{
    env::{flow_lines, seed, spill_lines},
    maps::FLOWS,
};

/// A cell where it is, and what it held when it was found. It may be given to another tuple while it is held.
pub(crate) struct KernelFlow {
    cell: *mut FlowCell,
    value: FlowValue,
    is_opening: bool,
    tag: u32,
    found: Found,
}

impl FlowEntry for KernelFlow {
    #[inline(always)]
    fn value(&self) -> FlowValue {
        self.value
    }

    #[inline(always)]
    fn is_opening(&self) -> bool {
        self.is_opening
    }

    #[inline(always)]
    fn note(&self, seen: Seen, stamp: u32) {
        // SAFETY: the kernel's pointer into an array's value; two aligned stores. Whoever else writes them at this moment
        // saw a packet of the same flow.
        unsafe { (*self.cell).note(seen, stamp) };
    }

    #[inline(always)]
    fn found(&self) -> Found {
        self.found
    }
}

/// The number of the line where an entry was found, and the block.
#[inline(always)]
const fn place_found(Found(place): Found) -> (u32, u32) {
    ((place >> 4) as u32, place as u32 & 15)
}

impl KernelFlow {
    #[inline(always)]
    const fn line_number(&self) -> u32 {
        place_found(self.found).0
    }

    #[inline(always)]
    const fn block(&self) -> u32 {
        place_found(self.found).1
    }

    /// Whether the cell has not been given away meanwhile.
    #[inline(always)]
    fn is_in(&self, line: Line) -> bool {
        tag_at(line.line)(self.block()) == self.tag
    }
}

/// The word of a block's tag. Blocks are numbered from 1: the head is block 0.
#[inline(always)]
fn tag_of(line: *mut FlowLine, block: u32) -> *mut u32 {
    // SAFETY: the head has sixteen words of four bytes.
    unsafe { line.cast::<u32>().add((block & 15) as usize) }
}

/// A block's tag, as the agent or another processor may be writing it.
#[inline(always)]
fn tag_at(line: *mut FlowLine) -> impl Fn(u32) -> u32 {
    // SAFETY: a word of the head of a line that is there.
    move |block| unsafe { tag_of(line, block).read_volatile() }
}

/// The tags of a block and the next ones.
#[inline(always)]
fn tags_at(line: *mut FlowLine) -> impl Fn(u32) -> [u32; TAGS_IN_ROW] {
    move |block| {
        let first = tag_of(line, block);
        // SAFETY: words of a line that is there, whatever the block; of its head, for `flow_block` asks for every third one.
        core::array::from_fn(|next| unsafe { first.add(next).read_volatile() })
    }
}

/// The words of two blocks.
#[inline(always)]
fn pair_at(line: *mut FlowLine) -> impl Fn(u32) -> u64 {
    // SAFETY: a head has eight such pairs, aligned.
    move |pair| unsafe { line.cast::<u64>().add((pair & 7) as usize).read_volatile() }
}

#[inline(always)]
fn cell_of(line: *mut FlowLine, block: u32) -> *mut FlowCell {
    // SAFETY: a line has sixteen blocks of a cell's size.
    unsafe { line.cast::<FlowCell>().add((block & 15) as usize) }
}

/// The line's state, as another processor may be writing it.
#[inline(always)]
fn state_of(line: *mut FlowLine) -> FlowState {
    // SAFETY: the first word of a line that is there.
    FlowState(unsafe { line.cast::<u32>().read_volatile() })
}

/// Adds to a line's state, at one instant: BPF_XADD, which the compiler knows for no type of this target. On x86 what is
/// before and after it stays so for all processors.
#[cfg(not(bpf_target_arch = "aarch64"))]
#[inline(always)]
fn add_to_state(line: *mut FlowLine, number: i32) {
    // SAFETY: the state and the first tag, aligned to eight bytes. The sum stays in the state's half.
    unsafe {
        core::arch::asm!(
            "lock *(u64 *)({line} + 0) += {number}",
            line = in(reg) line,
            number = in(reg) i64::from(number),
        );
    }
}

/// The same on arm64, where only the kind that gives back what was there (Linux 5.12) keeps the order.
#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
fn add_to_state(line: *mut FlowLine, number: i32) {
    // SAFETY: as above.
    unsafe {
        core::arch::asm!(
            "{number} = atomic_fetch_add((u64 *)({line} + 0), {number})",
            line = in(reg) line,
            number = inout(reg) i64::from(number) => _,
        );
    }
}

/// What was written before is seen before what is written after. x86 does so by itself.
#[inline(always)]
fn in_order(line: *mut FlowLine) {
    compiler_fence(Ordering::SeqCst);
    if cfg!(bpf_target_arch = "aarch64") {
        add_to_state(line, 0);
    }
}

/// How often a lock is tried for. It is held for less than a hundred nanoseconds, and whoever holds it is not interrupted
/// but by a host that takes a processor away from its guest. A flow that finds no place for it is dropped, and sent again.
const TRIES: u32 = 8;

/// The same for one that may be held while other lines are looked at.
const PATIENT_TRIES: u32 = 32;

/// A line of the table, and its number.
#[derive(Clone, Copy)]
struct Line {
    line: *mut FlowLine,
    number: u32,
}

/// A claim's number: that of the line and the block above the tag. No pointer: the verifier of Linux 6.1 loses track of one
/// that may not be there.
#[inline(always)]
const fn claim_of(number: u32, block: u32, tag: u32) -> Claim {
    Claim((number as u64) << 36 | (block as u64) << 32 | tag as u64)
}

/// The line, the block and the tag of a claim.
#[inline(always)]
fn claimed(Claim(number): Claim) -> Option<(Line, u32, u32)> {
    let line = Line::of((number >> 36) as u32)?;
    Some((line, (number >> 32) as u32 & 15, number as u32))
}

/// Who has it has the line's lock.
#[must_use]
struct Held;

impl Line {
    #[inline(always)]
    fn of(number: u32) -> Option<Self> {
        let line = FLOWS.get_ptr_mut(number)?;
        Some(Self { line, number })
    }

    #[inline(always)]
    fn lock(self, tries: u32) -> Option<Held> {
        for _ in 0..tries {
            add_to_state(self.line, FlowState::LOCK);
            if state_of(self.line).is_mine() {
                return Some(Held);
            }
            add_to_state(self.line, -FlowState::LOCK);
        }
        None
    }

    #[inline(always)]
    fn unlock(self, held: Held) {
        let Held = held;
        add_to_state(self.line, -FlowState::LOCK);
    }

    #[inline(always)]
    fn set_high(self, _: &Held, state: FlowState) {
        // SAFETY: the high half of the first word; the low half is others' at the same time.
        unsafe {
            self.line.cast::<u16>().add(1).write_volatile(state.high());
        };
    }

    #[inline(always)]
    fn set_tag(self, block: u32, tag: u32) {
        in_order(self.line);
        // SAFETY: a word of the head.
        unsafe { tag_of(self.line, block).write_volatile(tag) };
        compiler_fence(Ordering::SeqCst);
    }

    #[inline(always)]
    fn head<const N: usize>(self, tags: [u32; N]) -> FlowHead {
        FlowHead::read(pair_at(self.line), tags)
    }

    /// How many blocks an entry of this kind may have: a confirmed flow's all that are not such a one's, a half-open one's
    /// those that are free.
    #[inline(always)]
    fn room(self, place: Place) -> u32 {
        let state = state_of(self.line);
        if place == Place::Opening {
            return state.room_to_open(self.head([]).taken);
        }
        let least = state.room(u32::MAX);
        if is_short(least) {
            return state.room(self.head([]).taken);
        }
        least
    }

    /// Claims a free cell; where there is none that of the half-open flow whose turn it is to go, if `pushes`. It is filled
    /// without the lock: readers believe a cell by its tag.
    #[inline(always)]
    fn add(self, tag: u32, is_confirmed: bool, pushes: bool) -> Result<Claim, NotAdded> {
        let Some(held) = self.lock(TRIES) else {
            return Err(NotAdded::Full);
        };
        let claimed = self.claim(&held, tag, is_confirmed, pushes);
        self.unlock(held);
        Ok(claim_of(self.number, claimed?, tag))
    }

    #[inline(always)]
    fn claim(
        self,
        held: &Held,
        tag: u32,
        is_confirmed: bool,
        pushes: bool,
    ) -> Result<u32, NotAdded> {
        let (head, state) = (self.head([tag]), state_of(self.line));
        if head.has {
            return Err(NotAdded::Exists);
        }
        if !is_confirmed && !pushes && state.has_most_open(head.taken) {
            return Err(NotAdded::Full);
        }
        let mut block = head.free();
        if block == 0 && pushes {
            let (pushed, turn) = state.push_out();
            add_to_state(self.line, turn);
            // Who fills it would write into another's cell. The next one's turn comes with the next attempt.
            if !is_claimed(tag_at(self.line)(pushed)) {
                block = pushed;
            }
        }
        if block == 0 {
            return Err(NotAdded::Full);
        }
        self.set_high(held, state.with(block, is_confirmed));
        self.set_tag(block, claimed_tag(tag));
        Ok(block)
    }

    /// The same for a half-open flow's in its first line, if that is short of nothing and the tag cannot lie elsewhere; 0 if
    /// it is not so, or the tag is there.
    #[inline(always)]
    fn add_quickly(self, tag: u32) -> Claim {
        let Some(held) = self.lock(TRIES) else {
            return Claim(0);
        };
        let (head, state) = (self.head([tag]), state_of(self.line));
        let room = state.room_to_open(head.taken);
        let mut claim = Claim(0);
        if !head.has && !state.has_more() && !is_short(room) {
            let block = head.free();
            self.set_high(&held, state.with(block, false));
            self.set_tag(block, claimed_tag(tag));
            claim = claim_of(self.number, block, tag);
        }
        self.unlock(held);
        claim
    }

    /// Claims free cells for the tags of a new flow, two or three. Blocks of four bits each; 0 if the line is short of them,
    /// or if one of the tags is there or may lie elsewhere.
    #[inline(always)]
    fn claim_together(self, held: &Held, tags: [FlowTag; 3], has_third: bool) -> u32 {
        let third = if has_third { tags[2] } else { tags[1] };
        let (mut head, state) = (
            self.head([tags[0].tag, tags[1].tag, third.tag]),
            state_of(self.line),
        );
        if head.has || state.has_more() || is_short(state.room_to_open(head.taken)) {
            return 0;
        }
        let blocks = [head.take_free(), head.take_free(), head.take_free()];
        let state = state.with(blocks[0], false).with(blocks[1], false);
        self.set_high(held, state.with(blocks[2], false));
        self.set_tag(blocks[0], claimed_tag(tags[0].tag));
        self.set_tag(blocks[1], claimed_tag(tags[1].tag));
        if has_third {
            self.set_tag(blocks[2], claimed_tag(tags[2].tag));
        }
        blocks[0] | blocks[1] << 4 | blocks[2] << 8
    }

    /// Makes a tag's cell a confirmed flow's, or a half-open one's again. Nothing if it has none.
    #[inline(always)]
    fn set_confirmed(self, tag: u32, is_confirmed: bool) -> Result<(), NotConfirmed> {
        let Some(held) = self.lock(TRIES) else {
            return Err(NotConfirmed::Busy);
        };
        let block = flow_block(tags_at(self.line), tag);
        if block != 0 {
            self.set_high(&held, state_of(self.line).with(block, is_confirmed));
        }
        self.unlock(held);
        Ok(())
    }

    /// Frees a tag's cell, if it has one.
    #[inline(always)]
    fn remove(self, tag: u32) {
        let Some(held) = self.lock(TRIES) else {
            return;
        };
        let block = flow_block(tags_at(self.line), tag);
        if block != 0 {
            self.set_tag(block, 0);
        }
        self.unlock(held);
    }

    /// Whether a tag is here, or a cell is being filled for it.
    #[inline(always)]
    fn has(self, tag: FlowTag) -> bool {
        self.head([tag.tag]).has
    }

    /// From now on tuples of this line may lie elsewhere.
    #[inline(always)]
    fn note_more(self, held: &Held) {
        self.set_high(held, state_of(self.line).with_more());
    }

    /// The same of a line that is not locked. False if somebody else keeps it so.
    #[inline(always)]
    fn use_more(self) -> bool {
        if state_of(self.line).has_more() {
            return true;
        }
        let Some(held) = self.lock(TRIES) else {
            return false;
        };
        self.note_more(&held);
        self.unlock(held);
        true
    }
}

/// A tuple's cell in a line; None if it has none.
#[inline(always)]
fn look(Line { line, number }: Line, tag: u32, key: &FlowKey) -> Option<KernelFlow> {
    let block = flow_block(tags_at(line), tag);
    if block == 0 {
        return None;
    }
    let cell = cell_of(line, block);
    // SAFETY: a pointer into the value. What is read may be of two tuples if the cell is given away meanwhile: then its
    // tag is another one afterwards.
    let (value, is_of) = unsafe { ((*cell).value(), (*cell).is_of(key)) };
    let is_opening = !state_of(line).is_confirmed(block);
    compiler_fence(Ordering::SeqCst);
    // SAFETY: as above.
    let still = unsafe { tag_of(line, block).read_volatile() };
    if !is_of || still != tag {
        return None;
    }
    Some(KernelFlow {
        cell,
        value,
        is_opening,
        tag,
        found: Found(u64::from(number) << 4 | u64::from(block)),
    })
}

/// The lines of a tag: its three, and that of the spill.
#[derive(Clone, Copy)]
enum Which {
    First,
    Second,
    Third,
    Spill,
}

impl Which {
    #[inline(always)]
    fn number(self, tag: FlowTag) -> u32 {
        match self {
            Self::First => tag.first(flow_lines()),
            Self::Second => tag.second(flow_lines()),
            Self::Third => tag.third(flow_lines()),
            Self::Spill => tag.spill(flow_lines(), spill_lines()),
        }
    }

    #[inline(always)]
    fn line(self, tag: FlowTag) -> Option<Line> {
        Line::of(self.number(tag))
    }
}

#[inline(always)]
pub(super) fn find(key: &FlowKey) -> Option<KernelFlow> {
    let tag = FlowTag::of(key, seed());
    let first = Which::First.line(tag)?;
    if let Some(found) = look(first, tag.tag, key) {
        return Some(found);
    }
    if !state_of(first.line).has_more() {
        return None;
    }
    find_elsewhere(tag, key)
}

/// In the lines but the first. In a loop: what almost no packet needs is not to stand between what all need.
#[inline(always)]
fn find_elsewhere(tag: FlowTag, key: &FlowKey) -> Option<KernelFlow> {
    let mut which = 0;
    while which < black_box(3_u64) {
        let line = match which {
            0 => Which::Second,
            1 => Which::Third,
            _ => Which::Spill,
        };
        if let Some(found) = look(line.line(tag)?, tag.tag, key) {
            return Some(found);
        }
        which += 1;
    }
    None
}

/// Nothing is written into a cell that is another tuple's by now; between look and stores it is as for `FlowEntry::note`.
#[inline(always)]
pub(super) fn set_source(found: Found, key: &FlowKey, (address, port): (Address, Port)) {
    let (number, block) = place_found(found);
    let Some(Line { line, .. }) = Line::of(number) else {
        return;
    };
    let cell = cell_of(line, block);
    // SAFETY: the kernel's pointer into an array's value.
    if unsafe { !(*cell).is_of(key) } {
        return;
    }
    // SAFETY: as above; aligned stores. A source counts from its port on, so the port is written last.
    unsafe { (*cell).set_source_address(address) };
    compiler_fence(Ordering::SeqCst);
    // SAFETY: as above.
    unsafe { (*cell).set_source_port(port) };
}

/// Reads a word that nobody waits for.
#[inline(always)]
pub(super) fn fetch(tag: FlowTag) {
    if let Some(first) = Which::First.line(tag) {
        state_of(first.line);
    }
}

#[inline(always)]
pub(super) fn claim(place: Place, tag: FlowTag) -> Result<Claim, NotAdded> {
    let Some(first) = Which::First.line(tag) else {
        return Err(NotAdded::Full);
    };
    if place == Place::Opening {
        let claim = first.add_quickly(tag.tag);
        if claim.0 != 0 {
            return Ok(claim);
        }
    }
    let Some(held) = first.lock(PATIENT_TRIES) else {
        return Err(NotAdded::Full);
    };
    let claim = claim_under(first, &held, tag, place);
    first.unlock(held);
    claim
}

/// In whichever line of the tuple. Who adds a tuple to any line has the lock of its first one: of two that do so the second
/// sees what the first has claimed.
#[inline(always)]
fn claim_under(first: Line, held: &Held, tag: FlowTag, place: Place) -> Result<Claim, NotAdded> {
    if first.has(tag) || (state_of(first.line).has_more() && is_elsewhere(tag)) {
        return Err(NotAdded::Exists);
    }
    let is_confirmed = place == Place::Confirmed;
    let line = main_line(first, tag, place);
    if !is_confirmed && line.room(place) == 0 {
        first.note_more(held);
        return match Which::Spill.line(tag) {
            Some(spill) => spill.add(tag.tag, false, true),
            None => Err(NotAdded::Full),
        };
    }
    if line.number != first.number {
        first.note_more(held);
        return line.add(tag.tag, is_confirmed, false);
    }
    let block = first.claim(held, tag.tag, is_confirmed, false)?;
    Ok(claim_of(first.number, block, tag.tag))
}

/// For a flow whose entries all have the same first line, which has none of them and is not short of cells.
#[inline(always)]
pub(super) fn claim_together(
    request: &FlowKey,
    backend: (Address, Port),
    has_leaving: bool,
) -> Option<[Claim; 3]> {
    let (leaving, seed) = (request.leaving(backend), seed());
    let tags = [*request, leaving.reversed(), leaving].map(|key| FlowTag::of(&key, seed));
    let is_one = tags[1].tag == tags[2].tag;
    if is_one || !tags[0].lies_with(tags[1]) || !tags[0].lies_with(tags[2]) {
        return None;
    }
    let line = Which::First.line(tags[0])?;
    let held = line.lock(TRIES)?;
    let blocks = line.claim_together(&held, tags, has_leaving);
    line.unlock(held);
    if blocks == 0 {
        return None;
    }
    let claim = |at: usize| claim_of(line.number, blocks >> (4 * at) & 15, tags[at].tag);
    Some([claim(0), claim(1), claim(2)])
}

#[inline(always)]
pub(super) fn fill(claim: Claim, cell: &FlowCell) {
    if let Some((line, block, tag)) = claimed(claim) {
        // By eights: so many stores a processor holds back until the cell's memory is there, and not twice as many.
        let to = cell_of(line.line, block).cast::<u64>();
        // SAFETY: both have eight words of eight bytes.
        let words = unsafe { core::mem::transmute::<FlowCell, [u64; 8]>(*cell) };
        for (place, word) in words.into_iter().enumerate() {
            // SAFETY: a pointer into the value, which nobody else writes between claim and tag.
            unsafe { to.add(place).write_volatile(word) };
        }
        line.set_tag(block, tag);
    }
}

/// How often a claimed cell is looked at: some microseconds long. It is filled after one or two other places have been
/// claimed.
const LOOKS: u32 = 4096;

/// Until the cell that another processor has claimed for a tuple is filled, or given back.
#[inline(always)]
pub(super) fn wait(key: &FlowKey) {
    let mut claimed = FlowTag::of(key, seed());
    claimed.tag = claimed_tag(claimed.tag);
    let Some((line, _)) = line_of(claimed) else {
        return;
    };
    let block = flow_block(tags_at(line.line), claimed.tag);
    if block == 0 {
        return;
    }
    for _ in 0..LOOKS {
        if tag_at(line.line)(block) != claimed.tag {
            return;
        }
    }
}

#[inline(always)]
pub(super) fn unclaim(claim: Claim) {
    if let Some((line, block, _)) = claimed(claim) {
        line.set_tag(block, 0);
    }
}

/// The first line of a tag that is not short of room, else that with more. Where it is not the first one, that is to be said
/// there before the tag is added (`use_more`).
#[inline(always)]
fn main_line(first: Line, tag: FlowTag, place: Place) -> Line {
    let room = first.room(place);
    if !is_short(room) {
        return first;
    }
    let Some(second) = Which::Second.line(tag) else {
        return first;
    };
    let Some(third) = Which::Third.line(tag) else {
        return first;
    };
    let (room_of_second, room_of_third) = (second.room(place), third.room(place));
    let (other, room_of_other) = if is_short(room_of_second) && room_of_third > room_of_second {
        (third, room_of_third)
    } else {
        (second, room_of_second)
    };
    if room_of_other > room { other } else { first }
}

/// Whether a tag is in a line beside its first one, or a cell of one is being filled for it.
#[inline(always)]
fn is_elsewhere(tag: FlowTag) -> bool {
    let mut which = 0;
    while which < black_box(3_u64) {
        let line = match which {
            0 => Which::Second,
            1 => Which::Third,
            _ => Which::Spill,
        };
        if line.line(tag).is_some_and(|line| line.has(tag)) {
            return true;
        }
        which += 1;
    }
    false
}

/// The line of a tag that is not in its first one, and whether it is the spill's.
#[inline(always)]
fn elsewhere(tag: FlowTag) -> Option<(Line, bool)> {
    let second = Which::Second.line(tag)?;
    if flow_block(tags_at(second.line), tag.tag) != 0 {
        return Some((second, false));
    }
    let third = Which::Third.line(tag)?;
    if flow_block(tags_at(third.line), tag.tag) != 0 {
        return Some((third, false));
    }
    let spill = Which::Spill.line(tag)?;
    (flow_block(tags_at(spill.line), tag.tag) != 0).then_some((spill, true))
}

/// The line of a tag, and whether it is the spill's.
#[inline(always)]
fn line_of(tag: FlowTag) -> Option<(Line, bool)> {
    let first = Which::First.line(tag)?;
    if flow_block(tags_at(first.line), tag.tag) != 0 || !state_of(first.line).has_more() {
        return Some((first, false));
    }
    elsewhere(tag)
}

#[inline(always)]
pub(super) fn confirm_beside(request: &KernelFlow, reply: &FlowKey, is_all: bool) -> bool {
    let number = request.line_number();
    if number >= flow_lines() {
        return false;
    }
    let Some(line) = Line::of(number) else {
        return false;
    };
    let Some(reply) = look(line, FlowTag::of(reply, seed()).tag, reply) else {
        return false;
    };
    if !reply.value.seen().has(Seen::ANY) {
        return true;
    }
    if !is_all {
        return false;
    }
    let Some(held) = line.lock(TRIES) else {
        return false;
    };
    let are_there = request.is_in(line) && reply.is_in(line);
    if are_there {
        let state = state_of(line.line).with(request.block(), true);
        line.set_high(&held, state.with(reply.block(), true));
    }
    line.unlock(held);
    are_there
}

#[inline(always)]
pub(super) fn confirm(key: &FlowKey) -> Result<(), NotConfirmed> {
    let tag = FlowTag::of(key, seed());
    let Some((line, is_spilled)) = line_of(tag) else {
        return Ok(());
    };
    if !is_spilled {
        return line.set_confirmed(tag.tag, true);
    }
    let Some(first) = Which::First.line(tag) else {
        return Ok(());
    };
    let mut main = main_line(first, tag, Place::Confirmed);
    if main.number != first.number && !first.use_more() {
        main = first;
    }
    spare(main);
    match main.add(tag.tag, true, true) {
        Ok(claim) => copy(line, tag.tag, claim),
        Err(NotAdded::Exists) => {}
        Err(NotAdded::Full) if main.room(Place::Confirmed) == 0 => return Err(NotConfirmed::Full),
        Err(NotAdded::Full) => return Err(NotConfirmed::Busy),
    }
    line.remove(tag.tag);
    Ok(())
}

/// Of a line without a free cell: puts the half-open flow that will be pushed out into the spill.
#[inline(always)]
fn spare(line: Line) {
    let (block, _) = state_of(line.line).push_out();
    if block == 0 || line.head([]).free() != 0 {
        return;
    }
    let tag = tag_at(line.line)(block);
    // SAFETY: a pointer into the value. If it is given away at this moment its tag is no longer that of what was read.
    let key = unsafe { (*cell_of(line.line, block)).key() };
    if is_claimed(tag) || tag_at(line.line)(block) != tag || !line.use_more() {
        return;
    }
    if let Some(spill) = Which::Spill.line(FlowTag::of(&key, seed())) {
        // Who comes too late with it is a newcomer that was not quick enough.
        if let Ok(claim) = spill.add(tag, false, true) {
            copy(line, tag, claim);
        }
    }
}

/// Puts a tag's cell of a line into a claimed one; gives that back if it is no longer there. Word by word: a cell is more than
/// what is left of the stack.
#[inline(always)]
fn copy(line: Line, tag: u32, claim: Claim) {
    let block = flow_block(tags_at(line.line), tag);
    let Some((to, place, _)) = claimed(claim) else {
        return;
    };
    let (from, cell) = (cell_of(line.line, block), cell_of(to.line, place));
    let (from, cell) = (from.cast::<u64>(), cell.cast::<u64>());
    for word in 0..size_of::<FlowCell>() / 8 {
        // SAFETY: both have eight words.
        unsafe {
            cell.add(word)
                .write_volatile(from.add(word).read_volatile())
        };
    }
    compiler_fence(Ordering::SeqCst);
    let still = block != 0 && tag_at(line.line)(block) == tag;
    to.set_tag(place, if still { tag } else { 0 });
}

#[inline(always)]
pub(super) fn unconfirm(key: &FlowKey) {
    let tag = FlowTag::of(key, seed());
    if let Some((line, _)) = line_of(tag) {
        line.set_confirmed(tag.tag, false).ok();
    }
}

#[inline(always)]
pub(super) fn remove(key: &FlowKey) {
    let tag = FlowTag::of(key, seed());
    if let Some((line, _)) = line_of(tag) {
        line.remove(tag.tag);
    }
}
