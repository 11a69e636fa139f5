//! Stamps: an order first, a clock second.
//!
//! A free is stamped before the memory is released and an allocation after it was obtained;
//! otherwise another thread's reuse seems to come first. The processor may read its counter early, ahead
//! of loads that it waits for. After an allocation that would be before the load that obtained the
//! block; before a free it would be before the one that got it from another thread, which may have
//! allocated it less than a hundred nanoseconds ago: in optimised programs one free in some hundred
//! thousand then came before its allocation. So every stamp waits for earlier loads. Nothing more is
//! asked of it before a release: a store becomes visible only after every earlier instruction has
//! retired.

use std::sync::atomic::{AtomicBool, Ordering};

use alloc_trace_format::{Anchor, ClockKind, Stamp};

use super::sys;

/// Whether stamps are ticks of the processor's counter. Set once a recording begins, before any
/// stamp of it is taken.
static COUNTER: AtomicBool = AtomicBool::new(false);

/// Chooses the clock: the processor's counter where it runs at one rate on all cores in all states
/// and can be read behind earlier loads, else the kernel's.
pub(super) fn choose() -> ClockKind {
    let invariant = counter_is_invariant();
    // Relaxed: published to other threads with the recording's epoch.
    COUNTER.store(invariant, Ordering::Relaxed);
    if invariant { ClockKind::Counter } else { ClockKind::Monotonic }
}

/// A stamp that is not earlier than anything the thread did before, nor later than anything that it does
/// afterwards.
#[inline]
pub(crate) fn now() -> Stamp {
    if COUNTER.load(Ordering::Relaxed) { counter() } else { monotonic_ns() }
}

/// A stamp and the kernel's time beside it.
pub(super) fn anchor() -> Anchor {
    Anchor { ticks: now(), monotonic_ns: monotonic_ns() }
}

fn monotonic_ns() -> u64 {
    sys::clock_ns(libc::CLOCK_MONOTONIC)
}

#[cfg(target_arch = "x86_64")]
fn counter_is_invariant() -> bool {
    use std::arch::x86_64::__cpuid;
    const FEATURES: u32 = 0x8000_0001;
    const RDTSCP: u32 = 1 << 27;
    const POWER: u32 = 0x8000_0007;
    const INVARIANT_TSC: u32 = 1 << 8;
    __cpuid(0x8000_0000).eax >= POWER
        && __cpuid(FEATURES).edx & RDTSCP != 0
        && __cpuid(POWER).edx & INVARIANT_TSC != 0
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn counter() -> u64 {
    let mut processor = 0;
    // SAFETY: the counter is chosen only where the processor has the instruction. It waits for all
    // earlier loads, which is all that is asked of a fence here; `lfence` costs more.
    unsafe { std::arch::x86_64::__rdtscp(&raw mut processor) }
}

/// aarch64's virtual counter has one rate by definition.
#[cfg(target_arch = "aarch64")]
const fn counter_is_invariant() -> bool {
    true
}

#[cfg(target_arch = "aarch64")]
#[inline]
fn counter() -> u64 {
    // SAFETY: a barrier touches no memory.
    unsafe { std::arch::asm!("isb", options(nostack, preserves_flags)) };
    let ticks: u64;
    // SAFETY: Linux allows user mode to read the virtual counter; the instruction touches no memory.
    unsafe {
        std::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nostack, preserves_flags));
    }
    ticks
}
