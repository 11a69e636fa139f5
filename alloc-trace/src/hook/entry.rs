//! How a hook is entered: by an instruction or two that add the registers of the caller to the
//! arguments, and a jump. On x86-64 these are the stack pointer that the caller has when the hook
//! returns and its frame pointer; on aarch64 the return address besides.

use std::arch::naked_asm;

use alloc_trace_format::EventKind;

use super::{tell, tell_anyhow, tell_of_one_block};
use crate::recorder::Registers;
use crate::request::Request;

#[unsafe(naked)]
pub(super) extern "C" fn obtained(_block: *mut u8, _size: usize, _align: usize, _kind: EventKind) {
    #[cfg(target_arch = "x86_64")]
    naked_asm!("lea r8, [rsp + 8]", "mov r9, rbp", "jmp {}", sym told_by);
    #[cfg(target_arch = "aarch64")]
    naked_asm!("mov x4, sp", "mov x5, x29", "mov x6, x30", "b {}", sym told_by);
}

#[unsafe(naked)]
pub(super) extern "C" fn freeing(_block: *mut u8, _size: usize, _align: usize) {
    #[cfg(target_arch = "x86_64")]
    naked_asm!(
        "mov ecx, {}", "lea r8, [rsp + 8]", "mov r9, rbp", "jmp {}",
        const EventKind::Free as u8, sym told_by
    );
    #[cfg(target_arch = "aarch64")]
    naked_asm!(
        "mov x3, {}", "mov x4, sp", "mov x5, x29", "mov x6, x30", "b {}",
        const EventKind::Free as u8, sym told_by
    );
}

#[unsafe(naked)]
pub(super) extern "C" fn reallocated(_request: &Request) {
    #[cfg(target_arch = "x86_64")]
    naked_asm!("lea rsi, [rsp + 8]", "mov rdx, rbp", "jmp {}", sym reallocated_by);
    #[cfg(target_arch = "aarch64")]
    naked_asm!("mov x1, sp", "mov x2, x29", "mov x3, x30", "b {}", sym reallocated_by);
}

extern "C" fn told_by(
    block: *mut u8,
    size: usize,
    align: usize,
    kind: EventKind,
    stack_pointer: u64,
    frame_pointer: u64,
    #[cfg(target_arch = "aarch64")] link: u64,
) {
    #[cfg(target_arch = "x86_64")]
    let link = return_address(stack_pointer);
    let caller = Registers { program_counter: link, stack_pointer, frame_pointer };
    if !tell_of_one_block(block, size, align, kind, caller) {
        told_anyhow_by(block, size, align, kind, stack_pointer, frame_pointer, link);
    }
}

/// The registers are arguments one by one: a hook that need not come here has them in no memory.
#[cold]
#[inline(never)]
extern "C" fn told_anyhow_by(
    block: *mut u8,
    size: usize,
    align: usize,
    kind: EventKind,
    stack_pointer: u64,
    frame_pointer: u64,
    link: u64,
) {
    let caller = Registers { program_counter: link, stack_pointer, frame_pointer };
    tell_anyhow(block, size, align, kind, caller);
}

extern "C" fn reallocated_by(
    request: &Request,
    stack_pointer: u64,
    frame_pointer: u64,
    #[cfg(target_arch = "aarch64")] link: u64,
) {
    #[cfg(target_arch = "x86_64")]
    let link = return_address(stack_pointer);
    let caller = Registers { program_counter: link, stack_pointer, frame_pointer };
    tell(request, caller);
}

/// What the call to the hook pushed.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn return_address(stack_pointer: u64) -> u64 {
    let place = std::ptr::with_exposed_provenance::<u64>(stack_pointer as usize - 8);
    // SAFETY: the entry was called, so its return address lies below the stack pointer that its
    // caller gets back; the word is the running thread's.
    unsafe { place.read() }
}
