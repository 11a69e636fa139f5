//! A thread that the C library does not know: how it is made, how it sleeps, how it ends.
//!
//! It is made in the middle of a request, where `pthread_create` could find a lock of the C library
//! held, or ask for memory. So it is a bare `clone`: it shares everything with the thread that made
//! it, has all signals blocked, and runs on a small stack of its own, which it unmaps as it ends.
//!
//! It also shares that thread's thread-local memory, which it must never touch: no `errno`, no
//! `thread_local!`, and of the C library nothing that could use them.

use core::arch::asm;
use core::ptr::{self, NonNull};

use crate::os;
use crate::syscall::call;

/// What is mapped for the stack. Its lower half is made inaccessible.
const STACK_BYTES: usize = 4 * os::OS_PAGE;

/// The kernel's signal set, which is shorter than the C library's.
type Signals = u64;

/// Starts a thread that runs `main`, which is given what [`end`] needs. Says whether it did.
pub(crate) fn start(main: extern "C" fn(NonNull<u8>) -> !) -> bool {
    let Some(stack) = os::map_sparse(STACK_BYTES) else { return false };
    // SAFETY: the mapping was made above, and nobody uses its lower half.
    let is_guarded = unsafe { os::protect(stack, STACK_BYTES / 2) };
    let mut before: Signals = 0;
    let is_started = is_guarded && set_signals(Signals::MAX, Some(&mut before)) && {
        // SAFETY: the stack was made for it, and `main` does not return.
        let is_started = unsafe { clone(stack, main) };
        set_signals(before, None);
        is_started
    };
    if !is_started {
        // SAFETY: mapped above, and no thread runs on it.
        unsafe { os::unmap(stack, STACK_BYTES) };
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
    | libc::CLONE_SYSVSEM;

/// The upper end of the stack, less a few words of zeros, where whoever follows the frames stops.
fn top(stack: NonNull<u8>) -> *mut u8 {
    stack.as_ptr().wrapping_add(STACK_BYTES - 128)
}

/// Makes the thread.
///
/// # Safety
///
/// - `stack` is a mapping of [`STACK_BYTES`] that the thread may have.
#[cfg(target_arch = "x86_64")]
unsafe fn clone(stack: NonNull<u8>, main: extern "C" fn(NonNull<u8>) -> !) -> bool {
    let result: isize;
    // SAFETY: this thread goes on behind the block with its registers as they were; the new one
    // starts with the same values but for its stack pointer, and never leaves `main`.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r9",
            "call r8",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone as isize => result,
            in("rdi") FLAGS as usize,
            in("rsi") top(stack),
            in("rdx") 0usize,
            in("r10") 0usize,
            in("r8") main,
            in("r9") stack.as_ptr(),
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
/// - `stack` is a mapping of [`STACK_BYTES`] that the thread may have.
#[cfg(target_arch = "aarch64")]
unsafe fn clone(stack: NonNull<u8>, main: extern "C" fn(NonNull<u8>) -> !) -> bool {
    let result: isize;
    // SAFETY: as on x86_64.
    unsafe {
        asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x10",
            "blr x9",
            "brk 1",
            "2:",
            in("x8") libc::SYS_clone,
            inlateout("x0") FLAGS as isize => result,
            in("x1") top(stack),
            in("x2") 0usize,
            in("x3") 0usize,
            in("x4") 0usize,
            in("x9") main,
            in("x10") stack.as_ptr(),
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

/// Sleeps so many milliseconds.
pub(crate) fn sleep(ms: u64) {
    let time = libc::timespec {
        tv_sec: (ms / 1000).cast_signed(),
        tv_nsec: (ms % 1000 * 1_000_000).cast_signed(),
    };
    // SAFETY: the time is valid for reads, and the rest of it is not asked for.
    unsafe { call(libc::SYS_nanosleep, [(&raw const time).addr(), 0, 0, 0]) };
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
            in("rsi") STACK_BYTES,
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
            in("x1") STACK_BYTES,
            options(noreturn),
        );
    }
}
