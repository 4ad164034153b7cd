//! What this kernel can do, found out by asking it.

use super::sys;

const CONNECT4: u32 = 10;
const BPF_FUNC_SET_RETVAL: u32 = 187;

/// Whether a program at a socket hook can say with which error a call fails (Linux 6.1).
pub(super) fn has_set_retval() -> bool {
    sys::helper_works(BPF_FUNC_SET_RETVAL, CONNECT4, false)
}
