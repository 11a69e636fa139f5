//! Which memory around the stack pointer is readable: the bounds within which a backtrace reads.
//!
//! A stack is whatever the stack pointer points into: a thread's, a coroutine's, the one that a
//! signal handler was given. It begins as the stretch that the stack pointer lies in, which the running
//! function uses, and grows as far as backtraces lead: stretch by stretch, of each of which the kernel is
//! asked whether it can be read, or, where that would be many, to the ends of the mapping. So a thread that
//! changes to another stack need not have the kernel search its mappings, which takes ten times as long as
//! a stretch, and nothing is taken for granted of stacks that it was on before: they may be gone.

use std::ffi::CStr;

use super::sys::{self, PreserveErrno};

/// Readable memory, from its first address to the one behind its last, both at ends of stretches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stack {
    pub(super) low: u64,
    pub(super) high: u64,
}

/// The bytes that are readable together: OS pages are as long, or several times that.
const STRETCH: u64 = 4096;
/// Stretches that are asked for one by one to reach an address. What lies further away is asked for as a
/// mapping.
const NEAR: u64 = 8;
/// A stack of more stretches than this is asked for as a mapping too.
const SMALL: u64 = 16;

const MAPS: &CStr = c"/proc/self/maps";

impl Stack {
    /// No memory at all: what is known before the first look-up.
    pub(super) const NONE: Self = Self { low: 0, high: 0 };

    /// The stretch around an address that is in use.
    pub(super) const fn at(address: u64) -> Self {
        let low = address & !(STRETCH - 1);
        Self { low, high: low.saturating_add(STRETCH) }
    }

    /// The stretch around any address, where it is readable.
    pub(super) fn probed(address: u64) -> Option<Self> {
        let _errno = PreserveErrno::new();
        let stretch = Self::at(address);
        sys::is_readable(stretch.low).then_some(stretch)
    }

    /// Whether `length` bytes at `address` lie in it.
    #[inline]
    pub(super) const fn contains(&self, address: u64, length: u64) -> bool {
        self.low <= address && address < self.high && self.high - address >= length
    }

    /// Reads the word at `address`, to which the stack grows where it can; `None` where it is not readable,
    /// or off a word's boundary.
    pub(super) fn read(&mut self, address: u64) -> Option<u64> {
        if !address.is_multiple_of(8) || !self.reaches(address) {
            return None;
        }
        self.read_slot(address, 0)
    }

    /// Reads the word that lies `slot` words behind `address`, which is a multiple of eight; `None`
    /// outside of what is known to be readable.
    #[inline(always)]
    pub(super) fn read_slot(&self, address: u64, slot: i16) -> Option<u64> {
        let address = address.wrapping_add_signed(i64::from(slot) * 8);
        // It ends where a stretch does, so whole words are either in it or not.
        if address.wrapping_sub(self.low) >= self.high - self.low {
            return None;
        }
        let place = std::ptr::with_exposed_provenance::<u64>(address as usize);
        // SAFETY: the kernel said that this is readable, and it holds the running stack or one that waits for
        // it, so it is not given back while this thread stands on it; the address is aligned. The word may
        // be anything, and is only compared or bounds-checked again.
        Some(unsafe { place.read_volatile() })
    }

    /// Whether `address` lies in it, once it has grown to there where it can.
    #[cold]
    #[inline(never)]
    pub(super) fn reaches(&mut self, address: u64) -> bool {
        if self.contains(address, 1) {
            return true;
        }
        if self.high - self.low <= SMALL * STRETCH && self.is_near(address) {
            return self.grows_to(address);
        }
        let _errno = PreserveErrno::new();
        let mapping = query(self.low).or_else(|| search(self.low));
        let Some(mapping) = mapping.filter(|mapping| mapping.contains(address, 1)) else {
            return false;
        };
        self.low = self.low.min(mapping.low);
        self.high = self.high.max(mapping.high);
        true
    }

    /// Whether it grew to `address`, which is near: all that lies between can be read.
    #[cold]
    #[inline(never)]
    pub(super) fn grows_to(&mut self, address: u64) -> bool {
        if !self.is_near(address) {
            return false;
        }
        let _errno = PreserveErrno::new();
        while self.high <= address && sys::is_readable(self.high) {
            self.high += STRETCH;
        }
        while self.low > address && sys::is_readable(self.low - STRETCH) {
            self.low -= STRETCH;
        }
        self.contains(address, 1)
    }

    const fn is_near(&self, address: u64) -> bool {
        address.saturating_add(NEAR * STRETCH) >= self.low
            && address < self.high.saturating_add(NEAR * STRETCH)
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
    use std::ops::Range;
    use std::ptr::NonNull;

    use super::*;

    /// Some OS pages, of which none but the first and the last few can be read.
    struct Pages {
        low: NonNull<u8>,
        count: usize,
    }

    impl Pages {
        fn new(count: usize, unreadable: Range<usize>) -> Self {
            let low = sys::map_anonymous(count * OS_PAGE).expect("memory");
            // SAFETY: the mapping holds these pages.
            let first = unsafe { low.add(unreadable.start * OS_PAGE) }.as_ptr().cast();
            let bytes = unreadable.len() * OS_PAGE;
            // SAFETY: the mapping is this test's.
            let protected = unsafe { libc::mprotect(first, bytes, libc::PROT_NONE) };
            assert_eq!(protected, 0);
            Self { low, count }
        }

        fn address(&self, page: usize) -> u64 {
            (self.low.as_ptr().expose_provenance() + page * OS_PAGE) as u64
        }
    }

    impl Drop for Pages {
        fn drop(&mut self) {
            // SAFETY: mapped by `new`, and nobody refers to it.
            unsafe { sys::unmap(self.low, self.count * OS_PAGE) };
        }
    }

    const OS_PAGE: usize = 64 << 10;

    #[test]
    fn both_ways_of_asking_find_the_running_stack() {
        let local = 0u64;
        let address = (&raw const local).expose_provenance() as u64;
        let mut searched = search(address).expect("the stack is mapped");
        assert!(searched.contains(address, 8));
        assert_eq!(query(address).unwrap_or(searched), searched);
        assert_eq!(searched.read(address), Some(0));
        assert_eq!(searched.read(address + 1), None);
        assert_eq!(searched.read_slot(searched.high, 0), None);
    }

    #[test]
    fn a_stack_grows_over_what_can_be_read_and_no_further() {
        let pages = Pages::new(40, 30..31);
        let (low, hole, behind) = (pages.address(0), pages.address(30), pages.address(31));
        sys::set_errno(7);
        let mut near = Stack::at(hole - 3 * STRETCH);
        assert!(near.reaches(hole - 8));
        assert_eq!(near, Stack { low: hole - 3 * STRETCH, high: hole });
        assert!(!near.reaches(hole));
        assert!(!near.grows_to(hole + 16));
        assert!(near.grows_to(hole - 5 * STRETCH));
        assert_eq!(near, Stack { low: hole - 5 * STRETCH, high: hole });
        assert!(!near.grows_to(hole - 200 * STRETCH), "that is far");
        assert!(near.reaches(low), "but it is the same mapping");
        assert_eq!(near.high, hole);
        assert!(near.low <= low);
        assert!(!near.reaches(behind), "which is another one");
        assert_eq!(Stack::probed(hole), None);
        assert_eq!(Stack::probed(behind + 8), Some(Stack::at(behind)));
        assert_eq!(sys::errno(), 7);
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
