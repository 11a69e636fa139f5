//! System calls that go past the C library: they touch neither `errno` nor any other thread-local
//! memory, and are no cancellation points, so that a thread which the C library does not know can make
//! them too.

use core::arch::asm;

/// Makes a system call; a fifth argument is 0. The result is what the kernel answers: an error is a small negative number.
///
/// # Safety
///
/// - The call with these arguments is sound.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn call(number: libc::c_long, arguments: [usize; 4]) -> isize {
    let [first, second, third, fourth] = arguments;
    let result;
    // SAFETY: the caller vouches for the call; the kernel keeps all registers but those named here.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") first,
            in("rsi") second,
            in("rdx") third,
            in("r10") fourth,
            in("r8") 0usize,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Makes a system call; a fifth argument is 0. The result is what the kernel answers: an error is a small negative number.
///
/// # Safety
///
/// - The call with these arguments is sound.
#[cfg(target_arch = "aarch64")]
pub(crate) unsafe fn call(number: libc::c_long, arguments: [usize; 4]) -> isize {
    let [first, second, third, fourth] = arguments;
    let result;
    // SAFETY: the caller vouches for the call; the kernel keeps all registers but the result's.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") first as isize => result,
            in("x1") second,
            in("x2") third,
            in("x3") fourth,
            in("x4") 0usize,
            options(nostack),
        );
    }
    result
}
