//! What the heap asks of the operating system: address space, and its return.
//!
//! The system calls of the crate are here, but for the abort message and what [`helper`] needs. A
//! refused request is
//! answered with `None` or `false`, `errno` is left as it was found, and nothing is a cancellation
//! point. In unit tests [`fault`] makes the Nth request fail; elsewhere that hook is a constant.

use core::ptr::{self, NonNull};

use crate::syscall::call;

/// The largest unit of memory that a kernel of the supported targets has (aarch64 is built with 4,
/// 16 or 64 KiB). Whole numbers of it can be unmapped and purged under all of them.
pub(crate) const OS_PAGE: usize = 64 * 1024;

/// A huge page of the kernel's, where it has them: on x86_64, and on aarch64 with pages of 4 KiB.
pub(crate) const HUGE_PAGE: usize = 2 << 20;

/// Runs a call and puts `errno` back if it failed: an allocator's caller does not expect `free`
/// to change it, and the kernel only writes it on failure.
pub(crate) fn keeping_errno<T>(call: impl FnOnce() -> T, failed: impl FnOnce(&T) -> bool) -> T {
    // SAFETY: has no preconditions; the result is this thread's `errno`, valid while it lives.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: `errno` is valid for reads, as above.
    let before = unsafe { errno.read() };
    let result = call();
    if failed(&result) {
        // SAFETY: `errno` is valid for writes, as above.
        unsafe { errno.write(before) };
    }
    result
}

/// Maps `bytes` of zeroed, readable and writable memory for metadata, which is touched here and there:
/// it takes no room before that, and none is set aside for it.
pub(crate) fn map_sparse(bytes: usize) -> Option<NonNull<u8>> {
    map_with(bytes, libc::MAP_NORESERVE)
}

/// Maps `bytes` of zeroed, readable and writable memory, which takes no room before it is touched.
///
/// The kernel may refuse what it could never provide: so that a request of absurd size fails, rather
/// than the program when it uses the memory.
pub(crate) fn map(bytes: usize) -> Option<NonNull<u8>> {
    map_with(bytes, 0)
}

fn map_with(bytes: usize, flags: libc::c_int) -> Option<NonNull<u8>> {
    if bytes == 0 || fault::refuses() {
        return None;
    }
    let address = keeping_errno(
        // SAFETY: a new private anonymous mapping at an address of the kernel's choice touches no
        // existing memory.
        || unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags,
                -1,
                0,
            )
        },
        |address| *address == libc::MAP_FAILED,
    );
    if address == libc::MAP_FAILED {
        return None;
    }
    NonNull::new(address.cast())
}

/// Like [`map`], at a multiple of `align`, a power of two and at least an [`OS_PAGE`], as `bytes`
/// are a whole number of those.
pub(crate) fn map_aligned(bytes: usize, align: usize) -> Option<NonNull<u8>> {
    map_aligned_at(0, bytes, align)
}

/// Like [`map_aligned`], but that what lies `offset` bytes behind the beginning is at a multiple of
/// `align`. The offset is a whole number of [`OS_PAGE`]s too.
pub(crate) fn map_aligned_at(offset: usize, bytes: usize, align: usize) -> Option<NonNull<u8>> {
    let missing =
        |start: NonNull<u8>| start.addr().get().wrapping_add(offset).wrapping_neg() & (align - 1);
    let start = map(bytes)?;
    if missing(start) == 0 {
        return Some(start);
    }
    // SAFETY: the mapping was made just above and nobody knows of it.
    unsafe { unmap(start, bytes) };

    // Over-map by the alignment and cut off what is before and behind. The kernel granted the bytes
    // above; the rest is only addresses.
    let whole = bytes.checked_add(align)?;
    let start = map_sparse(whole)?;
    let before = missing(start);
    // SAFETY: `before` < `align`, inside the mapping of `bytes + align`.
    let aligned = unsafe { start.add(before) };
    if before != 0 {
        // SAFETY: the bytes before `aligned` are part of the new mapping and unused.
        unsafe { unmap(start, before) };
    }
    // SAFETY: `before + bytes` < `bytes + align`, inside the mapping.
    let behind = unsafe { aligned.add(bytes) };
    // SAFETY: the rest behind the block is part of the new mapping and unused.
    unsafe { unmap(behind, align - before) };
    Some(aligned)
}

/// Returns a range to the OS. Says whether it went; a range that stays mapped is purged instead,
/// so that it costs address space only (the kernel refuses to split a mapping when a process has
/// too many).
///
/// # Safety
///
/// - The range was mapped by this module and is a whole number of [`OS_PAGE`]s.
/// - Nobody uses it any more, now or later.
pub(crate) unsafe fn unmap(start: NonNull<u8>, bytes: usize) -> bool {
    if !fault::refuses() {
        let status = keeping_errno(
            // SAFETY: the caller gives the range up.
            || unsafe { libc::munmap(start.as_ptr().cast(), bytes) },
            |status| *status != 0,
        );
        if status == 0 {
            return true;
        }
    }
    // SAFETY: the caller gives the range up; its contents are nobody's.
    unsafe { purge(start, bytes) };
    false
}

/// Gives the memory behind a range back and keeps the range: it reads as zeros afterwards.
/// Says whether the OS agreed; if not, the contents are unchanged or partly zero.
///
/// # Safety
///
/// - The range was mapped by this module and is a whole number of the OS's pages.
/// - Nobody relies on its contents.
pub(crate) unsafe fn purge(start: NonNull<u8>, bytes: usize) -> bool {
    if fault::refuses() {
        return false;
    }
    // SAFETY: passed on.
    unsafe { advise(start, bytes, libc::MADV_DONTNEED) }
}

/// Asks for a range to be made of huge pages where it is not touched yet. The kernel is free not to.
///
/// # Safety
///
/// - The range was mapped by this module.
pub(crate) unsafe fn prefer_huge_pages(start: NonNull<u8>, bytes: usize) {
    // SAFETY: passed on; changes no contents.
    unsafe { advise(start, bytes, libc::MADV_HUGEPAGE) };
}

/// Asks for a range to be made of ordinary pages again where it is not touched yet.
///
/// # Safety
///
/// - The range was mapped by this module.
pub(crate) unsafe fn prefer_ordinary_pages(start: NonNull<u8>, bytes: usize) {
    // SAFETY: passed on; changes no contents.
    unsafe { advise(start, bytes, libc::MADV_NOHUGEPAGE) };
}

/// Gives the kernel advice about a range; says whether it was taken. Past the C library, for the thread
/// that does not have an `errno`.
///
/// # Safety
///
/// - The range was mapped by this module.
/// - Nobody relies on its contents if the advice changes them.
unsafe fn advise(start: NonNull<u8>, bytes: usize, advice: libc::c_int) -> bool {
    let arguments = [start.as_ptr().addr(), bytes, advice as usize, 0];
    // SAFETY: the range is ours, and its contents may change as they do, by the caller's promise.
    unsafe { call(libc::SYS_madvise, arguments) == 0 }
}

/// Makes a whole mapping longer or shorter without moving it. `false` leaves it unchanged.
///
/// # Safety
///
/// - `start` and `old_bytes` are one whole mapping of this module.
/// - When it shrinks, nobody uses the part that goes.
#[cfg_attr(feature = "hardened", expect(dead_code, reason = "a block's guard is in its way"))]
pub(crate) unsafe fn resize(start: NonNull<u8>, old_bytes: usize, new_bytes: usize) -> bool {
    if fault::refuses() {
        return false;
    }
    let address = keeping_errno(
        // SAFETY: without `MREMAP_MAYMOVE` the mapping stays where it is, and grows only into
        // address space that nobody uses; what a shrink cuts off is unused by the caller's promise.
        || unsafe { libc::mremap(start.as_ptr().cast(), old_bytes, new_bytes, 0) },
        |address| *address == libc::MAP_FAILED,
    );
    address != libc::MAP_FAILED
}

/// Moves a whole mapping onto another one, page tables instead of bytes. `false` leaves it
/// unchanged, and the target in an unknown state.
///
/// # Safety
///
/// - `start` and `old_bytes` are one whole mapping of this module, `target` and `new_bytes` another,
///   and `new_bytes >= old_bytes`.
/// - Nobody but the caller uses the first, and nobody uses the second or relies on its contents.
pub(crate) unsafe fn relocate(
    start: NonNull<u8>,
    old_bytes: usize,
    target: NonNull<u8>,
    new_bytes: usize,
) -> bool {
    if fault::refuses() {
        return false;
    }
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    let (from, to) = (start.as_ptr().cast(), target.as_ptr());
    let address = keeping_errno(
        // SAFETY: the caller may move the one mapping and give up the other.
        || unsafe { libc::mremap(from, old_bytes, new_bytes, flags, to) },
        |address| *address == libc::MAP_FAILED,
    );
    address != libc::MAP_FAILED
}

/// Whether the process may map only so much (`RLIMIT_AS`).
pub(crate) fn is_address_space_limited() -> bool {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    keeping_errno(
        // SAFETY: the limit is valid for writes.
        || unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) },
        |status| *status != 0,
    );
    limit.rlim_cur != libc::RLIM_INFINITY
}

/// Makes a range inaccessible. Says whether the OS agreed.
///
/// # Safety
///
/// - The range was mapped by this module and is a whole number of [`OS_PAGE`]s.
/// - Nobody uses it, now or later, but to unmap it.
pub(crate) unsafe fn protect(start: NonNull<u8>, bytes: usize) -> bool {
    if fault::refuses() {
        return false;
    }
    let status = keeping_errno(
        // SAFETY: the range is ours and nobody uses it, by the caller's promise.
        || unsafe { libc::mprotect(start.as_ptr().cast(), bytes, libc::PROT_NONE) },
        |status| *status != 0,
    );
    status == 0
}

/// Two numbers that the kernel chose at random when the program began.
#[cfg(feature = "hardened")]
pub(crate) fn startup_random() -> [u64; 2] {
    // SAFETY: has no preconditions.
    let address = unsafe { libc::getauxval(libc::AT_RANDOM) };
    let bytes: *const [u64; 2] = ptr::with_exposed_provenance(address as usize);
    if bytes.is_null() {
        return [now_ms(), address];
    }
    // SAFETY: the kernel has put sixteen random bytes there, which stay for the program's life.
    unsafe { bytes.read_unaligned() }
}

/// Bytes of a range that are in memory now. What is not mapped counts nothing.
pub(crate) fn resident_bytes(start: usize, bytes: usize) -> usize {
    /// OS pages that are asked about at a time.
    const AT_A_TIME: usize = 1024;
    let page = page_bytes();
    let end = start.saturating_add(bytes);
    let mut resident = 0;
    let mut next = start & !(page - 1);
    while next < end {
        let part = (end - next).min(AT_A_TIME * page);
        let mut here = [0u8; AT_A_TIME];
        let address = ptr::without_provenance_mut(next);
        let status = keeping_errno(
            // SAFETY: reads nothing at the range, whose first byte is a multiple of the OS page; the
            // array has a byte for each of at most `AT_A_TIME` pages.
            || unsafe { libc::mincore(address, part, here.as_mut_ptr()) },
            |status| *status != 0,
        );
        if status == 0 {
            resident += here.iter().filter(|flags| *flags & 1 != 0).count() * page;
        }
        next += AT_A_TIME * page;
    }
    resident
}

/// The processor that the calling thread runs on; it may be another one by the time that it is told.
pub(crate) fn processor() -> usize {
    // SAFETY: has no preconditions.
    let processor = unsafe { libc::sched_getcpu() };
    usize::try_from(processor).unwrap_or(0)
}

/// The number of this process, which the child of a fork does not share.
pub(crate) fn process() -> u32 {
    // SAFETY: has no preconditions.
    unsafe { call(libc::SYS_getpid, [0; 4]) as u32 }
}

/// The user and the group that the calling thread acts as.
pub(crate) fn ids() -> [u32; 2] {
    // SAFETY: has no preconditions.
    [libc::SYS_geteuid, libc::SYS_getegid].map(|number| unsafe { call(number, [0; 4]) as u32 })
}

/// Has the kernel be ready for [`barrier`], as far as it can. In a process of several threads that
/// takes some milliseconds.
pub(crate) fn prepare_barrier() {
    membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
}

/// Has every thread of the process go through a memory barrier, somewhere between what it did before
/// and what it does after this call. `false` if the kernel has no such call, or is not ready.
pub(crate) fn barrier() -> bool {
    membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
}

fn membarrier(command: libc::c_int) -> bool {
    // SAFETY: orders memory, and changes none.
    unsafe { call(libc::SYS_membarrier, [command as usize, 0, 0, 0]) == 0 }
}

/// Waits until the kernel has copied the memory of a process that is just being forked: as long as it
/// does, it answers no question about mappings. `false` if it was not asked, as a filter forbids that.
pub(crate) fn wait_for_forks() -> bool {
    let mut here = 0u8;
    let page = (&raw const here).addr() & !(page_bytes() - 1);
    // SAFETY: reads nothing at the range, whatever is there; the answer for it is a byte.
    unsafe { call(libc::SYS_mincore, [page, 1, (&raw mut here).expose_provenance(), 0]) == 0 }
}

/// Lets other threads run.
pub(crate) fn yield_now() {
    // SAFETY: has no preconditions.
    unsafe { call(libc::SYS_sched_yield, [0; 4]) };
}

/// Bytes of the OS's pages.
pub(crate) fn page_bytes() -> usize {
    // SAFETY: has no preconditions.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    // Every Linux knows it.
    usize::try_from(bytes).unwrap_or(OS_PAGE)
}

/// Milliseconds of a clock that never goes back; a few nanoseconds to read, a few milliseconds
/// coarse.
pub(crate) fn now_ms() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writes. The clock exists on every Linux, so the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut time) };
    let seconds = time.tv_sec.unsigned_abs();
    let rest = time.tv_nsec.unsigned_abs() / 1_000_000;
    seconds.wrapping_mul(1000).wrapping_add(rest)
}

/// Fault injection for unit tests: each thread can have its Nth request refused.
#[cfg(test)]
pub(crate) mod fault {
    use core::cell::Cell;

    thread_local! {
        static COUNTDOWN: Cell<u32> = const { Cell::new(0) };
        static LASTING: Cell<bool> = const { Cell::new(false) };
    }

    /// Refuses this thread's `nth` request from now (1 is the next), and every later one if
    /// `lasting`; 0 refuses none.
    pub(crate) fn refuse(nth: u32, lasting: bool) {
        COUNTDOWN.set(nth);
        LASTING.set(lasting);
    }

    /// Whether the armed fault has not yet struck.
    pub(crate) fn is_pending() -> bool {
        COUNTDOWN.get() > 1 || (COUNTDOWN.get() == 1 && !LASTING.get())
    }

    pub(super) fn refuses() -> bool {
        match COUNTDOWN.get() {
            0 => false,
            1 => {
                if !LASTING.get() {
                    COUNTDOWN.set(0);
                }
                true
            }
            more => {
                COUNTDOWN.set(more - 1);
                false
            }
        }
    }
}

/// Fault injection is for unit tests; elsewhere no request is refused.
#[cfg(not(test))]
mod fault {
    #[inline(always)]
    pub(super) const fn refuses() -> bool {
        false
    }
}
