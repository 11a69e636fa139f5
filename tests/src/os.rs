//! The operating system's calls that the scenarios need, as safe functions.

use std::ffi::{CString, c_int, c_void};
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::block::trail;

/// Writes to standard output in one system call, without `std`'s buffer and lock.
///
/// # Panics
///
/// Where nobody reads it.
pub fn say(bytes: &[u8]) {
    // SAFETY: the bytes are live and as long as stated.
    let written = unsafe { libc::write(1, bytes.as_ptr().cast(), bytes.len()) };
    assert_eq!(usize::try_from(written), Ok(bytes.len()));
}

/// Waits for a byte of standard input, without `std`'s buffer and lock.
///
/// # Panics
///
/// Where there is none to come.
pub fn wait_for_input() {
    let mut byte = 0_u8;
    // SAFETY: the call writes one byte, which `byte` is.
    let read = unsafe { libc::read(0, (&raw mut byte).cast(), 1) };
    assert_eq!(read, 1);
}

/// Ends the process at once, with no handler run.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: the call does not return, and runs nothing of the program.
    unsafe { libc::_exit(code) }
}

/// Forks; `None` in the child.
///
/// # Panics
///
/// Where there is no process to be had.
#[must_use]
pub fn fork() -> Option<i32> {
    // SAFETY: the C library makes its own heap usable in the child, and the scenarios' children use
    // nothing else that another thread may have locked.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork");
    (child != 0).then_some(child)
}

/// Makes a process like `fork`, but behind the C library's back: none of its handlers runs. `None` in
/// the child.
///
/// # Panics
///
/// Where there is no process to be had.
#[must_use]
pub fn clone_process() -> Option<i32> {
    // SAFETY: without shared memory the child has a copy of everything, this stack included; it uses
    // nothing that another thread may have locked.
    let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    assert!(child >= 0, "clone");
    (child != 0).then_some(child as i32)
}

/// The same by `clone3`, as programs that ask for more than `clone` can name do.
///
/// # Panics
///
/// As there.
#[must_use]
pub fn clone3_process() -> Option<i32> {
    /// Signals have their default actions in the child.
    const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;
    // SAFETY: zeros ask for nothing.
    let mut arguments: libc::clone_args = unsafe { MaybeUninit::zeroed().assume_init() };
    arguments.flags = CLONE_CLEAR_SIGHAND;
    arguments.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: as above; the arguments are live and as long as stated.
    let child =
        unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of_val(&arguments)) };
    assert!(child >= 0, "clone3");
    (child != 0).then_some(child as i32)
}

/// Is nobody from here on: no file of this user can be made or opened any more.
///
/// # Panics
///
/// Where the process may not become somebody else.
pub fn become_nobody() {
    // SAFETY: the call touches no memory of the program.
    let result = unsafe { libc::setgid(65_534) };
    assert_eq!(result, 0, "setgid");
    // SAFETY: as above.
    let result = unsafe { libc::setuid(65_534) };
    assert_eq!(result, 0, "setuid");
}

/// Waits for a child and answers its wait status.
///
/// # Panics
///
/// Where it is no child.
#[must_use]
pub fn wait(child: i32) -> i32 {
    let mut status = 0;
    // SAFETY: the call writes one `c_int`, which `status` is.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child);
    status
}

/// The first eight bytes of a file, shared with whoever reads it.
///
/// # Panics
///
/// Where the file cannot be mapped.
#[must_use]
pub fn map_number(path: &str) -> &'static AtomicU64 {
    let file = File::options().read(true).write(true).open(path).expect("the file");
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let (shared, descriptor) = (libc::MAP_SHARED, file.as_raw_fd());
    // SAFETY: a new mapping, which replaces nothing.
    let place = unsafe { libc::mmap(ptr::null_mut(), 8, protection, shared, descriptor, 0) };
    assert_ne!(place, libc::MAP_FAILED);
    // SAFETY: the mapping is never given back, is aligned to a page, and any eight bytes are a number.
    unsafe { AtomicU64::from_ptr(place.cast()) }
}

/// Writes to an address that is not mapped.
pub fn fault() {
    // Not null: that the optimiser may take for something that does not happen.
    let nowhere = ptr::without_provenance_mut::<u8>(0x10);
    // SAFETY: none; the scenario is about what the kernel does to a process for this.
    unsafe { nowhere.write_volatile(1) };
}

/// Raises a signal on the calling thread.
pub fn raise(signal: c_int) {
    // SAFETY: the call touches no memory of the program.
    unsafe { libc::raise(signal) };
}

/// No file may become longer than this in the process and its children.
///
/// # Panics
///
/// Where the limit cannot be set.
pub fn limit_file_bytes(bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: the call reads one `rlimit`, which `limit` is.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) };
    assert_eq!(result, 0);
}

/// The process may have descriptors below this number, and no others.
///
/// # Panics
///
/// Where the limit cannot be set.
pub fn limit_descriptors(count: u64) {
    let limit = libc::rlimit { rlim_cur: count, rlim_max: count };
    // SAFETY: the call reads one `rlimit`, which `limit` is.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    assert_eq!(result, 0);
}

/// Closes a descriptor, whoever's it is.
pub fn close(descriptor: c_int) {
    // SAFETY: closing a descriptor touches no memory.
    unsafe { libc::close(descriptor) };
}

/// The process may have so much more address space than it has now.
///
/// # Panics
///
/// Where the limit cannot be set.
pub fn limit_address_space(more_bytes: u64) {
    let bytes = status_bytes("VmSize:") + more_bytes;
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: the call reads one `rlimit`, which `limit` is.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) };
    assert_eq!(result, 0);
}

/// A line of what the kernel says of the process's memory, such as `VmSize:`.
///
/// # Panics
///
/// Where there is no such line.
#[must_use]
pub fn status_bytes(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let rest = status.lines().find_map(|found| found.strip_prefix(line)).expect("the line");
    let kibibytes: u64 = rest.trim().trim_end_matches(" kB").parse().expect("a number");
    kibibytes << 10
}

/// How many bytes below this function's frame a closure uses of the calling thread's stack, which
/// must have 256 KiB left.
///
/// # Panics
///
/// Where it uses all of them.
#[inline(never)]
pub fn stack_used(run: impl FnOnce()) -> usize {
    const PAINTED_BYTES: usize = 192 << 10;
    /// What the painting itself may use.
    const OWN_BYTES: usize = 1 << 10;
    const PAINT: u8 = 0xa5;
    let here = 0u8;
    let here = std::hint::black_box(&raw const here).cast_mut();
    let lowest = here.wrapping_sub(PAINTED_BYTES);
    for offset in 0..PAINTED_BYTES - OWN_BYTES {
        // SAFETY: below the frames in use and within the stack; nobody keeps anything there.
        unsafe { lowest.wrapping_add(offset).write_volatile(PAINT) };
    }
    run();
    let is_painted = |&offset: &usize| {
        // SAFETY: as above.
        let byte = unsafe { lowest.wrapping_add(offset).read_volatile() };
        byte == PAINT
    };
    let untouched = (0..PAINTED_BYTES - OWN_BYTES).take_while(is_painted).count();
    assert_ne!(untouched, 0);
    PAINTED_BYTES - untouched
}

/// Has the calling thread use so much of its stack that what comes later adds nothing.
#[inline(never)]
pub fn touch_stack() {
    let mut bytes = [1u8; 40 << 10];
    std::hint::black_box(&mut bytes);
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_SET: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const ANSWER: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
/// Where the number of a system call and its fourth argument stand for a filter.
const NUMBER: u32 = 0;
const FOURTH: u32 = 16 + 3 * 8;

const fn step(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

const fn fail(error: c_int) -> libc::sock_filter {
    step(ANSWER, 0, 0, libc::SECCOMP_RET_ERRNO | error as u32)
}

/// Makes every shared mapping fail, as on a file system that has none.
///
/// # Panics
///
/// Where the kernel has no filters of system calls.
pub fn forbid_shared_maps() {
    filter(&mut [
        step(LOAD, 0, 0, NUMBER),
        step(IF_EQUAL, 0, 3, libc::SYS_mmap as u32),
        step(LOAD, 0, 0, FOURTH),
        step(IF_SET, 0, 1, libc::MAP_SHARED as u32),
        fail(libc::ENODEV),
        step(ANSWER, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]);
}

/// Forbids the process what a sandbox may: to ask for a file's status, and to write to a place in a file.
///
/// # Panics
///
/// Where the kernel has no filters of system calls.
pub fn forbid_files() {
    filter(&mut [
        step(LOAD, 0, 0, NUMBER),
        step(IF_EQUAL, 3, 0, libc::SYS_fstat as u32),
        step(IF_EQUAL, 2, 0, libc::SYS_newfstatat as u32),
        step(IF_EQUAL, 1, 0, libc::SYS_pwritev as u32),
        step(ANSWER, 0, 0, libc::SECCOMP_RET_ALLOW),
        fail(libc::EPERM),
    ]);
}

/// Forbids the process `membarrier`, with this error.
///
/// # Panics
///
/// Where the kernel has no filters of system calls.
pub fn forbid_barriers(error: c_int) {
    filter(&mut [
        step(LOAD, 0, 0, NUMBER),
        step(IF_EQUAL, 0, 1, libc::SYS_membarrier as u32),
        fail(error),
        step(ANSWER, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]);
}

/// Has the kernel ask these steps at each system call from here on.
fn filter(steps: &mut [libc::sock_filter]) {
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: the call touches no memory of the program.
    let first = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: the call reads the program and its steps, which are live.
    let second = unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0)
    };
    assert_eq!((first, second), (0, 0));
}

/// Runs `handler` on `signal`, on the thread's own stack.
///
/// # Panics
///
/// Where the signal cannot be handled.
pub fn handle(signal: c_int, handler: extern "C" fn(c_int)) {
    handle_with(signal, handler, 0);
}

/// The same, on the alternate stack of the thread that is interrupted.
///
/// # Panics
///
/// Where the signal cannot be handled.
pub fn handle_on_alternate_stack(signal: c_int, handler: extern "C" fn(c_int)) {
    handle_with(signal, handler, libc::SA_ONSTACK);
}

fn handle_with(signal: c_int, handler: extern "C" fn(c_int), flags: c_int) {
    // SAFETY: all zero is an action: the default one, without flags.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_RESTART | flags;
    // SAFETY: the action is live, and the handlers given here ask nothing that a handler may not.
    let result = unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
    assert_eq!(result, 0);
}

/// Gives the calling thread an alternate stack of so many bytes, for good.
///
/// # Panics
///
/// Where there is no memory.
pub fn have_alternate_stack(bytes: usize) {
    let memory = Box::leak(vec![0_u8; bytes].into_boxed_slice());
    let stack = libc::stack_t { ss_sp: memory.as_mut_ptr().cast(), ss_flags: 0, ss_size: bytes };
    // SAFETY: the call reads one `stack_t`, and nobody else uses the memory that it names.
    assert_eq!(unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) }, 0);
}

/// Sends a signal to the calling thread again and again, from another one, until `run` is done.
///
/// # Panics
///
/// Where there is no thread to be had.
pub fn in_storm_of(signal: c_int, run: impl FnOnce()) {
    let process = std::process::id();
    // SAFETY: the call touches no memory of the program.
    let thread = unsafe { libc::syscall(libc::SYS_gettid) };
    let done = Arc::new(AtomicBool::new(false));
    let storm = BareThread::start("storm", {
        let done = Arc::clone(&done);
        move || {
            while !done.load(Ordering::Relaxed) {
                // SAFETY: as above.
                unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) };
                std::thread::yield_now();
            }
        }
    });
    run();
    done.store(true, Ordering::Relaxed);
    storm.join();
}

/// Sends `SIGALRM` to the process every so many microseconds; 0 stops it.
///
/// # Panics
///
/// Where the timer cannot be set.
pub fn alarm_every(microseconds: i64) {
    let time = libc::timeval { tv_sec: 0, tv_usec: microseconds };
    let timer = libc::itimerval { it_interval: time, it_value: time };
    // SAFETY: the call reads one `itimerval`, which `timer` is.
    let result = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) };
    assert_eq!(result, 0);
}

/// Runs a closure when the process exits, before the recorder's own handler.
///
/// # Panics
///
/// Where it is not the first one, or where there is no memory.
pub fn at_exit(handler: extern "C" fn()) {
    // SAFETY: the handler is a function of the program, which stays.
    let result = unsafe { libc::atexit(handler) };
    assert_eq!(result, 0);
}

/// A thread that the Rust runtime knows nothing of: what it asks of the heap is what its closure
/// asks.
#[derive(Debug)]
pub struct BareThread(libc::pthread_t);

/// What a bare thread runs, and how it ends.
struct Body {
    name: CString,
    run: &'static mut (dyn FnMut() + Send),
    exits_in_c: bool,
}

impl BareThread {
    /// Starts one. The closure is dropped when it was run, its memory never freed.
    ///
    /// # Panics
    ///
    /// Where there is no thread to be had.
    #[must_use]
    pub fn start(name: &str, run: impl FnOnce() + Send + 'static) -> Self {
        Self::start_with(name, run, false)
    }

    /// Starts one that ends by `pthread_exit`, below its first function.
    ///
    /// # Panics
    ///
    /// Where there is no thread to be had.
    #[must_use]
    pub fn start_to_exit_in_c(name: &str, run: impl FnOnce() + Send + 'static) -> Self {
        Self::start_with(name, run, true)
    }

    fn start_with(name: &str, run: impl FnOnce() + Send + 'static, exits_in_c: bool) -> Self {
        let name = CString::new(name).expect("a name without zero bytes");
        let mut run = Some(run);
        let run = Box::leak(Box::new(move || {
            if let Some(run) = run.take() {
                run();
            }
        }));
        // Never freed either: the thread asks the heap for nothing but what the closure asks.
        let body = Box::leak(Box::new(Some(Body { name, run, exits_in_c })));
        let mut thread = 0;
        let argument = ptr::from_mut(body).cast();
        // SAFETY: the thread's first function takes what it is given here, which lives forever.
        let result = unsafe { pthread_create(&raw mut thread, ptr::null(), bare_thread, argument) };
        assert_eq!(result, 0);
        Self(thread)
    }

    /// Asks it to end, which it does where it calls [`end_if_cancelled`].
    ///
    /// # Panics
    ///
    /// Where it has ended.
    pub fn cancel(&self) {
        // SAFETY: the thread was started and not joined.
        let result = unsafe { libc::pthread_cancel(self.0) };
        assert_eq!(result, 0);
    }

    /// Waits for its end; whether it was cancelled.
    ///
    /// # Panics
    ///
    /// Where it was waited for already.
    pub fn join(self) -> bool {
        let mut value = ptr::null_mut();
        // SAFETY: the thread was started and not joined, and the call writes one pointer.
        let result = unsafe { libc::pthread_join(self.0, &raw mut value) };
        assert_eq!(result, 0);
        // `PTHREAD_CANCELED`, which is -1 in every C library of Linux.
        value.addr() == usize::MAX
    }
}

/// Asks the calling thread to end at its next cancellation point.
///
/// # Panics
///
/// Never.
pub fn cancel_self() {
    // SAFETY: the call touches no memory of the program.
    let own = unsafe { libc::pthread_self() };
    // SAFETY: the calling thread is alive.
    let result = unsafe { libc::pthread_cancel(own) };
    assert_eq!(result, 0);
}

/// A cancellation point: the calling thread ends here if it was cancelled. It must be a
/// [`BareThread`], whose frames have nothing to drop.
pub fn end_if_cancelled() {
    pthread_testcancel();
}

unsafe extern "C-unwind" {
    /// As the C library has it, but with a first function that `pthread_exit` may unwind.
    fn pthread_create(
        thread: *mut libc::pthread_t,
        attributes: *const libc::pthread_attr_t,
        first: extern "C-unwind" fn(*mut c_void) -> *mut c_void,
        argument: *mut c_void,
    ) -> c_int;

    /// As the C library has it, but known to unwind.
    safe fn pthread_exit(value: *mut c_void) -> !;

    /// As the C library has it: it unwinds a thread that was cancelled.
    safe fn pthread_testcancel();
}

extern "C-unwind" fn bare_thread(argument: *mut c_void) -> *mut c_void {
    // SAFETY: `start_with` gives a body that lives forever and that nobody else refers to.
    let body = unsafe { &mut *argument.cast::<Option<Body>>() };
    let Some(Body { name, run, exits_in_c }) = body.take() else { return ptr::null_mut() };
    // SAFETY: the call touches no memory of the program.
    let own = unsafe { libc::pthread_self() };
    // SAFETY: the name is a C string, and the thread is the calling one.
    unsafe { libc::pthread_setname_np(own, name.as_ptr()) };
    std::mem::forget(name);
    run();
    if exits_in_c {
        exit_in_c();
    }
    ptr::null_mut()
}

/// Ends the calling thread in the C library.
fn exit_in_c() {
    trail(61_000, 10);
    pthread_exit(ptr::null_mut());
}
