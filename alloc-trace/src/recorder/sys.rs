//! The operating system, as the recorder needs it inside a heap request: raw system calls, no
//! cancellation points, nothing that allocates or panics.
//!
//! A function here may change `errno`. Whoever calls one from a hook holds a [`PreserveErrno`].

use std::ffi::CStr;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU32;

use libc::{c_int, c_long, c_void};

/// Puts `errno` back when it is dropped: a heap request does not change it.
#[derive(Debug)]
pub(crate) struct PreserveErrno(c_int);

impl PreserveErrno {
    pub(crate) fn new() -> Self {
        Self(errno())
    }
}

impl Drop for PreserveErrno {
    fn drop(&mut self) {
        set_errno(self.0);
    }
}

/// The calling thread's `errno`.
pub(crate) fn errno() -> c_int {
    // SAFETY: the location is the calling thread's own, valid as long as it runs.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { place.read() }
}

/// Sets the calling thread's `errno`.
pub(super) fn set_errno(number: c_int) {
    // SAFETY: the location is the calling thread's own, valid as long as it runs.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above; nobody else writes it.
    unsafe { place.write(number) };
}

/// Keeps signal handlers off the calling thread until it is dropped, but for those of what the thread's own
/// instructions raise: the kernel ends a process that has such a signal blocked.
#[derive(Debug)]
pub(super) struct BlockedSignals {
    /// What was blocked before; `None` where the kernel refused.
    before: Option<u64>,
}

impl BlockedSignals {
    pub(super) fn new() -> Self {
        const RAISED: [c_int; 6] =
            [libc::SIGILL, libc::SIGTRAP, libc::SIGBUS, libc::SIGFPE, libc::SIGSEGV, libc::SIGSYS];
        let others = RAISED.iter().fold(u64::MAX, |set, signal| set & !(1 << (signal - 1)));
        let mut before = 0;
        let is_blocked = change_signal_mask(libc::SIG_BLOCK, others, Some(&mut before));
        Self { before: is_blocked.then_some(before) }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            change_signal_mask(libc::SIG_SETMASK, before, None);
        }
    }
}

/// The C library's call would leave its own two signals alone, of which one cancels the thread.
fn change_signal_mask(how: c_int, set: u64, before: Option<&mut u64>) -> bool {
    let _errno = PreserveErrno::new();
    let before = before.map_or(ptr::null_mut(), ptr::from_mut);
    // SAFETY: the call reads one set of signals, and writes one where it is given a place for it.
    let result = unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const set, before, size_of::<u64>())
    };
    result == 0
}

/// A number of the operating system for what went wrong, as `errno` has it.
pub(crate) type Errno = c_int;

fn check(result: c_long) -> Result<c_long, Errno> {
    if result < 0 { Err(errno()) } else { Ok(result) }
}

/// Fresh zeroed memory, `None` where the system has none.
pub(crate) fn map_anonymous(bytes: usize) -> Option<NonNull<u8>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a fresh mapping at an address of the kernel's choice overlaps nothing.
    let address = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
    if address == libc::MAP_FAILED { None } else { NonNull::new(address.cast()) }
}

/// A part of a file, mapped shared: what is stored in it is in the file, whatever becomes of the
/// process.
pub(crate) fn map_shared(fd: c_int, offset: u64, bytes: usize) -> Result<NonNull<u8>, Errno> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let offset = libc::off_t::try_from(offset).map_err(|_| libc::EOVERFLOW)?;
    // SAFETY: a fresh mapping at an address of the kernel's choice overlaps nothing.
    let address =
        unsafe { libc::mmap(ptr::null_mut(), bytes, protection, libc::MAP_SHARED, fd, offset) };
    if address == libc::MAP_FAILED {
        return Err(errno());
    }
    NonNull::new(address.cast()).ok_or(libc::ENOMEM)
}

/// Puts a fresh private page in the place of the one at `address`; whether that was possible.
///
/// # Safety
///
/// - The page is part of a mapping that this module made.
pub(crate) unsafe fn replace_page(address: usize) -> bool {
    let bytes = os_page_bytes();
    // SAFETY: the caller's promise.
    unsafe { replace(ptr::without_provenance_mut(address & !(bytes - 1)), bytes) }
}

/// Puts fresh private memory in the place of what is mapped at `page`; whether that was possible.
///
/// # Safety
///
/// - The pages are part of a mapping that this module made.
pub(crate) unsafe fn replace(page: *mut c_void, bytes: usize) -> bool {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: the caller's promise.
    unsafe { libc::mmap(page, bytes, protection, flags, -1, 0) != libc::MAP_FAILED }
}

/// Gives a mapping back.
///
/// # Safety
///
/// - `address` and `bytes` are a whole mapping that this module made.
/// - Nobody uses it any more.
pub(crate) unsafe fn unmap(address: NonNull<u8>, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { libc::munmap(address.as_ptr().cast(), bytes) };
}

/// Takes all access away from pages at the front of a mapping, so that who runs over meets them.
pub(crate) fn protect(address: NonNull<u8>, bytes: usize) {
    // SAFETY: the pages are the caller's own mapping, and nobody uses them.
    unsafe { libc::mprotect(address.as_ptr().cast(), bytes, libc::PROT_NONE) };
}

/// Asks that a forked child finds these pages zeroed, which kernels before 4.14 cannot do.
pub(crate) fn wipe_on_fork(address: NonNull<u8>, bytes: usize) {
    // SAFETY: the advice changes only what a later child finds in the caller's own mapping.
    unsafe { libc::madvise(address.as_ptr().cast(), bytes, libc::MADV_WIPEONFORK) };
}

/// Opens a file; it is closed on `exec`.
pub(crate) fn open(path: &CStr, flags: c_int, mode: u32) -> Result<c_int, Errno> {
    let flags = flags | libc::O_CLOEXEC;
    // SAFETY: the path is a C string; the call stores nothing of it.
    let result =
        unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, mode) };
    check(result).map(|fd| fd as c_int)
}

/// Closes a file.
pub(crate) fn close(fd: c_int) {
    // SAFETY: closing a descriptor touches no memory; it is the caller's own.
    unsafe { libc::syscall(libc::SYS_close, fd) };
}

/// What tells an open file from every other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileIdentity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) is_regular: bool,
    pub(crate) bytes: u64,
    /// When it was written last, in nanoseconds since the Unix epoch.
    pub(crate) modified_ns: u64,
}

/// Which file is open there.
pub(crate) fn identity(fd: c_int) -> Result<FileIdentity, Errno> {
    // SAFETY: zero is a valid `stat64`, which is plain data.
    let mut status: libc::stat64 = unsafe { std::mem::zeroed() };
    // SAFETY: the call writes one `stat64`, which `status` is.
    let result = unsafe { libc::fstat64(fd, &raw mut status) };
    check(result.into())?;
    Ok(FileIdentity {
        device: status.st_dev,
        inode: status.st_ino,
        is_regular: status.st_mode & libc::S_IFMT == libc::S_IFREG,
        bytes: status.st_size.cast_unsigned(),
        modified_ns: status
            .st_mtime
            .cast_unsigned()
            .wrapping_mul(1_000_000_000)
            .wrapping_add(status.st_mtime_nsec.cast_unsigned()),
    })
}

/// Moves an open file to a high number, out of the way of programs that close or count on low ones. Not
/// higher than this: the kernel's table of descriptors reaches up to the highest one, and each `fork`
/// copies it. Where no such number is allowed it has one that is about as high as can be.
///
/// # Errors
///
/// `EMFILE` where there is none but those of standard input, output and error, which the program writes
/// to; the file is closed then.
pub(crate) fn move_high(fd: c_int) -> Result<c_int, Errno> {
    for lowest in [1_000, 200, 128, 64, 32, 16, 8, 3] {
        // SAFETY: the call touches no memory.
        let moved = unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC, lowest) };
        if moved >= 0 {
            close(fd);
            return Ok(moved as c_int);
        }
        if fd >= lowest {
            return Ok(fd);
        }
    }
    close(fd);
    Err(libc::EMFILE)
}

/// Removes a name from its directory.
pub(crate) fn unlink(path: &CStr) -> Result<(), Errno> {
    // SAFETY: the path is a C string; the call stores nothing of it.
    let result = unsafe { libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), 0) };
    check(result).map(drop)
}

/// Locks the whole file for this process and its descriptor, without waiting.
pub(crate) fn lock(fd: c_int) -> Result<(), Errno> {
    // SAFETY: the call touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_flock, fd, libc::LOCK_EX | libc::LOCK_NB) };
    check(result).map(drop)
}

/// Reserves space in a file, so that storing to a mapping of it cannot fail for want of space.
pub(crate) fn allocate(fd: c_int, offset: u64, bytes: u64) -> Result<(), Errno> {
    // SAFETY: the call touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_fallocate, fd, 0, offset, bytes) };
    match check(result) {
        Err(libc::EOPNOTSUPP | libc::ENOSYS) => write_zeros(fd, offset, bytes),
        result => result.map(drop),
    }
}

/// What [`allocate`] does on a file system that cannot.
fn write_zeros(fd: c_int, offset: u64, bytes: u64) -> Result<(), Errno> {
    static ZEROS: [u8; 4096] = [0; 4096];
    let mut done = 0;
    while done < bytes {
        let part = (bytes - done).min(ZEROS.len() as u64) as usize;
        write_at(fd, offset + done, &ZEROS[..part], &[])?;
        done += part as u64;
    }
    Ok(())
}

/// Gives the space of a part of a file back; what is read there then is zero.
pub(crate) fn punch_hole(fd: c_int, offset: u64, bytes: u64) {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: the call touches no memory. Where it is not supported the space stays taken.
    unsafe { libc::syscall(libc::SYS_fallocate, fd, mode, offset, bytes) };
}

/// Writes two pieces one behind the other at an offset, whole or not at all as far as is known.
pub(crate) fn write_at(fd: c_int, offset: u64, head: &[u8], body: &[u8]) -> Result<(), Errno> {
    let total = head.len() + body.len();
    let mut done = 0;
    while done < total {
        let head = head.get(done..).unwrap_or_default();
        let body = body.get(done.saturating_sub(total - body.len())..).unwrap_or_default();
        let pieces = [
            libc::iovec { iov_base: head.as_ptr().cast_mut().cast(), iov_len: head.len() },
            libc::iovec { iov_base: body.as_ptr().cast_mut().cast(), iov_len: body.len() },
        ];
        let place = offset + done as u64;
        // SAFETY: both pieces are live slices, which the call only reads. The offset is passed in
        // two halves, of which a 64-bit kernel takes the first whole.
        let result = unsafe { libc::syscall(libc::SYS_pwritev, fd, pieces.as_ptr(), 2, place, 0) };
        match check(result) {
            Ok(0) => return Err(libc::EIO),
            Ok(written) => done += written as usize,
            Err(libc::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether the word at `address`, which is a multiple of eight, can be read.
///
/// The kernel reads a set of signals there before it finds that it is to do nothing that it knows with it.
pub(crate) fn is_readable(address: u64) -> bool {
    const NOTHING: c_int = -1;
    const SET_BYTES: usize = 8;
    let (set, old) =
        (ptr::with_exposed_provenance::<c_void>(address as usize), ptr::null::<c_void>());
    // SAFETY: the call writes no memory, and answers an error where it cannot read.
    let result = unsafe { libc::syscall(libc::SYS_rt_sigprocmask, NOTHING, set, old, SET_BYTES) };
    check(result) == Err(libc::EINVAL)
}

/// Reads up to `buffer.len()` bytes from the front of a file.
pub(crate) fn read_file<'a>(path: &CStr, buffer: &'a mut [u8]) -> Result<&'a [u8], Errno> {
    let fd = open(path, libc::O_RDONLY, 0)?;
    let length = read(fd, buffer);
    close(fd);
    Ok(buffer.get(..length?).unwrap_or_default())
}

/// Reads until the buffer is full or the file ends.
pub(crate) fn read(fd: c_int, buffer: &mut [u8]) -> Result<usize, Errno> {
    fill(buffer, |rest, _| {
        // SAFETY: the buffer is the caller's and as long as stated.
        unsafe { libc::syscall(libc::SYS_read, fd, rest.as_mut_ptr(), rest.len()) }
    })
}

/// Reads at an offset until the buffer is full or the file ends; answers how many bytes that were.
pub(crate) fn read_at(fd: c_int, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    fill(buffer, |rest, done| {
        let (place, length) = (offset + done as u64, rest.len());
        // SAFETY: the buffer is the caller's and as long as stated.
        unsafe { libc::syscall(libc::SYS_pread64, fd, rest.as_mut_ptr(), length, place) }
    })
}

/// Makes a call that reads, given the rest of the buffer and how much stands before it, until the buffer
/// is full or the call finds nothing more; answers how many bytes that were.
fn fill(
    buffer: &mut [u8],
    mut call: impl FnMut(&mut [u8], usize) -> c_long,
) -> Result<usize, Errno> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match check(call(rest, done)) {
            Ok(0) => break,
            Ok(length) => done += length as usize,
            Err(libc::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Reads where a symbolic link points.
pub(crate) fn read_link<'a>(path: &CStr, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    // SAFETY: the path is a C string, the buffer the caller's and as long as stated.
    let result = unsafe {
        libc::syscall(
            libc::SYS_readlinkat,
            libc::AT_FDCWD,
            path.as_ptr(),
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    };
    buffer.get(..usize::try_from(result).ok()?)
}

/// The process's working directory, without a slash at its end; `None` where it has no path.
pub(crate) fn working_directory(buffer: &mut [u8]) -> Option<&[u8]> {
    // SAFETY: the buffer is the caller's and as long as stated.
    let result = unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) };
    let with_zero = buffer.get(..usize::try_from(result).ok()?)?;
    let path = with_zero.strip_suffix(&[0])?;
    // One that was removed has an error, one out of reach begins in another way.
    path.starts_with(b"/").then(|| path.strip_suffix(b"/").unwrap_or(path))
}

/// How much of the process's memory is resident.
pub(crate) fn resident_bytes() -> Option<u64> {
    let mut buffer = [0; 128];
    let fields = read_file(c"/proc/self/statm", &mut buffer).ok()?;
    let pages = fields.split(|&byte| byte == b' ').nth(1)?;
    let pages: u64 = std::str::from_utf8(pages).ok()?.parse().ok()?;
    Some(pages * os_page_bytes() as u64)
}

/// The process's id.
pub(crate) fn pid() -> u32 {
    // SAFETY: the call touches no memory.
    (unsafe { libc::syscall(libc::SYS_getpid) }) as u32
}

/// The id of the process's parent.
pub(crate) fn parent_pid() -> u32 {
    // SAFETY: the call touches no memory.
    (unsafe { libc::syscall(libc::SYS_getppid) }) as u32
}

/// The kernel's id of the calling thread.
pub(crate) fn thread_id() -> u32 {
    // SAFETY: the call touches no memory.
    (unsafe { libc::syscall(libc::SYS_gettid) }) as u32
}

/// The calling thread's name, at most 15 bytes.
pub(crate) fn thread_name(buffer: &mut [u8; 16]) -> &[u8] {
    // SAFETY: the call writes at most 16 bytes, which the buffer has.
    let result =
        unsafe { libc::syscall(libc::SYS_prctl, libc::PR_GET_NAME, buffer.as_mut_ptr(), 0, 0, 0) };
    let length = if result == 0 { buffer.iter().position(|&byte| byte == 0) } else { Some(0) };
    buffer.get(..length.unwrap_or(0)).unwrap_or_default()
}

/// How long the file may become before the kernel sends `SIGXFSZ`.
pub(crate) fn file_size_limit() -> u64 {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let none = ptr::null::<c_void>();
    // SAFETY: the call writes one `rlimit64`, which `limit` is.
    let result =
        unsafe { libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_FSIZE, none, &raw mut limit) };
    if result == 0 { limit.rlim_cur } else { u64::MAX }
}

/// Registers this process for [`barrier`]; whether the kernel knows it.
pub(crate) fn register_barrier() -> bool {
    membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)
}

/// After this every thread of the process has passed a full memory barrier: what it stored before
/// is seen here, and what it loads after sees what was stored here.
pub(crate) fn barrier() -> bool {
    membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
}

/// Does what [`barrier`] does where the kernel refuses that: waits for 20 ms. A processor's stores leave it as soon as
/// its cache has their lines, within microseconds, and at the latest with its next interrupt.
pub(crate) fn let_stores_settle() {
    let end = clock_ns(libc::CLOCK_MONOTONIC) + 20_000_000;
    while clock_ns(libc::CLOCK_MONOTONIC) < end {
        pause();
    }
}

fn membarrier(command: c_int) -> bool {
    // SAFETY: the call touches no memory.
    (unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) }) == 0
}

/// Nanoseconds of a clock of the kernel.
pub(crate) fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one `timespec`, which `time` is.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// Lets other threads run for about a tenth of a millisecond.
pub(crate) fn pause() {
    let time = libc::timespec { tv_sec: 0, tv_nsec: 100_000 };
    let none = ptr::null_mut::<c_void>();
    // SAFETY: the call reads one `timespec`, which `time` is.
    unsafe { libc::syscall(libc::SYS_nanosleep, &raw const time, none) };
}

/// How many of the kernel's clock ticks are a second, where it tells of a process.
pub(crate) fn ticks_per_second() -> u64 {
    // SAFETY: the call touches no memory of ours.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).ok().filter(|&ticks| ticks > 0).unwrap_or(100)
}

/// Waits until somebody calls [`wake_one`] for `word`, unless it is not `seen` any more: so long at most, and
/// perhaps less.
pub(crate) fn wait_for_change(word: &AtomicU32, seen: u32, most_ns: u32) {
    let time = libc::timespec { tv_sec: 0, tv_nsec: most_ns.min(999_999_999).into() };
    let wait = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the call reads the word, and one `timespec`, which `time` is.
    let result =
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), wait, seen, &raw const time) };
    if result != 0 && !matches!(errno(), libc::EAGAIN | libc::EINTR | libc::ETIMEDOUT) {
        // Forbidden, as in a sandbox.
        pause();
    }
}

/// Wakes one of those who wait for `word`.
pub(crate) fn wake_one(word: &AtomicU32) {
    let wake = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the call uses the word's address alone.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), wake, 1) };
}

/// The size of an OS page in bytes.
pub(crate) fn os_page_bytes() -> usize {
    // SAFETY: the call touches no memory of ours.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Says one line on standard error, prefixed with the name of the library, in one system call.
pub(crate) fn complain(parts: &[&[u8]]) {
    let mut line = [0; 512];
    let mut length = 0;
    for part in [b"alloc-trace: ".as_slice()].iter().chain(parts) {
        for &byte in *part {
            if let Some(place) = line.get_mut(length).filter(|_| length < 511) {
                *place = byte;
                length += 1;
            }
        }
    }
    if let Some(place) = line.get_mut(length) {
        *place = b'\n';
    }
    // SAFETY: the line is live and as long as stated.
    unsafe { libc::syscall(libc::SYS_write, 2, line.as_ptr(), length + 1) };
}

/// The operating system's words for an error, for the few that a file can meet.
pub(crate) fn describe(error: Errno) -> &'static [u8] {
    match error {
        libc::ENOENT => b"no such file or directory",
        libc::EACCES | libc::EPERM => b"permission denied",
        libc::EISDIR => b"is a directory",
        libc::ENOTDIR => b"a part of the path is not a directory",
        libc::ENOSPC | libc::EDQUOT => b"no space left",
        libc::EROFS => b"read-only file system",
        libc::EFBIG => b"file too large for the limit set",
        libc::EMFILE | libc::ENFILE => b"too many open files",
        libc::ENAMETOOLONG => b"path too long",
        libc::ENODEV | libc::EINVAL => b"cannot be mapped into memory",
        libc::ENOMEM => b"out of memory",
        libc::EWOULDBLOCK => b"in use by another process",
        libc::EBADF => b"the program closed its file",
        libc::ESTALE => b"its file was truncated",
        libc::EDOM => b"it is as large as was asked for",
        libc::ETIMEDOUT => b"a thread waited for half a minute while others made room in its ring",
        _ => b"the operating system refused",
    }
}
