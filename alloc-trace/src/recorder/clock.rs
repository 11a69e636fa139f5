//! Stamps: an order first, a clock second.
//!
//! A free is stamped before the memory is released and an allocation after it was obtained;
//! otherwise another thread's reuse seems to come first. The processor may read its counter early, ahead
//! of loads that it waits for. After an allocation that would be before the load that obtained the
//! block; before a free it would be before the one that got it from another thread, which may have
//! allocated it less than a hundred nanoseconds ago: in optimised programs one free in some hundred
//! thousand then came before its allocation. So a stamp waits for earlier loads. Nothing more is
//! asked of it before a release: a store becomes visible only after every earlier instruction has
//! retired.
//!
//! That wait costs more than the reading: whatever the program still loads has to arrive first. A
//! thread that is the only one to have recorded anything has nobody's events to order its own among, and
//! does without it; its stream has them in order anyway. It goes on so until another thread says that it
//! begins to record ([`order_among_threads`]): who gets a block from that thread, by whatever synchronises
//! the two, has seen that said.
//!
//! A stamp does not have the counter's lowest bits: they say nothing, where a reading alone takes some forty
//! ticks, and noise cannot be compressed.

use std::sync::atomic::{AtomicU8, Ordering};

use alloc_trace_format::{Anchor, ClockKind, Stamp};

use super::sys;

/// What a stamp is: these bits.
static CLOCK: AtomicU8 = AtomicU8::new(0);
/// Readings of the processor's counter. Set once a recording begins, before any stamp of it is taken.
const COUNTER: u8 = 1;
/// Read behind earlier loads. Set for good when a second thread begins to record.
const ORDERED: u8 = 2;

/// Chooses the clock: the processor's counter where it runs at one rate on all cores in all states
/// and can be read behind earlier loads, else the kernel's.
pub(super) fn choose() -> ClockKind {
    let invariant = counter_is_invariant();
    // Relaxed: published to other threads with the recording's epoch.
    if invariant {
        CLOCK.fetch_or(COUNTER, Ordering::Relaxed);
        ClockKind::Counter
    } else {
        CLOCK.fetch_and(!COUNTER, Ordering::Relaxed);
        ClockKind::Monotonic
    }
}

/// Several threads record from here on: the calling one has not recorded anything yet.
pub(super) fn order_among_threads() {
    // Relaxed: a thread that gets a block from the calling one, or gives it one, is synchronised with it.
    CLOCK.fetch_or(ORDERED, Ordering::Relaxed);
}

/// A stamp that is not later than anything that the thread does afterwards, nor, once several threads
/// record, earlier than anything it did before.
#[inline]
pub(crate) fn now() -> Stamp {
    const ALONE: u8 = COUNTER;
    const AMONG_THREADS: u8 = COUNTER | ORDERED;
    match CLOCK.load(Ordering::Relaxed) {
        ALONE => counter(),
        AMONG_THREADS => ordered_counter(),
        _ => monotonic_ns(),
    }
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

/// A stamp counts so many ticks of the counter, as a power of two: two to four nanoseconds. Each bit less is
/// a tenth of a byte an event. What a thread does after it learnt of another one's event comes a reading's
/// time later at least; were the stamps equal, the reader would still put a free first.
#[cfg(target_arch = "x86_64")]
const TICKS_LOG2: u32 = 3;

#[cfg(target_arch = "x86_64")]
#[inline]
fn counter() -> u64 {
    // SAFETY: every processor of this architecture has the instruction.
    let ticks = unsafe { std::arch::x86_64::_rdtsc() };
    ticks >> TICKS_LOG2
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn ordered_counter() -> u64 {
    let mut processor = 0;
    // SAFETY: the counter is chosen only where the processor has the instruction. It waits for all
    // earlier loads, which is all that is asked of a fence here; `lfence` costs more.
    let ticks = unsafe { std::arch::x86_64::__rdtscp(&raw mut processor) };
    ticks >> TICKS_LOG2
}

/// aarch64's virtual counter has one rate by definition.
#[cfg(target_arch = "aarch64")]
const fn counter_is_invariant() -> bool {
    true
}

#[cfg(target_arch = "aarch64")]
#[inline]
fn ordered_counter() -> u64 {
    // SAFETY: a barrier touches no memory.
    unsafe { std::arch::asm!("isb", options(nostack, preserves_flags)) };
    counter()
}

#[cfg(target_arch = "aarch64")]
#[inline]
fn counter() -> u64 {
    let ticks: u64;
    // SAFETY: Linux allows user mode to read the virtual counter; the instruction touches no memory.
    unsafe {
        std::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nostack, preserves_flags));
    }
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_that_are_taken_one_after_the_other_are_in_order_and_seldom_the_same() {
        choose();
        let mut stamps: Vec<Stamp> = (0..1_000).map(|_| now()).collect();
        assert!(stamps.is_sorted());
        stamps.dedup();
        // A processor now and then has two readings within eight ticks.
        assert!(stamps.len() > 900, "{} of a thousand", stamps.len());
    }
}
