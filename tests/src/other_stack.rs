//! Calls on a stack that is made for them, as the crates `stacker` and `psm` make them: the switch keeps the
//! old stack pointer in the frame pointer, and its unwind table says so.
//!
//! The recorder has such a switch, too. This one is none of the recorder's: it stands for other people's code.

use std::ffi::c_void;
use std::ptr;

/// Runs `call` on a fresh stack of so many bytes, which is given back. It must not panic.
pub fn on_another_stack(bytes: usize, mut call: impl FnMut()) {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a fresh mapping at an address of the kernel's choice overlaps nothing.
    let stack = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
    assert_ne!(stack, libc::MAP_FAILED);
    let mut call: &mut dyn FnMut() = &mut call;
    // SAFETY: the mapping ends there.
    let end = unsafe { stack.byte_add(bytes) };
    // SAFETY: the stack is this call's, and the function takes what it is given here.
    unsafe { switch((&raw mut call).cast(), run, end) };
    // SAFETY: mapped above, and nothing runs on it any more.
    assert_eq!(unsafe { libc::munmap(stack, bytes) }, 0);
}

/// Calls the closure that a pointer leads to.
unsafe extern "C" fn run(call: *mut c_void) {
    // SAFETY: `on_another_stack` gives the place of one, which nobody else refers to meanwhile.
    let call = unsafe { &mut *call.cast::<&mut dyn FnMut()>() };
    call();
}

#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn switch(
    argument: *mut c_void,
    function: unsafe extern "C" fn(*mut c_void),
    stack_end: *mut c_void,
) {
    std::arch::naked_asm!(
        ".cfi_startproc",
        "push rbp",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset rbp, -16",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "mov rsp, rdx",
        "call rsi",
        "mov rsp, rbp",
        "pop rbp",
        ".cfi_def_cfa rsp, 8",
        "ret",
        ".cfi_endproc",
    )
}

#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
unsafe extern "C" fn switch(
    argument: *mut c_void,
    function: unsafe extern "C" fn(*mut c_void),
    stack_end: *mut c_void,
) {
    std::arch::naked_asm!(
        ".cfi_startproc",
        "stp x29, x30, [sp, #-16]!",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset x29, -16",
        ".cfi_offset x30, -8",
        "mov x29, sp",
        ".cfi_def_cfa_register x29",
        "mov sp, x2",
        "blr x1",
        "mov sp, x29",
        ".cfi_def_cfa_register sp",
        "ldp x29, x30, [sp], #16",
        ".cfi_def_cfa_offset 0",
        "ret",
        ".cfi_endproc",
    )
}
