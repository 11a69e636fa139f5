//! A stack of numbers that any thread may push on and pop from, through links that lie with what is
//! numbered.
//!
//! Each change of the top counts up a tag beside it, so that a thread which was slow to pop cannot
//! mistake a top that came back for one that stayed (Treiber's stack with a version, IBM System/370,
//! 1983). `tests/loom` plays it.

use crate::hold::Hold;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// What one step of the tag adds.
const TAG: u64 = 1 << 32;

/// What waits in the stack under a number.
pub(crate) trait Waiting {
    /// Its number, not 0.
    fn number(&self) -> u32;

    /// Its link in the stack.
    fn link(&self) -> &AtomicU32;

    /// Who may touch it: whoever popped it, or somebody who looks after it in the stack.
    fn hold(&self) -> &Hold;
}

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

    /// Takes what waits, with hold of it. `find` gives what a number stands for, and may be asked for one
    /// that another thread takes meanwhile.
    pub(crate) fn take<'heap, T: Waiting>(
        &self,
        find: impl Fn(u32) -> Option<&'heap T>,
    ) -> Option<&'heap T> {
        let first = self.pop(&find)?;
        if first.hold().take() {
            return Some(first);
        }
        // Somebody looks after this one: another will do.
        let second = self.pop(&find);
        self.push(first);
        let second = second?;
        if second.hold().take() {
            return Some(second);
        }
        self.push(second);
        None
    }

    fn pop<'heap, T: Waiting>(&self, find: impl Fn(u32) -> Option<&'heap T>) -> Option<&'heap T> {
        // `Acquire` pairs with `push`: all that the last owner did.
        let mut top = self.top.load(Ordering::Acquire);
        loop {
            let first = find(top as u32)?;
            let next = first.link().load(Ordering::Relaxed);
            let rest = (top & !(TAG - 1)).wrapping_add(TAG) | u64::from(next);
            match self.top.compare_exchange_weak(top, rest, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(first),
                Err(now) => top = now,
            }
        }
    }

    /// Puts back what the caller owns and has hold of.
    pub(crate) fn put(&self, waiting: &impl Waiting) {
        waiting.hold().let_go();
        self.push(waiting);
    }

    /// Pushes what the caller owns, whether it has hold of it or somebody else.
    pub(crate) fn push(&self, waiting: &impl Waiting) {
        let mut top = self.top.load(Ordering::Relaxed);
        loop {
            waiting.link().store(top as u32, Ordering::Relaxed);
            let new = (top & !(TAG - 1)).wrapping_add(TAG) | u64::from(waiting.number());
            match self.top.compare_exchange_weak(top, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }
}
