//! The flow tables, `opening` and `flows`: lines of cells, as `mesh_common::FlowLine` describes them. Cells are filled and
//! freed under the lock of their line; they are read without.

use core::sync::atomic::{Ordering, compiler_fence};

use aya_ebpf::{
    bindings::bpf_spin_lock as SpinLock,
    helpers::{bpf_spin_lock, bpf_spin_unlock},
    maps::Array,
};
use mesh_common::{
    Address, FLOW_LOCKS as LOCKS, FlowCell, FlowKey, FlowLine, FlowValue, Port, Seen, flow_block,
    flow_line, flow_room, flow_tag, second_flow_line, takes_second,
};
use mesh_ebpf::{FlowEntry, Full, NotAdded, Place};

use super::{
    env::{flow_lines, opening_lines, seed},
    maps::{FLOW_LOCKS, FLOWS, OPENING},
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

/// A line of one of the tables, and its lock.
struct Line {
    line: *mut FlowLine,
    lock: *mut SpinLock,
}

impl Line {
    #[inline(always)]
    fn of(table: &Array<FlowLine>, number: u32) -> Option<Self> {
        let line = table.get_ptr_mut(number)?;
        let lock = FLOW_LOCKS.get_ptr_mut(number & (LOCKS - 1))?;
        Some(Self {
            line,
            // SAFETY: the field of a value that is there.
            lock: unsafe { &raw mut (*lock).lock },
        })
    }

    #[inline(always)]
    fn lock(&self) {
        // SAFETY: the kernel checks that it is a lock, and that it is given back.
        unsafe { bpf_spin_lock(self.lock) };
    }

    #[inline(always)]
    fn unlock(&self) {
        // SAFETY: as in `lock`.
        unsafe { bpf_spin_unlock(self.lock) };
    }

    /// Fills a free cell. Where none is, the one that was filled longest ago if `pushes`.
    #[inline(always)]
    fn add(&self, tag: u32, cell: &FlowCell, pushes: bool) -> Result<(), NotAdded> {
        self.lock();
        if flow_block(tag_at(self.line), tag) != 0 {
            self.unlock();
            return Err(NotAdded::Exists);
        }
        let mut block = flow_block(tag_at(self.line), 0);
        if block == 0 {
            if !pushes {
                self.unlock();
                return Err(NotAdded::Full);
            }
            block = self.next_to_go();
        }
        // SAFETY: pointers into the value, under its lock. Readers believe a cell as long as its tag stays the same.
        unsafe {
            tag_of(self.line, block).write_volatile(0);
            compiler_fence(Ordering::SeqCst);
            *cell_of(self.line, block) = *cell;
            compiler_fence(Ordering::SeqCst);
            tag_of(self.line, block).write_volatile(tag);
        }
        self.unlock();
        Ok(())
    }

    /// The blocks of a full line in turn.
    #[inline(always)]
    fn next_to_go(&self) -> u32 {
        // SAFETY: the head's first word, under the line's lock.
        let last = unsafe { tag_of(self.line, 0).read_volatile() };
        let next = (last + 1) & 15;
        let next = if next == 0 { 1 } else { next };
        // SAFETY: as above.
        unsafe { tag_of(self.line, 0).write_volatile(next) };
        next
    }

    /// Frees a tag's cell, if it has one.
    #[inline(always)]
    fn remove(&self, tag: u32) {
        self.lock();
        let block = flow_block(tag_at(self.line), tag);
        if block != 0 {
            // SAFETY: the tag's word, under the line's lock.
            unsafe { tag_of(self.line, block).write_volatile(0) };
        }
        self.unlock();
    }
}

/// A tuple's cell in a line; null if it has none.
#[inline(always)]
fn look(
    table: &Array<FlowLine>,
    number: u32,
    tag: u32,
    key: &FlowKey,
) -> Option<(*mut FlowCell, FlowValue)> {
    let line = table.get_ptr_mut(number)?;
    let block = flow_block(tag_at(line), tag);
    if block == 0 {
        return None;
    }
    let cell = cell_of(line, block);
    // SAFETY: a pointer into the value. What is read may be of two tuples if the cell is given away meanwhile: then its
    // tag is another one afterwards.
    let (value, is_of) = unsafe { ((*cell).value(), (*cell).is_of(key)) };
    compiler_fence(Ordering::SeqCst);
    // SAFETY: as above.
    let still = unsafe { tag_of(line, block).read_volatile() };
    if !is_of || still != tag {
        return None;
    }
    Some((cell, value))
}

#[inline(always)]
pub(super) fn find(key: &FlowKey) -> Option<KernelFlow> {
    let (tag, seed, lines) = (flow_tag(key), seed(), flow_lines());
    if let Some((cell, value)) = look(&FLOWS, flow_line(tag, seed, lines), tag, key) {
        return Some(KernelFlow {
            cell,
            value,
            is_opening: false,
        });
    }
    if let Some((cell, value)) = look(&FLOWS, second_flow_line(tag, seed, lines), tag, key) {
        return Some(KernelFlow {
            cell,
            value,
            is_opening: false,
        });
    }
    let number = flow_line(tag, seed, opening_lines());
    let (cell, value) = look(&OPENING, number, tag, key)?;
    Some(KernelFlow {
        cell,
        value,
        is_opening: true,
    })
}

#[inline(always)]
pub(super) fn add(place: Place, key: &FlowKey, value: &FlowValue) -> Result<(), NotAdded> {
    let cell = FlowCell::new(key, value);
    match place {
        Place::Opening => add_opening(flow_tag(key), &cell),
        Place::Confirmed => add_confirmed(flow_tag(key), &cell),
    }
}

#[inline(always)]
fn add_opening(tag: u32, cell: &FlowCell) -> Result<(), NotAdded> {
    match Line::of(&OPENING, flow_line(tag, seed(), opening_lines())) {
        Some(line) => line.add(tag, cell, true),
        None => Err(NotAdded::Full),
    }
}

/// Into the line with more room.
#[inline(always)]
fn add_confirmed(tag: u32, cell: &FlowCell) -> Result<(), NotAdded> {
    let (seed, lines) = (seed(), flow_lines());
    let mut number = flow_line(tag, seed, lines);
    let second = second_flow_line(tag, seed, lines);
    if takes_second(room(number), || room(second)) {
        number = second;
    }
    match Line::of(&FLOWS, number) {
        Some(line) => line.add(tag, cell, false),
        None => Err(NotAdded::Full),
    }
}

#[inline(always)]
fn room(number: u32) -> u32 {
    match FLOWS.get_ptr_mut(number) {
        Some(line) => flow_room(tag_at(line)),
        None => 0,
    }
}

#[inline(always)]
pub(super) fn confirm(key: &FlowKey) -> Result<(), Full> {
    let tag = flow_tag(key);
    let number = flow_line(tag, seed(), opening_lines());
    let Some((_, value)) = look(&OPENING, number, tag, key) else {
        return Ok(());
    };
    match add_confirmed(tag, &FlowCell::new(key, &value)) {
        Ok(()) | Err(NotAdded::Exists) => {}
        Err(NotAdded::Full) => return Err(Full),
    }
    if let Some(line) = Line::of(&OPENING, number) {
        line.remove(tag);
    }
    Ok(())
}

#[inline(always)]
pub(super) fn unconfirm(key: &FlowKey) {
    if let Some(found) = find(key)
        && !found.is_opening
    {
        let tag = flow_tag(key);
        // What cannot be put back is forgotten, as what is pushed out is.
        add_opening(tag, &FlowCell::new(key, &found.value)).ok();
        remove_confirmed(tag);
    }
}

#[inline(always)]
pub(super) fn remove(key: &FlowKey) {
    let tag = flow_tag(key);
    remove_confirmed(tag);
    if let Some(line) = Line::of(&OPENING, flow_line(tag, seed(), opening_lines())) {
        line.remove(tag);
    }
}

/// From both lines: two processors that confirm a flow at once may have put it into both.
#[inline(always)]
fn remove_confirmed(tag: u32) {
    let (seed, lines) = (seed(), flow_lines());
    if let Some(line) = Line::of(&FLOWS, flow_line(tag, seed, lines)) {
        line.remove(tag);
    }
    if let Some(line) = Line::of(&FLOWS, second_flow_line(tag, seed, lines)) {
        line.remove(tag);
    }
}
