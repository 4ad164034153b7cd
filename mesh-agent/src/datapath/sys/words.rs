//! Arrays that were made with BPF_F_MMAPABLE, as memory.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use super::map_info;

/// An array map's memory, shared with the kernel. Only whole aligned words are read and written, atomically.
#[derive(Debug)]
pub(in crate::datapath) struct Words {
    base: NonNull<AtomicU64>,
    count: usize,
}

// SAFETY: the memory stays mapped as long as the value lives, and is touched by atomic operations alone.
unsafe impl Send for Words {}
// SAFETY: as for Send.
unsafe impl Sync for Words {}

impl Words {
    /// Maps an array that was made with BPF_F_MMAPABLE. Its values must be a multiple of eight bytes long.
    pub(in crate::datapath) fn map(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let info = map_info(fd)?;
        let bytes = info.value_size as usize * info.max_entries as usize;
        // SAFETY: a new mapping at an address of the kernel's choice; the length is the array's.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(address.cast::<AtomicU64>())
            .ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(Self {
            base,
            count: bytes / 8,
        })
    }

    fn word(&self, index: usize) -> Option<&AtomicU64> {
        // SAFETY: the index is checked against the mapping's length, which is page aligned at its base.
        (index < self.count).then(|| unsafe { self.base.add(index).as_ref() })
    }

    /// How many words there are.
    pub(in crate::datapath) fn count(&self) -> usize {
        self.count
    }

    /// Reads a word; 0 out of range.
    pub(in crate::datapath) fn load(&self, index: usize) -> u64 {
        self.word(index)
            .map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Replaces a word by what is made of it, as long as nobody else writes it in between; then it is asked anew. False if
    /// nothing is made of it, or out of range.
    pub(in crate::datapath) fn change(
        &self,
        index: usize,
        change: impl Fn(u64) -> Option<u64>,
    ) -> bool {
        self.word(index).is_some_and(|word| {
            word.fetch_update(Ordering::AcqRel, Ordering::Acquire, change)
                .is_ok()
        })
    }

    /// Publishes a word: everything stored before is visible to who sees it. False out of range.
    pub(in crate::datapath) fn store(&self, index: usize, value: u64) -> bool {
        match self.word(index) {
            Some(word) => {
                word.store(value, Ordering::Release);
                true
            }
            None => false,
        }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `map` made, and no reference into it outlives the value.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.count * 8) };
    }
}
