//! Counters that many threads change at once, each thread in a cache line that is mostly its own.

use core::sync::atomic::{AtomicIsize, Ordering};

/// Cache lines of a counter. Threads share them where they are more, or by chance.
const STRIPES: usize = 1 << STRIPES_BITS;
const STRIPES_BITS: u32 = 4;

/// Addresses that a thread's stack has mostly to itself: Rust's stacks have two MiB.
const STACK_SHIFT: u32 = 21;

/// Which of a few groups a thread is in. A hint: it may be in another one the next time.
#[derive(Clone, Copy, Debug)]
struct Stripe(u8);

impl Stripe {
    /// The calling thread's, by where its stack lies: thread-local memory may be a call away.
    #[inline]
    fn here() -> Self {
        let on_stack = 0u8;
        Self::of_stack(&raw const on_stack)
    }

    fn of_stack(address: *const u8) -> Self {
        let stack = address.addr() as u64 >> STACK_SHIFT;
        // By the golden ratio: stacks next to each other, or at any one distance, are spread evenly.
        let hash = stack.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self((hash >> (u64::BITS - STRIPES_BITS)) as u8)
    }
}

/// A number that is changed often and read seldom. Orders nothing.
#[derive(Debug)]
pub(crate) struct StripedCounter([Line; STRIPES]);

#[derive(Debug)]
#[repr(align(64))]
struct Line(AtomicIsize);

impl StripedCounter {
    pub(crate) const fn new() -> Self {
        Self([const { Line(AtomicIsize::new(0)) }; STRIPES])
    }

    /// The calling thread's part. What one thread adds another may subtract, so a part may be
    /// negative.
    #[inline]
    fn part(&self) -> &AtomicIsize {
        &self.0[usize::from(Stripe::here().0) % STRIPES].0
    }

    pub(crate) fn add(&self, amount: usize) {
        self.part().fetch_add(amount as isize, Ordering::Relaxed);
    }

    pub(crate) fn sub(&self, amount: usize) {
        self.part().fetch_sub(amount as isize, Ordering::Relaxed);
    }

    /// The sum: exact when no thread changes it.
    pub(crate) fn get(&self) -> usize {
        let sum: isize = self.0.iter().map(|line| line.0.load(Ordering::Relaxed)).sum();
        usize::try_from(sum).unwrap_or(0)
    }

    /// Adds to the calling thread's part, and takes all of it once it has come to `enough`; says
    /// whether it has.
    pub(crate) fn has_come_to(&self, amount: usize, enough: usize) -> bool {
        let part = self.part();
        // Two threads of one part may do this at once, and lose what one of them adds.
        let sum = part.load(Ordering::Relaxed).wrapping_add(amount as isize);
        let is_enough = sum >= enough as isize;
        part.store(if is_enough { 0 } else { sum }, Ordering::Relaxed);
        is_enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn what_threads_add_and_others_subtract_is_summed() {
        let counter = StripedCounter::new();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1000).for_each(|_| counter.add(3)));
            }
        });
        assert_eq!(counter.get(), 24_000);
        counter.sub(23_999);
        assert_eq!(counter.get(), 1);
    }

    #[test]
    fn neighbouring_stacks_are_in_different_stripes() {
        for bytes in [2usize << 20, 8 << 20] {
            // As many as there are stripes, each behind a guard page.
            let stacks = (0..STRIPES).map(|index| 0x7fff_f7c0_0000 - index * (bytes + 4096));
            let stripes: BTreeSet<u8> = stacks
                .map(|stack| Stripe::of_stack(core::ptr::without_provenance(stack)).0)
                .collect();
            assert!(stripes.len() > STRIPES / 2, "{} stripes", stripes.len());
        }
    }

    #[test]
    fn a_part_is_taken_when_it_is_enough() {
        let counter = StripedCounter::new();
        let taken = [3, 3, 3, 3, 100, 3].map(|amount| counter.has_come_to(amount, 8));
        assert_eq!(taken, [false, false, true, false, true, false]);
    }
}
