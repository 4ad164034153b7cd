//! The flow tables: `opening` and `flows`, which the agent collects.

use core::sync::atomic::{Ordering, compiler_fence};

use mesh_common::{Address, FlowKey, FlowValue, Port, Seen};
use mesh_ebpf::{FlowEntry, Full, NotAdded, Place};

use super::maps::{FLOWS, OPENING};

/// Flag and error of bpf_map_update_elem.
const NOEXIST: u64 = 1;
const EEXIST: i32 = -17;

/// An entry where it is. The element may be given to another key while it is held: `FlowValue::belongs_to` tells.
pub(crate) struct KernelFlow {
    value: *mut FlowValue,
    is_opening: bool,
}

impl FlowEntry for KernelFlow {
    #[inline(always)]
    fn value(&self) -> FlowValue {
        // SAFETY: the kernel's pointer to a whole value, valid until the program ends.
        unsafe { *self.value }
    }

    #[inline(always)]
    fn is_opening(&self) -> bool {
        self.is_opening
    }

    #[inline(always)]
    fn note(&self, seen: Seen, stamp: u32) {
        // SAFETY: as in `value`; two aligned stores. Whoever else writes them at this moment saw a packet of the same
        // flow.
        unsafe { (*self.value).note(seen, stamp) };
    }

    #[inline(always)]
    fn set_source(&self, (address, port): (Address, Port)) {
        // SAFETY: as in `value`. A source counts from its port on, so the port is written last.
        unsafe { (*self.value).set_source_address(address) };
        compiler_fence(Ordering::SeqCst);
        // SAFETY: as above.
        unsafe { (*self.value).set_source_port(port) };
    }
}

#[inline(always)]
pub(super) fn find(key: &FlowKey) -> Option<KernelFlow> {
    if let Some(value) = FLOWS.get_ptr_mut(key) {
        return Some(KernelFlow {
            value,
            is_opening: false,
        });
    }
    let value = OPENING.get_ptr_mut(key)?;
    Some(KernelFlow {
        value,
        is_opening: true,
    })
}

#[inline(always)]
pub(super) fn add(place: Place, key: &FlowKey, value: &FlowValue) -> Result<(), NotAdded> {
    let added = match place {
        Place::Opening => OPENING.insert(key, value, NOEXIST),
        Place::Confirmed => FLOWS.insert(key, value, NOEXIST),
    };
    match added {
        Ok(()) => Ok(()),
        Err(EEXIST) => Err(NotAdded::Exists),
        Err(_) => Err(NotAdded::Full),
    }
}

#[inline(always)]
pub(super) fn confirm(key: &FlowKey) -> Result<(), Full> {
    let Some(value) = OPENING.get_ptr_mut(key) else {
        return Ok(());
    };
    // SAFETY: the kernel's pointer to a whole value; copied, because an element that is looked up may not be given to a
    // map as it is.
    let value = unsafe { *value };
    match FLOWS.insert(key, value, NOEXIST) {
        Ok(()) | Err(EEXIST) => {}
        Err(_) => return Err(Full),
    }
    OPENING.remove(key).ok();
    Ok(())
}

#[inline(always)]
pub(super) fn unconfirm(key: &FlowKey) {
    if let Some(value) = FLOWS.get_ptr_mut(key) {
        // SAFETY: as in `confirm`.
        let value = unsafe { *value };
        OPENING.insert(key, value, NOEXIST).ok();
        FLOWS.remove(key).ok();
    }
}

#[inline(always)]
pub(super) fn remove(key: &FlowKey) {
    // That there is nothing is the common case.
    FLOWS.remove(key).ok();
    OPENING.remove(key).ok();
}
