//! Runs a function on another stack.
//!
//! A hook may use little of its caller's stack: the program measured what it needs without us, and a
//! coroutine's or a signal handler's can be a few kibibytes. Whatever needs more runs on a stack of the
//! recorder's own. Rust has no way to say that, so the switch is a handful of instructions; the
//! frame's unwind rules are written down with them, so that debuggers and other unwinders find
//! their way back to the caller.

use std::ffi::c_void;
use std::mem::{ManuallyDrop, MaybeUninit};

/// A function and its result, as they are handed over.
struct Handed<F, R> {
    function: ManuallyDrop<F>,
    result: MaybeUninit<R>,
}

/// Calls `function` on the stack that ends at `stack_end`, and answers its result.
///
/// # Safety
///
/// - `stack_end` is aligned to 16 bytes, and below it lies as much memory as the function needs, which
///   nobody else uses.
/// - The function does not panic.
pub(super) unsafe fn call_on<F: FnOnce() -> R, R>(stack_end: *mut u8, function: F) -> R {
    let mut handed =
        Handed { function: ManuallyDrop::new(function), result: MaybeUninit::uninit() };
    let argument = (&raw mut handed).cast();
    // SAFETY: the caller's promise; `enter` takes what it is given here.
    unsafe { switch(argument, enter::<F, R>, stack_end) };
    // SAFETY: `enter` wrote the result.
    unsafe { handed.result.assume_init() }
}

/// What runs first on the other stack.
unsafe extern "C" fn enter<F: FnOnce() -> R, R>(argument: *mut c_void) {
    // SAFETY: the argument is the caller's `Handed`, which outlives this call.
    let handed = unsafe { &mut *argument.cast::<Handed<F, R>>() };
    // SAFETY: this is called once for each `Handed`.
    let function = unsafe { ManuallyDrop::take(&mut handed.function) };
    handed.result.write(function());
}

/// Calls `function(argument)` with the stack pointer at `stack_end`.
///
/// # Safety
///
/// As [`call_on`].
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn switch(
    argument: *mut c_void,
    function: unsafe extern "C" fn(*mut c_void),
    stack_end: *mut u8,
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

/// Calls `function(argument)` with the stack pointer at `stack_end`.
///
/// # Safety
///
/// As [`call_on`].
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
unsafe extern "C" fn switch(
    argument: *mut c_void,
    function: unsafe extern "C" fn(*mut c_void),
    stack_end: *mut u8,
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::backtrace::Backtrace;

    #[repr(align(16))]
    struct Stack([u8; 256 << 10]);

    #[test]
    fn the_function_runs_there_and_its_result_comes_back() {
        let mut stack = Box::new(Stack([0; 256 << 10]));
        let range = stack.0.as_mut_ptr_range();
        let numbers = vec![1u64, 2, 3];
        // SAFETY: the stack is this test's, and larger than an addition needs.
        let (sum, address) = unsafe {
            call_on(range.end, || {
                let sum: u64 = numbers.iter().sum();
                (sum, (&raw const sum).addr())
            })
        };
        assert_eq!(sum, 6);
        assert!((range.start.addr()..range.end.addr()).contains(&address));
        drop(numbers);
    }

    #[test]
    fn unwinders_find_the_way_back_to_the_caller() {
        let mut stack = Box::new(Stack([0; 256 << 10]));
        let end = stack.0.as_mut_ptr_range().end;
        // SAFETY: the stack is this test's, and a backtrace needs less.
        let trace = unsafe { call_on(end, || Backtrace::force_capture().to_string()) };
        assert!(trace.contains("unwinders_find_the_way_back_to_the_caller"), "{trace}");
    }
}
