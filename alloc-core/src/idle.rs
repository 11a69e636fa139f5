//! A stack of numbers that any thread may push on and pop from, through links that lie with what is
//! numbered.
//!
//! Each change of the top counts up a tag beside it, so that a thread which was slow to pop cannot
//! mistake a top that came back for one that stayed (Treiber's stack with a version, IBM System/370,
//! 1983). `tests/loom` plays it.

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// What one step of the tag adds.
const TAG: u64 = 1 << 32;

/// The stack. Whoever pops a number owns what it stands for until it pushes it.
#[derive(Debug)]
pub(crate) struct Idle {
    /// The number on top in the low half, 0 for none; the tag in the high half.
    top: AtomicU64,
}

impl Idle {
    pub(crate) const fn new(top: AtomicU64) -> Self {
        Self { top }
    }

    /// The number on top now, 0 for none.
    pub(crate) fn top(&self) -> u32 {
        self.top.load(Ordering::Acquire) as u32
    }

    /// Pops a number. `find` gives what a number stands for, and `link` its link; both may be asked
    /// for a number that another thread pops meanwhile.
    pub(crate) fn pop<'link, T: Copy>(
        &self,
        find: impl Fn(u32) -> Option<T>,
        link: impl Fn(T) -> &'link AtomicU32,
    ) -> Option<T> {
        // `Acquire` pairs with `push`: all that the last owner did.
        let mut top = self.top.load(Ordering::Acquire);
        loop {
            let first = find(top as u32)?;
            let next = link(first).load(Ordering::Relaxed);
            let rest = (top & !(TAG - 1)).wrapping_add(TAG) | u64::from(next);
            match self.top.compare_exchange_weak(top, rest, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(first),
                Err(now) => top = now,
            }
        }
    }

    /// Pushes a number, not 0, that the caller owns, by its link.
    pub(crate) fn push(&self, number: u32, link: &AtomicU32) {
        let mut top = self.top.load(Ordering::Relaxed);
        loop {
            link.store(top as u32, Ordering::Relaxed);
            let new = (top & !(TAG - 1)).wrapping_add(TAG) | u64::from(number);
            match self.top.compare_exchange_weak(top, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }
}
