//! A thread that the C library does not know: how it is made, how it sleeps, how it ends.
//!
//! It is made in the middle of a request, where `pthread_create` could find a lock of the C library
//! held, or ask for memory. So it is a bare `clone`: it shares everything with the thread that made
//! it, has all signals blocked, and runs on a small stack of its own, which it unmaps as it ends.
//!
//! It has the user, the groups and the system call filters of that thread. What the program changes of
//! them later does not reach it: whoever changes them has it end before.
//!
//! It has thread-local memory of its own, which is nothing but zeros: that thread's goes when it ends,
//! with its stack. So no `thread_local!` has a meaning here. The C library is not asked for what could
//! need more than the guard value of its functions' stacks or a place for `errno`; those are there.

use core::arch::asm;
use core::ptr::{self, NonNull};
use core::sync::atomic::AtomicI32;

use crate::os;
use crate::syscall::call;

/// What is mapped for the thread: its stack, of which the lower half is made inaccessible, and behind
/// that its thread-local memory.
const MAPPED_BYTES: usize = STACK_BYTES + THREAD_LOCAL_BYTES;
const STACK_BYTES: usize = 4 * os::OS_PAGE;

/// Zeros on either side of where the thread pointer leads: the C library's own variables lie near it,
/// below on x86_64 and above on aarch64.
const THREAD_LOCAL_BYTES: usize = 2 * os::OS_PAGE;

/// The kernel's signal set, which is shorter than the C library's.
type Signals = u64;

/// What the thread runs. It is given what [`end`] needs, and a word of whoever starts it.
pub(crate) type Main = extern "C-unwind" fn(NonNull<u8>, u64) -> !;

/// Starts a thread that runs `main`, and writes its number before it runs. Says whether it did.
pub(crate) fn start(main: Main, word: u64, number: &'static AtomicI32) -> bool {
    let Some(stack) = os::map_sparse(MAPPED_BYTES) else { return false };
    // SAFETY: the mapping was made above, and nobody uses its lower half.
    let is_guarded = unsafe { os::protect(stack, STACK_BYTES / 2) };
    let mut before: Signals = 0;
    let is_started = is_guarded && set_signals(Signals::MAX, Some(&mut before)) && {
        // SAFETY: the mapping ends behind it.
        let thread_pointer = unsafe { stack.add(STACK_BYTES + THREAD_LOCAL_BYTES / 2) };
        if cfg!(target_arch = "x86_64") {
            // The thread pointer of this architecture leads to itself.
            // SAFETY: it is aligned, lies in the mapping that was made above, and nobody uses it yet.
            unsafe { thread_pointer.cast::<NonNull<u8>>().write(thread_pointer) };
        }
        // SAFETY: the stack was made for it, and `main` does not return.
        let is_started = unsafe { clone(stack, thread_pointer, main, word, number) };
        set_signals(before, None);
        is_started
    };
    if !is_started {
        // SAFETY: mapped above, and no thread runs on it.
        unsafe { os::unmap(stack, MAPPED_BYTES) };
    }
    is_started
}

/// Blocks these signals and no others.
fn set_signals(signals: Signals, before: Option<&mut Signals>) -> bool {
    let before = before.map_or(ptr::null_mut(), ptr::from_mut);
    let arguments = [
        libc::SIG_SETMASK as usize,
        (&raw const signals).addr(),
        before.addr(),
        size_of::<Signals>(),
    ];
    // SAFETY: the sets are valid for reads and, unless null, for writes.
    unsafe { call(libc::SYS_rt_sigprocmask, arguments) == 0 }
}

const FLAGS: libc::c_int = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID;

/// The upper end of the stack, less a few words of zeros, where whoever follows the frames stops.
fn top(stack: NonNull<u8>) -> *mut u8 {
    stack.as_ptr().wrapping_add(STACK_BYTES - 128)
}

/// Makes the thread.
///
/// # Safety
///
/// - `stack` is a mapping of [`MAPPED_BYTES`] that the thread may have, and its thread pointer lies in it.
#[cfg(target_arch = "x86_64")]
unsafe fn clone(
    stack: NonNull<u8>,
    thread_pointer: NonNull<u8>,
    main: Main,
    word: u64,
    number: &'static AtomicI32,
) -> bool {
    let result: isize;
    // SAFETY: this thread goes on behind the block with its registers as they were; the new one
    // starts with the same values but for its stack and thread pointers, and never leaves `main`.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r9",
            "mov rsi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone as isize => result,
            in("rdi") FLAGS as usize,
            in("rsi") top(stack),
            in("rdx") number.as_ptr(),
            in("r10") 0usize,
            in("r8") thread_pointer.as_ptr(),
            in("r9") stack.as_ptr(),
            in("r12") word,
            in("r13") main,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result > 0
}

/// Makes the thread.
///
/// # Safety
///
/// - `stack` is a mapping of [`MAPPED_BYTES`] that the thread may have, and its thread pointer lies in it.
#[cfg(target_arch = "aarch64")]
unsafe fn clone(
    stack: NonNull<u8>,
    thread_pointer: NonNull<u8>,
    main: Main,
    word: u64,
    number: &'static AtomicI32,
) -> bool {
    let result: isize;
    // SAFETY: as on x86_64.
    unsafe {
        asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x10",
            "mov x1, x11",
            "blr x9",
            "brk 1",
            "2:",
            in("x8") libc::SYS_clone,
            inlateout("x0") FLAGS as isize => result,
            in("x1") top(stack),
            in("x2") number.as_ptr(),
            in("x3") thread_pointer.as_ptr(),
            in("x4") 0usize,
            in("x9") main,
            in("x10") stack.as_ptr(),
            in("x11") word,
        );
    }
    result > 0
}

/// Names the thread, for those who look at a process's threads.
pub(crate) fn set_name() {
    let name = c"heap purge";
    let arguments = [libc::PR_SET_NAME as usize, name.as_ptr().addr(), 0, 0];
    // SAFETY: the name is a string, which the kernel copies.
    unsafe { call(libc::SYS_prctl, arguments) };
}

/// Gives up what the thread may do beyond any user, for good: the user and the groups of a process that
/// changes them (`setuid`) stay as they were in a thread that the C library does not know.
pub(crate) fn give_up_privileges() {
    const VERSION_3: u32 = 0x2008_0522;
    let header: [u32; 2] = [VERSION_3, 0];
    let none = [0u32; 6];
    // SAFETY: the header is valid for reads and writes and the sets for reads; it is about the calling
    // thread alone.
    unsafe { call(libc::SYS_capset, [(&raw const header).addr(), (&raw const none).addr(), 0, 0]) };
    // The user 0 would have all of them again after an `exec`.
    let arguments = [libc::PR_SET_NO_NEW_PRIVS as usize, 1, 0, 0];
    // SAFETY: as above.
    unsafe { call(libc::SYS_prctl, arguments) };
}

/// Sleeps so many milliseconds, or until the word is changed and somebody [`wake`]s this thread; not
/// at all if the word is another by now.
///
/// # Safety
///
/// - `word` is valid for reads.
pub(crate) unsafe fn doze(word: *const u32, value: u32, ms: u64) {
    let time = libc::timespec {
        tv_sec: (ms / 1000).cast_signed(),
        tv_nsec: (ms % 1000 * 1_000_000).cast_signed(),
    };
    let wait = (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG) as usize;
    let arguments = [word.addr(), wait, value as usize, (&raw const time).addr()];
    // SAFETY: the word and the time are valid for reads.
    unsafe { call(libc::SYS_futex, arguments) };
}

/// Wakes whoever [`doze`]s by this word.
pub(crate) fn wake(word: *const u32) {
    let wake = (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as usize;
    // SAFETY: the address is not read.
    unsafe { call(libc::SYS_futex, [word.addr(), wake, 1, 0]) };
}

/// Whether a process still has a thread of this number.
pub(crate) fn is_alive(process: u32, number: i32) -> bool {
    let arguments = [process as usize, number as usize, 0, 0];
    // SAFETY: no signal is sent.
    number > 0 && unsafe { call(libc::SYS_tgkill, arguments) == 0 }
}

/// Ends the thread that was given this stack.
///
/// # Safety
///
/// - The calling thread is the one that was started with `stack`.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn end(stack: NonNull<u8>) -> ! {
    // SAFETY: the stack is the thread's own and is not used after it is unmapped.
    unsafe {
        asm!(
            "syscall",
            "mov eax, {exit}",
            "xor edi, edi",
            "syscall",
            "ud2",
            exit = const libc::SYS_exit,
            in("rax") libc::SYS_munmap,
            in("rdi") stack.as_ptr(),
            in("rsi") MAPPED_BYTES,
            options(noreturn),
        );
    }
}

/// Ends the thread that was given this stack.
///
/// # Safety
///
/// - The calling thread is the one that was started with `stack`.
#[cfg(target_arch = "aarch64")]
pub(crate) unsafe fn end(stack: NonNull<u8>) -> ! {
    // SAFETY: the stack is the thread's own and is not used after it is unmapped.
    unsafe {
        asm!(
            "svc 0",
            "mov x8, {exit}",
            "mov x0, xzr",
            "svc 0",
            "brk 1",
            exit = const libc::SYS_exit,
            in("x8") libc::SYS_munmap,
            in("x0") stack.as_ptr(),
            in("x1") MAPPED_BYTES,
            options(noreturn),
        );
    }
}
