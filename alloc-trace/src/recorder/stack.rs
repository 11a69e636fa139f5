//! Which readable mapping the stack pointer lies in: the bounds within which a backtrace reads.
//!
//! A stack is whatever the stack pointer points into: a thread's, a coroutine's, the one that a
//! signal handler was given. The kernel knows its mapping; it is asked when the stack pointer leaves
//! the one last known, which is once for most threads.

use std::ffi::CStr;

use super::sys;

/// A readable mapping, from its first address to the one behind its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stack {
    pub(super) low: u64,
    pub(super) high: u64,
}

const MAPS: &CStr = c"/proc/self/maps";

impl Stack {
    /// No memory at all: what is known before the first look-up.
    pub(super) const NONE: Self = Self { low: 0, high: 0 };

    /// Whether `length` bytes at `address` lie in it.
    #[inline]
    pub(super) const fn contains(&self, address: u64, length: u64) -> bool {
        self.low <= address && address < self.high && self.high - address >= length
    }

    /// Reads the word at `address`; `None` outside of the mapping or off a word's boundary.
    #[inline]
    pub(super) fn read(&self, address: u64) -> Option<u64> {
        if !self.contains(address, 8) || !address.is_multiple_of(8) {
            return None;
        }
        let place = std::ptr::with_exposed_provenance::<u64>(address as usize);
        // SAFETY: the kernel said that the mapping is readable, and it holds the running stack, so
        // it is not given back while this thread stands on it; the address is aligned. The word may
        // be anything, and is only compared or bounds-checked again.
        Some(unsafe { place.read_volatile() })
    }

    /// Reads the word that lies `slot` words behind `address`, which is a multiple of eight; `None`
    /// outside of the mapping.
    #[inline(always)]
    pub(super) fn read_slot(&self, address: u64, slot: i16) -> Option<u64> {
        let address = address.wrapping_add_signed(i64::from(slot) * 8);
        // A mapping ends at an OS page's end, so whole words are either in it or not.
        if address.wrapping_sub(self.low) >= self.high - self.low {
            return None;
        }
        let place = std::ptr::with_exposed_provenance::<u64>(address as usize);
        // SAFETY: as in `read`.
        Some(unsafe { place.read_volatile() })
    }

    /// Asks the kernel for the mapping that `address` lies in.
    ///
    /// Where it will not tell, the rest of the OS page is all that is sure to be readable.
    #[cold]
    pub(super) fn around(address: u64) -> Self {
        let asked = query(address).or_else(|| search(address));
        let readable = asked.filter(|stack| stack.contains(address, 1));
        let page_end = (address | 0xfff).saturating_add(1);
        readable.unwrap_or(Self { low: address & !0xfff, high: page_end })
    }
}

/// Asks by `PROCMAP_QUERY` (Linux 6.11): no text to make and to parse.
fn query(address: u64) -> Option<Stack> {
    #[repr(C)]
    #[derive(Default)]
    struct ProcmapQuery {
        size: u64,
        query_flags: u64,
        query_addr: u64,
        vma_start: u64,
        vma_end: u64,
        vma_flags: u64,
        vma_page_size: u64,
        vma_offset: u64,
        inode: u64,
        dev_major: u32,
        dev_minor: u32,
        vma_name_size: u32,
        build_id_size: u32,
        vma_name_addr: u64,
        build_id_addr: u64,
    }
    const PROCMAP_QUERY: u64 = 0xc068_6611;
    const READABLE: u64 = 1;
    const _: () = assert!(size_of::<ProcmapQuery>() == 0x68);

    let mut query = ProcmapQuery {
        size: size_of::<ProcmapQuery>() as u64,
        query_flags: READABLE,
        query_addr: address,
        ..ProcmapQuery::default()
    };
    let fd = sys::open(MAPS, libc::O_RDONLY, 0).ok()?;
    // SAFETY: the request reads and writes one `ProcmapQuery`, which `query` is.
    let result = unsafe { libc::syscall(libc::SYS_ioctl, fd, PROCMAP_QUERY, &raw mut query) };
    sys::close(fd);
    (result == 0).then_some(Stack { low: query.vma_start, high: query.vma_end })
}

/// Searches the text of `/proc/self/maps`: `low-high rwxp …` a line.
fn search(address: u64) -> Option<Stack> {
    let fd = sys::open(MAPS, libc::O_RDONLY, 0).ok()?;
    let found = search_lines(address, |buffer| sys::read(fd, buffer).unwrap_or(0));
    sys::close(fd);
    found
}

fn search_lines(address: u64, mut read: impl FnMut(&mut [u8]) -> usize) -> Option<Stack> {
    /// The fields of a line that matter, in their order.
    enum Field {
        Low,
        High,
        Readable,
        Rest,
    }
    let mut buffer = [0; 512];
    let mut field = Field::Low;
    let mut stack = Stack::NONE;
    loop {
        let length = read(&mut buffer);
        let bytes = buffer.get(..length).filter(|bytes| !bytes.is_empty())?;
        for &byte in bytes {
            let digit = u64::from((byte as char).to_digit(16).unwrap_or(0));
            match (&field, byte) {
                (_, b'\n') => (field, stack) = (Field::Low, Stack::NONE),
                (Field::Low, b'-') => field = Field::High,
                (Field::Low, _) => stack.low = stack.low << 4 | digit,
                (Field::High, b' ') => field = Field::Readable,
                (Field::High, _) => stack.high = stack.high << 4 | digit,
                (Field::Readable, b'r') if stack.contains(address, 1) => return Some(stack),
                (Field::Readable, _) => field = Field::Rest,
                (Field::Rest, _) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_asking_find_the_running_stack() {
        let local = 0u64;
        let address = (&raw const local).expose_provenance() as u64;
        let searched = search(address).expect("the stack is mapped");
        assert!(searched.contains(address, 8));
        assert_eq!(Stack::around(address), searched);
        assert_eq!(searched.read(address), Some(0));
        assert_eq!(searched.read(address + 1), None);
        assert_eq!(searched.read(searched.high), None);
        assert_eq!(searched.read(searched.high - 4), None);
    }

    #[test]
    fn a_line_may_be_cut_by_the_buffer_anywhere() {
        let text = b"1000-2000 r-xp 0 0 0 /bin/a\n2000-3000 ---p 0 0 0\n3000-9000 rw-p 0 [stack]\n";
        for step in 1..=text.len() {
            let find = |address| {
                let mut pieces = text.chunks(step);
                search_lines(address, |buffer| {
                    let piece = pieces.next().unwrap_or_default();
                    buffer[..piece.len()].copy_from_slice(piece);
                    piece.len()
                })
            };
            assert_eq!(find(0x3fff), Some(Stack { low: 0x3000, high: 0x9000 }), "step {step}");
            assert_eq!(find(0x2800), None, "not readable");
            assert_eq!(find(0x9000), None);
        }
    }
}
