//! Memory that comes straight from the kernel.

use std::ptr::{self, NonNull};
use std::slice;

/// Fresh memory, all zeros until it is written, which goes back when this is dropped.
#[derive(Debug)]
pub struct Memory {
    begin: NonNull<u8>,
    length: usize,
}

impl Memory {
    /// So many bytes; `None` where the kernel has none.
    #[must_use]
    pub fn new(length: usize) -> Option<Self> {
        // SAFETY: a new anonymous mapping, of which nothing is asked but that it be fresh.
        let begin = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if begin == libc::MAP_FAILED {
            return None;
        }
        NonNull::new(begin.cast()).map(|begin| Self { begin, length })
    }

    /// Has the kernel make it of huge pages, or of none. A kernel that has none refuses the advice, and
    /// nothing has changed then.
    pub fn huge_pages(&mut self, wanted: bool) {
        let advice = if wanted { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
        // SAFETY: the mapping is ours, and the advice changes nothing that is in it.
        unsafe { libc::madvise(self.begin.as_ptr().cast(), self.length, advice) };
    }

    /// The bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: mapped, readable, writable and zeroed as long as this lives, and borrowed from it.
        unsafe { slice::from_raw_parts_mut(self.begin.as_ptr(), self.length) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and nobody borrows from it any longer.
        unsafe { libc::munmap(self.begin.as_ptr().cast(), self.length) };
    }
}
