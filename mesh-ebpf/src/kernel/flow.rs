//! The flow table, `flows`: lines of cells, as `mesh_common::FlowLine` describes them. Cells are filled and freed under the
//! lock of their line; they are read without.

use core::sync::atomic::{Ordering, compiler_fence};

use mesh_common::{
    Address, FlowCell, FlowHead, FlowKey, FlowLine, FlowState, FlowTag, FlowValue, Port, Seen,
    claimed_tag, flow_block, is_short,
};
use mesh_ebpf::{FlowEntry, NotAdded, NotConfirmed, Place};

use super::{
    env::{flow_lines, seed, spill_lines},
    maps::FLOWS,
};

/// A cell where it is, and what it held when it was found. It may be given to another tuple while it is held.
pub(crate) struct KernelFlow {
    cell: *mut FlowCell,
    value: FlowValue,
    is_opening: bool,
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
    fn set_source(&self, (address, port): (Address, Port)) {
        // SAFETY: as in `note`. A source counts from its port on, so the port is written last.
        unsafe { (*self.cell).set_source_address(address) };
        compiler_fence(Ordering::SeqCst);
        // SAFETY: as above.
        unsafe { (*self.cell).set_source_port(port) };
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

/// A line of the table.
#[derive(Clone, Copy)]
struct Line {
    line: *mut FlowLine,
}

/// Who has it has the line's lock.
#[must_use]
struct Held;

impl Line {
    #[inline(always)]
    fn of(number: u32) -> Option<Self> {
        let line = FLOWS.get_ptr_mut(number)?;
        Some(Self { line })
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
    fn head(self, tag: u32) -> FlowHead {
        FlowHead::read(tag_at(self.line), tag)
    }

    /// How many blocks are not a confirmed flow's.
    #[inline(always)]
    fn room(self) -> u32 {
        let state = state_of(self.line);
        let least = state.room(u32::MAX);
        if is_short(least) {
            return state.room(self.head(0).taken);
        }
        least
    }

    /// Fills a free cell; where there is none that of the half-open flow whose turn it is to go, if `pushes`.
    #[inline(always)]
    fn add(
        self,
        tag: u32,
        cell: &FlowCell,
        is_confirmed: bool,
        pushes: bool,
    ) -> Result<(), NotAdded> {
        let Some(held) = self.lock(TRIES) else {
            return Err(NotAdded::Full);
        };
        let claimed = self.claim(&held, tag, is_confirmed, pushes);
        self.unlock(held);
        let block = claimed?;
        // Not under the lock, whose giving back waits for every store before it, and the cell is in nobody's cache. Readers
        // believe a cell by its tag.
        // SAFETY: a pointer into the value, which nobody else writes between claim and tag.
        unsafe { *cell_of(self.line, block) = *cell };
        self.set_tag(block, tag);
        Ok(())
    }

    #[inline(always)]
    fn claim(
        self,
        held: &Held,
        tag: u32,
        is_confirmed: bool,
        pushes: bool,
    ) -> Result<u32, NotAdded> {
        let (head, state) = (self.head(tag), state_of(self.line));
        if head.block != 0 {
            return Err(NotAdded::Exists);
        }
        if !is_confirmed && !pushes && state.has_most_open(head.taken) {
            return Err(NotAdded::Full);
        }
        let mut block = head.free();
        if block == 0 && pushes {
            let (pushed, turn) = state.push_out();
            add_to_state(self.line, turn);
            block = pushed;
        }
        if block == 0 {
            return Err(NotAdded::Full);
        }
        self.set_high(held, state.with(block, is_confirmed));
        self.set_tag(block, claimed_tag(tag));
        Ok(block)
    }

    /// Makes a tag's cell a confirmed flow's, or a half-open one's again. Nothing if it has none.
    #[inline(always)]
    fn set_confirmed(self, tag: u32, is_confirmed: bool) -> Result<(), NotConfirmed> {
        let Some(held) = self.lock(TRIES) else {
            return Err(NotConfirmed::Busy);
        };
        let block = flow_block(tag_at(self.line), tag);
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
        let block = flow_block(tag_at(self.line), tag);
        if block != 0 {
            self.set_tag(block, 0);
        }
        self.unlock(held);
    }

    /// From now on tuples of this line may lie elsewhere.
    #[inline(always)]
    fn use_more(self) -> bool {
        if state_of(self.line).has_more() {
            return true;
        }
        let Some(held) = self.lock(TRIES) else {
            return false;
        };
        self.set_high(&held, state_of(self.line).with_more());
        self.unlock(held);
        true
    }
}

/// A tuple's cell in a line; None if it has none.
#[inline(always)]
fn look(line: *mut FlowLine, tag: u32, key: &FlowKey) -> Option<KernelFlow> {
    let block = flow_block(tag_at(line), tag);
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
    })
}

/// The lines of a tag: its first, its second, and that of the spill.
#[derive(Clone, Copy)]
enum Which {
    First,
    Second,
    Spill,
}

impl Which {
    #[inline(always)]
    fn number(self, tag: FlowTag) -> u32 {
        match self {
            Self::First => tag.first(flow_lines()),
            Self::Second => tag.second(flow_lines()),
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
    let first = Which::First.line(tag)?.line;
    if let Some(found) = look(first, tag.tag, key) {
        return Some(found);
    }
    if !state_of(first).has_more() {
        return None;
    }
    if let Some(found) = look(Which::Second.line(tag)?.line, tag.tag, key) {
        return Some(found);
    }
    look(Which::Spill.line(tag)?.line, tag.tag, key)
}

#[inline(always)]
pub(super) fn add(place: Place, key: &FlowKey, value: &FlowValue) -> Result<(), NotAdded> {
    let (tag, cell) = (FlowTag::of(key, seed()), FlowCell::new(key, value));
    let Some(first) = Which::First.line(tag) else {
        return Err(NotAdded::Full);
    };
    // The lock is that of the line which is chosen: what lies in another one has to be looked for.
    if flow_block(tag_at(first.line), tag.tag) != 0
        || (state_of(first.line).has_more() && elsewhere(tag).is_some())
    {
        return Err(NotAdded::Exists);
    }
    let line = main_line(first, tag);
    match line.add(tag.tag, &cell, place == Place::Confirmed, false) {
        Err(NotAdded::Full) if place == Place::Opening => add_spilled(first, tag, &cell),
        added => added,
    }
}

/// The first or the second line of a tag: that with more room.
#[inline(always)]
fn main_line(first: Line, tag: FlowTag) -> Line {
    let room = first.room();
    if is_short(room)
        && let Some(second) = Which::Second.line(tag)
        && second.room() > room
        && first.use_more()
    {
        return second;
    }
    first
}

#[inline(always)]
fn add_spilled(first: Line, tag: FlowTag, cell: &FlowCell) -> Result<(), NotAdded> {
    match Which::Spill.line(tag) {
        Some(spill) if first.use_more() => spill.add(tag.tag, cell, false, true),
        Some(_) | None => Err(NotAdded::Full),
    }
}

/// The line of a tag that is not in its first one, and whether it is the spill's.
#[inline(always)]
fn elsewhere(tag: FlowTag) -> Option<(Line, bool)> {
    let second = Which::Second.line(tag)?;
    if flow_block(tag_at(second.line), tag.tag) != 0 {
        return Some((second, false));
    }
    let spill = Which::Spill.line(tag)?;
    (flow_block(tag_at(spill.line), tag.tag) != 0).then_some((spill, true))
}

/// The line of a tag, and whether it is the spill's.
#[inline(always)]
fn line_of(tag: FlowTag) -> Option<(Line, bool)> {
    let first = Which::First.line(tag)?;
    if flow_block(tag_at(first.line), tag.tag) != 0 || !state_of(first.line).has_more() {
        return Some((first, false));
    }
    elsewhere(tag)
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
    let (Some(found), Some(first)) = (look(line.line, tag.tag, key), Which::First.line(tag)) else {
        return Ok(());
    };
    let main = main_line(first, tag);
    spare(main);
    match main.add(tag.tag, &FlowCell::new(key, &found.value), true, true) {
        Ok(()) | Err(NotAdded::Exists) => {}
        Err(NotAdded::Full) if main.room() == 0 => return Err(NotConfirmed::Full),
        Err(NotAdded::Full) => return Err(NotConfirmed::Busy),
    }
    line.remove(tag.tag);
    Ok(())
}

/// Of a line without a free cell: puts the half-open flow that will be pushed out into the spill.
#[inline(always)]
fn spare(line: Line) {
    let (block, _) = state_of(line.line).push_out();
    if block == 0 || line.head(0).free() != 0 {
        return;
    }
    let tag = tag_at(line.line)(block);
    // SAFETY: a pointer into the value. If it is given away at this moment its tag is no longer that of what was read.
    let cell = unsafe { *cell_of(line.line, block) };
    if tag == claimed_tag(tag) || tag_at(line.line)(block) != tag || !line.use_more() {
        return;
    }
    let of = FlowTag::of(&cell.key(), seed());
    if let Some(spill) = Which::Spill.line(of) {
        // Who comes too late with it is a newcomer that was not quick enough.
        spill.add(tag, &cell, false, true).ok();
    }
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
